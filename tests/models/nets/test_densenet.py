"""DenseNet-BC, against the arithmetic of the paper's table 1 and against Keras's DenseNet-121."""

import keras
import numpy as np
import pytest
from counting import depth, multiply_accumulates, trainable_parameters
from weightless import shapes, whole_net

from tlkit.catalog import NETS
from tlkit.models.nets import densenet


def bn(channels):
    return 2 * channels


def blocks(channels, counts, growth):
    """Trainable parameters of dense blocks, transitions and the last BatchNorm, and the channels that come out."""
    total = 0
    for block, count in enumerate(counts, start=1):
        for _ in range(count):
            total += bn(channels) + channels * 4 * growth  # 1x1
            total += bn(4 * growth) + 3 * 3 * 4 * growth * growth  # 3x3
            channels += growth
        if block < len(counts):
            total += bn(channels) + channels * (channels // 2)
            channels //= 2
    return total + bn(channels), channels


def trainable(counts, growth):
    total, channels = blocks(2 * growth, counts, growth)
    return 7 * 7 * 3 * 2 * growth + bn(2 * growth) + total + channels * 1000 + 1000


CASES = {
    "densenet121_bc": ((6, 12, 24, 16), 32, 7_978_856),
    "densenet161_bc": ((6, 12, 36, 24), 48, 28_681_000),
    "densenet169_bc": ((6, 12, 32, 32), 32, 14_149_480),
    "densenet201_bc": ((6, 12, 48, 32), 32, 20_013_928),
}


@pytest.mark.parametrize("name", CASES)
def test_parameters_and_depth(name):
    counts, growth, known = CASES[name]
    model = whole_net(name)
    assert trainable_parameters(model) == trainable(counts, growth) == known
    assert model.count_params() == NETS[name].parameters
    assert model.get_layer("post_relu").output.shape[-1] == NETS[name].features == blocks(2 * growth, counts, growth)[1]
    assert depth(model) == int(name[8:11])


def test_shapes():
    model = whole_net("densenet121_bc")
    ends = ("conv1", "pool1", "block1_6", "transition1", "transition2", "transition3", "post_relu")
    assert shapes(model, ends) == [
        (112, 112, 64),
        (56, 56, 64),
        (56, 56, 64 + 6 * 32),
        (28, 28, 128),
        (14, 14, 256),
        (7, 7, 512),
        (7, 7, 1024),
    ]


def test_the_net_for_cifar():
    """Table 2: k = 12, L = 100, 0.8 million parameters."""
    model = whole_net("densenet100_bc_cifar")
    total, channels = blocks(24, (16, 16, 16), 12)
    assert trainable_parameters(model) == 3 * 3 * 3 * 24 + total + channels * 10 + 10
    assert trainable_parameters(model) / 1e6 == pytest.approx(0.8, abs=0.05)
    assert model.count_params() == NETS["densenet100_bc_cifar"].parameters
    assert depth(model) == 100
    ends = [(16, 16, 108), (8, 8, 150), (8, 8, 342)]  # (24 + 16 * 12) / 2, (108 + 16 * 12) / 2, 150 + 16 * 12
    assert shapes(model, ["transition1", "transition2", "post_relu"]) == ends
    assert multiply_accumulates(model) < 0.3e9


def test_other_depths_are_refused():
    with pytest.raises(ValueError, match=r"must be 6n \+ 4.* Received: depth=101"):
        densenet.cifar(keras.Input((32, 32, 3)), 101, 12)


def test_densenet121_is_keras_densenet121():
    """The same variables in the same order, and with the same values the same logits; the epsilons differ by 1e-8."""
    theirs = keras.applications.DenseNet121(weights=None, input_shape=(64, 64, 3), classifier_activation=None)
    image = keras.Input((64, 64, 3))
    ours = keras.Model(image, densenet.top(densenet.densenet121_bc(image), {"label": 1000})["label"])
    assert theirs.count_params() == ours.count_params() == NETS["densenet121_bc"].parameters
    assert [weight.shape for weight in theirs.weights] == [weight.shape for weight in ours.weights]
    random = np.random.default_rng(0)
    values = [
        value + random.uniform(0, 0.3, value.shape) if value.ndim == 1 else value for value in theirs.get_weights()
    ]
    theirs.set_weights(values)
    ours.set_weights(values)
    x = random.normal(size=(2, 64, 64, 3)).astype("float32")
    expected = np.asarray(theirs(x, training=False))
    np.testing.assert_allclose(ours(x, training=False), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
