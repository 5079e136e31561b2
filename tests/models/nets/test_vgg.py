"""VGG's table 1, its counts, and Keras's own VGG-16 and VGG-19 as an independent route."""

import keras
import numpy as np
import pytest
from keras import layers
from weightless import parameters_by_layer, shapes, weightless, whole_net

from tlkit.models.nets import vgg

# 3x3 weights and biases of each convolution, and the dense layers that all have.
CONV = {
    ("3", "64"): 3 * 3 * 3 * 64 + 64,
    ("64", "64"): 3 * 3 * 64 * 64 + 64,
    ("64", "128"): 3 * 3 * 64 * 128 + 128,
    ("128", "128"): 3 * 3 * 128 * 128 + 128,
    ("128", "256"): 3 * 3 * 128 * 256 + 256,
    ("256", "256"): 3 * 3 * 256 * 256 + 256,
    ("256", "512"): 3 * 3 * 256 * 512 + 512,
    ("512", "512"): 3 * 3 * 512 * 512 + 512,
}
DENSE = (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)
A = (
    CONV["3", "64"]
    + CONV["64", "128"]
    + (CONV["128", "256"] + CONV["256", "256"])
    + (CONV["256", "512"] + CONV["512", "512"])
    + (CONV["512", "512"] + CONV["512", "512"])
    + DENSE
)
B = A + CONV["64", "64"] + CONV["128", "128"]
C = B + (256 * 256 + 256) + 2 * (512 * 512 + 512)  # three 1x1 convolutions
D = B + CONV["256", "256"] + 2 * CONV["512", "512"]
E = D + CONV["256", "256"] + 2 * CONV["512", "512"]
CHANNELS = {
    "a": 64 + 128 + 2 * (256 + 512 + 512),
    "b": 2 * (64 + 128 + 256 + 512 + 512),
    "c": 2 * (64 + 128) + 3 * (256 + 512 + 512),
    "d": 2 * (64 + 128) + 3 * (256 + 512 + 512),
    "e": 2 * (64 + 128) + 4 * (256 + 512 + 512),
}


@pytest.mark.parametrize(
    ("name", "total", "exact", "millions"),
    [
        ("vgg_a", A, 132_863_336, 133),
        ("vgg_a_lrn", A, 132_863_336, 133),
        ("vgg_b", B, 133_047_848, 133),
        ("vgg_c", C, 133_638_952, 134),
        ("vgg_d", D, 138_357_544, 138),
        ("vgg_e", E, 143_667_240, 144),
    ],
)
def test_parameters(name, total, exact, millions):
    """Table 2 of the paper gives millions."""
    assert whole_net(name).count_params() == total == exact
    assert round(exact / 1e6) == millions


@pytest.mark.parametrize(
    ("option", "published"),
    [("a", 132_868_840), ("b", 133_053_736), ("d", 138_365_992), ("e", 143_678_248), ("c", None)],
)
def test_parameters_with_batch_norm(option, published):
    """Each channel: no bias, but a scale and a shift that train, and a mean and a variance that do not.

    Published are torchvision's, which keep the biases that batch normalization makes useless.
    """
    plain, model = whole_net(f"vgg_{option}"), whole_net(f"vgg_{option}_bn")
    channels = CHANNELS[option]
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trained == plain.count_params() + (2 - 1) * channels
    assert model.count_params() == trained + 2 * channels
    if published:
        assert trained == published - channels


@pytest.mark.parametrize(
    ("name", "expected"), [("a", 11), ("a_lrn", 11), ("b", 13), ("c", 16), ("d", 16), ("e", 19), ("d_bn", 16)]
)
def test_layers_with_weights_and_shapes(name, expected):
    model = whole_net(f"vgg_{name}")
    kernels = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.Dense)]
    assert len(kernels) == expected
    names = [f"block{block}_pool" for block in range(1, 6)]
    assert shapes(model, names) == [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512)]
    assert {layer.kernel_size for layer in kernels[:-3]} == ({(3, 3), (1, 1)} if name == "c" else {(3, 3)})


def test_the_lectures_rows_of_vgg_16():
    """Weights, not counting biases, of the notes' table."""
    weights = [int(np.prod(layer.kernel.shape)) for layer in whole_net("vgg_d").layers if hasattr(layer, "kernel")]
    assert weights == [
        *(1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, 2_359_296, 2_359_296),
        *(2_359_296, 2_359_296, 2_359_296, 102_760_448, 16_777_216, 4_096_000),
    ]


def test_a_lrn_normalizes_once_after_its_first_convolution():
    names = [operation.name for operation in whole_net("vgg_a_lrn").operations]
    assert names.index("block1_conv1") < names.index("block1_norm1") < names.index("block1_pool")
    assert sum("norm" in name for name in names) == 1


def test_batch_norm_stands_between_convolution_and_relu():
    model = whole_net("vgg_b_bn")
    assert model.get_layer("block3_conv2_norm").input is model.get_layer("block3_conv2").output
    assert model.get_layer("block3_conv2_relu").input is model.get_layer("block3_conv2_norm").output
    assert not model.get_layer("block3_conv2").use_bias


KERAS = [("vgg_d", keras.applications.VGG16), ("vgg_e", keras.applications.VGG19)]


@pytest.mark.parametrize(("name", "builder"), KERAS, ids=["VGG16", "VGG19"])
def test_kerass_own_has_as_many_parameters_in_every_layer(name, builder):
    with weightless():
        theirs = builder(weights=None)
    ours = parameters_by_layer(whole_net(name))
    assert list(ours.values()) == list(parameters_by_layer(theirs).values())


@pytest.mark.parametrize(("name", "builder"), KERAS, ids=["VGG16", "VGG19"])
def test_kerass_own_with_the_same_weights_computes_the_same(name, builder):
    keras.utils.set_random_seed(0)
    theirs = builder(weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None)
    image = keras.Input((32, 32, 3))
    logits = vgg.top(getattr(vgg, name)(image), {"label": 10})["label"]
    ours = keras.Model(image, logits)
    ours.set_weights(theirs.get_weights())
    images = np.random.default_rng(0).normal(0, 60, (4, 32, 32, 3)).astype("float32")
    expected = np.asarray(theirs(images, training=False))
    assert expected.std() > 0
    np.testing.assert_allclose(ours(images, training=False), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
