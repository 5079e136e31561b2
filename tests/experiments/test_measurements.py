"""What the experiments that train nothing measure, against arithmetic."""

import numpy as np
import pytest

from tlkit.experiments import initialization, receptive_field, translation


@pytest.mark.parametrize(
    ("scheme", "factor"), [("N(0, 0.01)", 0.01 * 128**0.5), ("Glorot", 0.5**0.5), ("He", 1.0)], ids=str
)
def test_a_layer_multiplies_activations_as_he_computed(scheme, factor):
    """The mean square by inputs times the weights' variance, halved by ReLU."""
    first, *_, last = initialization.measure_net(scheme, False, 0)["activations"]
    assert (last / first) ** (1 / (initialization.DEPTH - 1)) == pytest.approx(factor, rel=0.03)


def test_normalized_layers_have_the_spread_of_half_a_normal():
    """ReLU of a standard normal number: variance 1/2 - 1 / (2 pi)."""
    found = initialization.measure_net("He", True, 0)
    assert found["activations"] == pytest.approx([(1 / 2 - 1 / (2 * np.pi)) ** 0.5] * initialization.DEPTH, rel=0.1)
    assert len(found["gradients"]) == initialization.DEPTH


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_stacks_see_two_pixels_more_with_every_convolution(depth):
    found = receptive_field.measure_stack(depth, 0, images=2)
    assert found["theoretical"] == found["support"] == 2 * depth + 1
    assert 0 < found["effective"] <= 2 * depth + 1
    middle = np.array(found["map"])
    assert middle.shape == (receptive_field.MAP_SIDE, receptive_field.MAP_SIDE)
    assert np.count_nonzero(middle) == (2 * depth + 1) ** 2


def test_a_block_sees_no_more_than_arithmetic_allows():
    """VGG's first block: two convolutions and a pool, 3 + 2 + 1."""
    found = receptive_field.measure_block("vgg_a", "block1_pool", 0, images=1)
    assert found["theoretical"] == 3 + 1  # configuration A has one convolution there
    assert found["support"] <= 4


def test_pooling_by_hand():
    features = np.arange(16.0).reshape(1, 4, 4, 1)
    assert translation.pool(features, "max 2x2")[0, ..., 0].tolist() == [[5, 7], [13, 15]]
    assert translation.pool(features, "average 4x4").item() == 7.5
    assert translation.pool(features, "global max").item() == 15


def test_convolution_moves_along_and_pooling_is_partly_invariant(digits):
    images = np.load(digits)["x_test"]
    found = translation.measure_features(images, 0)
    assert max(found["equivariance"]["1"]) < 1e-6
    even = [shift % 2 == 0 for shift in translation.SHIFTS]
    strided = np.array(found["equivariance"]["2"])
    assert strided[even].max() < 1e-6 < 0.05 < strided[np.invert(even)].min()
    assert max(found["changed"]["global max"]) < 1e-6
    by_one = {name: values[1] for name, values in found["unchanged"].items()}
    assert by_one["none"] < by_one["max 2x2"] < by_one["max 4x4"] < by_one["global max"] == 1
