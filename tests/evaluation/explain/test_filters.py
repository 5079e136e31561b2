"""The first layer's filters as pictures."""

import keras
import numpy as np
import pytest

from tlkit.errors import TlkitError
from tlkit.evaluation.explain.filters import as_pictures, first_filters, strongest_first, tile


def net(flip):
    image = x = keras.Input((8, 8, 3))
    if flip:
        x = keras.ops.flip(x, axis=-1)
    return keras.Model(image, keras.layers.Conv2D(2, 3, name="first")(x))


@pytest.mark.parametrize("flip", [False, True])
def test_filters_are_shown_as_they_act_on_red_green_and_blue(flip):
    model = net(flip)
    kernel = np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2)
    model.get_layer("first").set_weights([kernel, np.zeros(2)])
    name, found = first_filters(model)
    red = kernel[1, 2, 2 if flip else 0, 1]  # blue comes first behind a flip
    assert name == "first"
    assert found.shape == (2, 3, 3, 3)
    assert found[1, 1, 2, 0] == red


def test_each_filter_by_its_own_largest_weight_and_grey_is_zero():
    kernels = np.zeros((3, 1, 2, 3), np.float32)
    kernels[0, 0, 0] = [4, -4, 2]
    kernels[1, 0, 1] = [0, 0.001, 0]
    pictures = as_pictures(kernels)
    np.testing.assert_allclose(pictures[0, 0], [[1, 0, 0.75], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(pictures[1, 0], [[0.5, 0.5, 0.5], [0.5, 1, 0.5]])
    assert (pictures[2] == 0.5).all()
    order, lengths = strongest_first(kernels)
    assert order.tolist() == [0, 1, 2]
    np.testing.assert_allclose(lengths, [6, 0.001, 0])


def test_tiles():
    sheet = tile(np.zeros((3, 2, 2, 3)), columns=2, gap=1)
    assert sheet.shape == (7, 7, 3)
    assert (sheet[[0, 3, 6]] == 1).all()
    assert sheet[1:3, 1:3].max() == sheet[4:6, 1:3].max() == 0
    assert (sheet[4:6, 4:6] == 1).all()  # the place of a fourth


def test_a_net_that_begins_otherwise_has_none():
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(keras.layers.Concatenate()([image, image])))
    with pytest.raises(TlkitError, match="does not begin with a convolution"):
        first_filters(model)
