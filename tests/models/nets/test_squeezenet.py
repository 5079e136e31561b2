"""SqueezeNet 1.1, fire module by fire module."""

import keras
import numpy as np
from weightless import parameters_by_layer, shapes, whole_net

from tlkit.models.nets import squeezenet


def fire(channels, squeezed, expanded):
    """Count a fire module's parameters."""
    return (
        (channels * squeezed + squeezed) + (squeezed * expanded + expanded) + (3 * 3 * squeezed * expanded + expanded)
    )


def test_parameters():
    """The published count of version 1.1; AlexNet has fifty times as many."""
    counts = parameters_by_layer(whole_net("squeezenet1_1"))
    modules = {
        "fire2": fire(64, 16, 64),
        "fire3": fire(128, 16, 64),
        "fire4": fire(128, 32, 128),
        "fire5": fire(256, 32, 128),
        "fire6": fire(256, 48, 192),
        "fire7": fire(384, 48, 192),
        "fire8": fire(384, 64, 256),
        "fire9": fire(512, 64, 256),
    }
    for name, expected in modules.items():
        assert sum(count for layer, count in counts.items() if layer.startswith(name)) == expected
    conv1, conv10 = 3 * 3 * 3 * 64 + 64, 512 * 1000 + 1000
    assert sum(counts.values()) == conv1 + sum(modules.values()) + conv10 == 1_235_496
    assert 50 < 62_378_344 / 1_235_496 < 51


def test_layer_table():
    names = ["conv1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5", "fire6", "fire7", "fire8", "fire9"]
    assert shapes(whole_net("squeezenet1_1"), [*names, "label_conv10", "label_logits"]) == [
        (111, 111, 64),  # (224 - 3) / 2 + 1, rounded down
        (55, 55, 64),
        (55, 55, 128),
        (55, 55, 128),
        (27, 27, 128),
        (27, 27, 256),
        (27, 27, 256),
        (13, 13, 256),
        (13, 13, 384),
        (13, 13, 384),
        (13, 13, 512),
        (13, 13, 512),
        (13, 13, 1000),
        (1000,),
    ]


def test_logits_are_averages_of_rectified_maps():
    features = keras.Input((2, 2, 512))
    model = keras.Model(features, squeezenet.top(features, {"label": 6})["label"])
    rows = np.random.default_rng(0).normal(size=(3, 2, 2, 512)).astype("float32")
    kernel, bias = model.get_layer("label_conv10").get_weights()
    maps = np.maximum(rows @ kernel[0, 0] + bias, 0)
    np.testing.assert_allclose(model(rows), maps.mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)
