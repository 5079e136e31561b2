"""The exercise of the lecture notes: 64 x 64 -> 256 -> 128 -> 64 -> 16."""

import keras
from weightless import parameters_by_layer, shapes, whole_net

from tlkit.models.nets.fully_connected import fully_connected


def test_how_many_parameters_has_it():
    counts = parameters_by_layer(whole_net("fully_connected"))
    assert counts == {
        "fc1": 64 * 64 * 256 + 256,
        "fc2": 256 * 128 + 128,
        "fc3": 128 * 64 + 64,
        "label_logits": 64 * 16 + 16,
    }
    assert sum(counts.values()) == 1_048_832 + 32_896 + 8_256 + 1_040 == 1_091_024


def test_its_vectors_are_maps_of_one_pixel():
    ends = shapes(whole_net("fully_connected"), ["pixels", "fc1", "fc2", "fc3", "label_logits"])
    assert ends == [(1, 1, 4096), (1, 1, 256), (1, 1, 128), (1, 1, 64), (16,)]


def test_any_widths():
    """The notes' other figure: from 64 x 64 pixels to 128 units, 524,288 weights in the first layer alone."""
    image = keras.Input((64, 64, 1))
    model = keras.Model(image, fully_connected(image, widths=(128,), activation="sigmoid"))
    assert model.output_shape == (None, 1, 1, 128)
    assert model.count_params() == 64 * 64 * 128 + 128 == 524_288 + 128
    assert model.get_layer("fc1").activation is keras.activations.sigmoid
