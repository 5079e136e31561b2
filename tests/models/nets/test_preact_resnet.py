"""Residual nets with pre-activation, against the arithmetic and the paper's table 4."""

import keras
import numpy as np
import pytest
from counting import depth, trainable_parameters
from weightless import shapes, whole_net

from tlkit.catalog import NETS
from tlkit.models.nets import preact_resnet


def bn(channels):
    return 2 * channels


def basic_nets(n):
    """Trainable parameters of depth 6n + 2: BatchNorm sits elsewhere than in the nets of 2015, and counts as much."""
    first = 3 * 3 * 3 * 16 + bn(16)
    at_32 = 2 * n * 3 * 3 * 16 * 16 + (2 * n - 1) * bn(16)  # the first unit's input is activated already
    at_16 = 3 * 3 * 16 * 32 + bn(16) + (2 * n - 1) * (3 * 3 * 32 * 32 + bn(32))
    at_8 = 3 * 3 * 32 * 64 + bn(32) + (2 * n - 1) * (3 * 3 * 64 * 64 + bn(64))
    return first + at_32 + at_16 + at_8 + bn(64) + 64 * 10 + 10


def bottlenecks(first, counts, widths):
    """Of the units: 1x1, 3x3 and 1x1 convolutions, BatchNorm before each, projections without BatchNorm.

    The very first unit's input is activated already.
    """
    total, inputs = -bn(first), first
    for count, width in zip(counts, widths, strict=True):
        for number in range(count):
            total += bn(inputs) + inputs * width + bn(width) + 3 * 3 * width * width + bn(width) + width * 4 * width
            total += inputs * 4 * width if number == 0 else 0
            inputs = 4 * width
    return total


SUMS = {
    "preact_resnet20_cifar": basic_nets(3),
    "preact_resnet56_cifar": basic_nets(9),
    "preact_resnet110_cifar": basic_nets(18),
    "preact_resnet164_cifar": (
        3 * 3 * 3 * 16 + bn(16) + bottlenecks(16, (18, 18, 18), (16, 32, 64)) + bn(256) + 256 * 10 + 10
    ),
    "preact_resnet50": (
        7 * 7 * 3 * 64 + bn(64) + bottlenecks(64, (3, 4, 6, 3), (64, 128, 256, 512)) + bn(2048) + (2048 * 1000 + 1000)
    ),
}
MILLIONS = {"preact_resnet110_cifar": 1.7, "preact_resnet164_cifar": 1.7}  # table 4 and section 3.1


@pytest.mark.parametrize("name", SUMS)
def test_parameters_and_depth(name):
    model = whole_net(name)
    assert trainable_parameters(model) == SUMS[name]
    assert model.count_params() == NETS[name].parameters
    assert depth(model) == int("".join(filter(str.isdigit, name)))
    if name in MILLIONS:
        assert SUMS[name] / 1e6 == pytest.approx(MILLIONS[name], abs=0.05)


def test_shapes():
    ends = ("pool1", "conv2_3", "conv3_4", "conv4_6", "conv5_3", "post_relu")
    expected = [(56, 56, 64), (56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048), (7, 7, 2048)]
    assert shapes(whole_net("preact_resnet50"), ends) == expected
    expected = [(32, 32, 64), (16, 16, 128), (8, 8, 256)]
    assert shapes(whole_net("preact_resnet164_cifar"), ["conv2_18", "conv3_18", "post_relu"]) == expected


@pytest.mark.parametrize("unit", [preact_resnet.basic, preact_resnet.bottleneck])
def test_nothing_stands_in_the_way_of_the_identity(unit):
    """A unit that has learned to add nothing passes everything on, what is below zero, too."""
    image = keras.Input((4, 4, 8))
    filters = 8 if unit is preact_resnet.basic else 2
    model = keras.Model(image, unit(image, filters, 1, False, "unit"))
    last = model.get_layer("unit_conv2" if unit is preact_resnet.basic else "unit_conv3")
    last.set_weights([np.zeros(last.kernel.shape)])
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype("float32")
    np.testing.assert_array_equal(model(x), x)
