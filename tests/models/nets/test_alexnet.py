"""AlexNet's layer table, its two counts, and what its towers know of each other."""

import keras
import numpy as np
import pytest
from weightless import parameters_by_layer, shapes, whole_net

from tlkit.models.assemble import assemble
from tlkit.models.backbones import build_backbone, original_head
from tlkit.tasks import Task

LAYERS = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "label_logits"]
TABLE = [
    (55, 55, 96),  # (227 - 11) / 4 + 1
    (27, 27, 96),  # (55 - 3) / 2 + 1
    (27, 27, 256),
    (13, 13, 256),  # (27 - 3) / 2 + 1
    (13, 13, 384),
    (13, 13, 384),
    (13, 13, 256),
    (6, 6, 256),  # (13 - 3) / 2 + 1
    (4096,),
    (4096,),
    (1000,),
]
DENSE = {
    "fc6": 6 * 6 * 256 * 4096 + 4096,
    "fc7": 4096 * 4096 + 4096,
    "label_logits": 4096 * 1000 + 1000,
}


@pytest.mark.parametrize("image_size", [227, 224])
@pytest.mark.parametrize("name", ["alexnet", "alexnet_two_towers"])
def test_layer_table(name, image_size):
    """224, which is the paper's word, and 227, which its arithmetic needs, give the same maps and parameters."""
    model = whole_net(name, image_size)
    assert shapes(model, LAYERS) == TABLE
    assert model.count_params() == whole_net(name).count_params()


def test_parameters_of_the_single_tower():
    counts = parameters_by_layer(whole_net("alexnet"))
    assert counts == {
        "conv1": 11 * 11 * 3 * 96 + 96,
        "conv2": 5 * 5 * 96 * 256 + 256,
        "conv3": 3 * 3 * 256 * 384 + 384,
        "conv4": 3 * 3 * 384 * 384 + 384,
        "conv5": 3 * 3 * 384 * 256 + 256,
        **DENSE,
    }
    expected = 34_944 + 614_656 + 885_120 + 1_327_488 + 884_992 + 37_752_832 + 16_781_312 + 4_097_000
    assert sum(counts.values()) == expected == 62_378_344


def test_parameters_of_two_towers():
    """Conv2, conv4 and conv5 see half of the maps; the paper says 60 million."""
    counts = parameters_by_layer(whole_net("alexnet_two_towers"))
    half = {
        "conv2": 5 * 5 * 48 * 128 + 128,
        "conv4": 3 * 3 * 192 * 192 + 192,
        "conv5": 3 * 3 * 192 * 128 + 128,
    }
    assert counts == {
        "conv1": 11 * 11 * 3 * 96 + 96,
        "conv3": 3 * 3 * 256 * 384 + 384,
        **{f"{name}_{tower}": count for name, count in half.items() for tower in (1, 2)},
        **DENSE,
    }
    saved = 5 * 5 * 48 * 256 + 3 * 3 * 192 * 384 + 3 * 3 * 192 * 256  # weights from the other tower
    assert sum(counts.values()) == 62_378_344 - saved == 60_965_224


def test_neurons():
    """The paper counts 253,440 in the first layer, which is 55 x 48 x 96; of 55 x 55 x 96 there are 290,400."""
    neurons = [int(np.prod(shape)) for shape in shapes(whole_net("alexnet"), [n for n in LAYERS if "pool" not in n])]
    assert neurons == [55 * 55 * 96, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert neurons[0] == 290_400 == 253_440 + 55 * 7 * 96


def test_towers_know_of_each_other_only_at_conv3():
    import tensorflow as tf

    model = build_backbone("alexnet_two_towers", weights="none", image_size=67)
    random = np.random.default_rng(0)

    def depends(start, end):
        """Tell which half of the maps at `end` depends on which half of those at `start`."""
        part = keras.Model(model.get_layer(start).output, model.get_layer(end).output)
        x = tf.constant(random.uniform(0, 100, (1, *part.input_shape[1:])).astype("float32"))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            halves = [tf.reduce_sum(half) for half in tf.split(part(x), 2, axis=-1)]
        return [[bool(np.any(part)) for part in np.split(np.asarray(tape.gradient(h, x)), 2, -1)] for h in halves]

    apart, together = [[True, False], [False, True]], [[True, True], [True, True]]
    assert depends("conv1", "conv2") == apart  # normalization and pooling included
    assert depends("conv2", "pool2") == apart
    assert depends("pool2", "conv3") == together
    assert depends("conv3", "pool5") == apart


@pytest.mark.parametrize("name", ["alexnet", "alexnet_two_towers"])
def test_how_weights_begin(name):
    """Section 5: weights N(0, 0.01), biases 1 in conv2, conv4, conv5 and the hidden dense layers, else 0."""
    tasks = {"label": Task("single_label", ("ant", "bee", "cat"))}
    model = assemble(build_backbone(name, weights="none", image_size=67), original_head(name, tasks), tasks)
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    for layer in model.layers:
        if layer.weights and layer.name != "scaling":
            kernel, bias = layer.get_weights()
            np.testing.assert_allclose(bias, 1 if layer.name.startswith(ones) else 0)
            assert abs(kernel.std() - 0.01) < 0.001, layer.name
            assert abs(kernel.mean()) < 0.001, layer.name


@pytest.mark.parametrize("name", ["alexnet", "alexnet_two_towers"])
def test_half_of_the_hidden_units_drop_out(name):
    model = whole_net(name)
    assert [model.get_layer(f"{hidden}_dropout").rate for hidden in ("fc6", "fc7")] == [0.5, 0.5]
