"""ZFNet as figure 3 draws it."""

import keras
from weightless import parameters_by_layer, shapes, whole_net

from tlkit.models.nets.zfnet import zfnet


def test_layer_table():
    model = whole_net("zfnet")
    names = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "label_logits"]
    assert shapes(model, names) == [
        (110, 110, 96),  # (224 + 2 - 7) / 2 + 1, rounded down
        (55, 55, 96),  # (110 - 3) / 2 + 1, rounded up
        (26, 26, 256),  # (55 - 5) / 2 + 1
        (13, 13, 256),  # (26 - 3) / 2 + 1, rounded up
        (13, 13, 384),
        (13, 13, 384),
        (13, 13, 256),
        (6, 6, 256),  # (13 - 3) / 2 + 1
        (4096,),
        (4096,),
        (1000,),
    ]
    assert model.get_layer("conv1").kernel.shape == (7, 7, 3, 96)


def test_parameters():
    """AlexNet's single tower with a first kernel of 7 instead of 11."""
    counts = parameters_by_layer(whole_net("zfnet"))
    assert counts["conv1"] == 7 * 7 * 3 * 96 + 96 == 14_208
    assert sum(counts.values()) == 62_378_344 - (11 * 11 - 7 * 7) * 3 * 96 == 62_357_608


def test_the_larger_net():
    """The lecture notes' ZFNet: 512, 1024, 512 instead of 384, 384, 256."""
    image = keras.Input((47, 47, 3))
    model = keras.Model(image, zfnet(image, filters=(512, 1024, 512)))
    assert model.output_shape == (None, 1, 1, 512)
    counts = [model.get_layer(f"conv{number}").count_params() for number in (3, 4, 5)]
    assert counts == [3 * 3 * 256 * 512 + 512, 3 * 3 * 512 * 1024 + 1024, 3 * 3 * 1024 * 512 + 512]
