"""ResNeXt, against the paper's table 1, and grouped convolution against Keras's."""

import keras
import numpy as np
import pytest
from counting import depth, multiply_accumulates, trainable_parameters
from keras import layers
from weightless import shapes, whole_net

from tlkit.catalog import NETS
from tlkit.models.nets.parts import grouped_convolution


def bn(channels):
    return 2 * channels


def unit(inputs, inside, outputs):
    """1x1, 3x3 in 32 groups that each see a 32nd of the channels, 1x1; BatchNorm's scale and offset after each."""
    grouped = 32 * (3 * 3 * (inside // 32) * (inside // 32))
    return inputs * inside + bn(inside) + grouped + bn(inside) + inside * outputs + bn(outputs)


def trainable(counts):
    total, inputs = 7 * 7 * 3 * 64 + bn(64), 64
    for count, inside, outputs in zip(counts, (128, 256, 512, 1024), (256, 512, 1024, 2048), strict=True):
        total += unit(inputs, inside, outputs) + (count - 1) * unit(outputs, inside, outputs)
        total += inputs * outputs + bn(outputs)  # the projection
        inputs = outputs
    return total + 2048 * 1000 + 1000


def test_parameters_operations_and_shapes_of_50_layers():
    """Table 1: 25.0 million parameters, 4.2 billion multiply-adds; the split convolutions sum up to 4.23."""
    model = whole_net("resnext50")
    assert trainable_parameters(model) == trainable((3, 4, 6, 3)) == 25_028_904
    assert model.count_params() == NETS["resnext50"].parameters
    assert multiply_accumulates(model) == pytest.approx(4.2e9, abs=0.05e9)
    assert depth(model) == 50 + 16 * 31  # each 3x3 convolution is 32
    ends = [(56, 56, 64), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]
    assert shapes(model, ["pool1", "conv2_3", "conv3_4", "conv4_6", "conv5_3"]) == ends
    inside = [(56, 56, 256), (28, 28, 256), (28, 28, 512)]  # the 3x3 halves the sides
    assert shapes(model, ["conv3_1_conv1", "conv3_1_conv2", "conv3_1_conv3"]) == inside


def test_parameters_of_101_layers():
    model = whole_net("resnext101")
    assert trainable_parameters(model) == trainable((3, 4, 23, 3)) == 44_177_704
    assert model.count_params() == NETS["resnext101"].parameters


@pytest.mark.parametrize("settings", [{"padding": "same", "use_bias": False}, {"strides": 2, "padding": "valid"}])
def test_a_grouped_convolution_is_keras_own_given_the_same_weights(settings):
    image = keras.Input((7, 7, 12))
    split = keras.Model(image, grouped_convolution(image, 24, 3, groups=4, name="conv", **settings))
    whole = keras.Model(image, layers.Conv2D(24, 3, groups=4, **settings)(image))
    random = np.random.default_rng(0)
    weights = [random.normal(size=weight.shape) for weight in whole.weights]
    whole.set_weights(weights)
    for group in range(4):
        split.get_layer(f"conv_{group + 1}").set_weights([part[..., 6 * group : 6 * group + 6] for part in weights])
    x = random.normal(size=(2, 7, 7, 12)).astype("float32")
    assert split.count_params() == whole.count_params()
    np.testing.assert_allclose(split(x), whole(x), rtol=0, atol=1e-5)
