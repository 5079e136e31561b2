"""GoogLeNet, against the paper's table 1."""

import keras
import numpy as np
import pytest
from counting import multiply_accumulates, trainable_parameters
from keras import layers, ops
from weightless import shapes, whole_net

from tlkit.catalog import NETS
from tlkit.models.backbones import build_classifier
from tlkit.models.nets import googlenet

# Table 1: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection; and the column of parameters, in thousands.
TABLE_1 = {
    "3a": (64, 96, 128, 16, 32, 32, 159),
    "3b": (128, 128, 192, 32, 96, 64, 380),
    "4a": (192, 96, 208, 16, 48, 64, 364),
    "4b": (160, 112, 224, 24, 64, 64, 437),
    "4c": (128, 128, 256, 24, 64, 64, 463),
    "4d": (112, 144, 288, 32, 64, 64, 580),
    "4e": (256, 160, 320, 32, 128, 128, 840),
    "5a": (256, 160, 320, 32, 128, 128, 1072),
    "5b": (384, 192, 384, 48, 128, 128, 1388),
}


def conv(size, inputs, filters):
    return size * size * inputs * filters + filters  # a bias per filter


def module(inputs, ones, threes_reduce, threes, fives_reduce, fives, pooled):
    return (
        conv(1, inputs, ones)
        + conv(1, inputs, threes_reduce)
        + conv(3, threes_reduce, threes)
        + conv(1, inputs, fives_reduce)
        + conv(5, fives_reduce, fives)
        + conv(1, inputs, pooled)
    )


def naive_module(inputs, ones, _threes_reduce, threes, _fives_reduce, fives, _pooled):
    return conv(1, inputs, ones) + conv(3, inputs, threes) + conv(5, inputs, fives)


def modules():
    """Yield `(name, inputs, widths, thousands)`: each module's maps are what the next one sees."""
    inputs = 192
    for name, (*widths, thousands) in TABLE_1.items():
        yield name, inputs, widths, thousands
        ones, _, threes, _, fives, pooled = widths
        inputs = ones + threes + fives + pooled


CONV1 = conv(7, 3, 64)
CONV2 = conv(1, 64, 64) + conv(3, 64, 192)
TOTAL = CONV1 + CONV2 + sum(module(inputs, *widths) for _, inputs, widths, _ in modules()) + 1024 * 1000 + 1000


def test_parameters_and_operations():
    """Without auxiliary classifiers. The paper's 1.5 billion multiply-adds are what table 1's rows come to."""
    model = whole_net("googlenet")
    assert model.count_params() == trainable_parameters(model) == TOTAL == 6_998_552 == NETS["googlenet"].parameters
    assert multiply_accumulates(model) == pytest.approx(1.5e9, rel=0.06)


def test_the_papers_column_of_parameters():
    """In units of 1,024 it agrees with the arithmetic to 1 % in half of the rows, and to 8 % in all modules.

    4c is 498 thousand where the table says 463, and conv1 9.2 where it says 2.7. All rows of the table add up to 6.8
    million, the arithmetic to 7.0.
    """
    differences = [abs(module(inputs, *widths) / 1024 / thousands - 1) for _, inputs, widths, thousands in modules()]
    assert sum(difference < 0.011 for difference in differences) >= 4
    assert max(differences) < 0.08
    assert conv(1, 64, 64) + conv(3, 64, 192) - 64 - 192 == 112 * 1024
    assert 2.7 + 112 + sum(thousands for *_, thousands in TABLE_1.values()) + 1000 == pytest.approx(6_797.7)


def test_shapes():
    model = whole_net("googlenet")
    assert shapes(model, ["conv1", "pool1", "norm1", "conv2_reduce", "conv2", "norm2", "pool2"]) == [
        (112, 112, 64),
        (56, 56, 64),
        (56, 56, 64),
        (56, 56, 64),
        (56, 56, 192),
        (56, 56, 192),
        (28, 28, 192),
    ]
    sides = {"3": 28, "4": 14, "5": 7}
    for name, (ones, _, threes, _, fives, pooled, _) in TABLE_1.items():
        expected = (sides[name[0]], sides[name[0]], ones + threes + fives + pooled)
        assert shapes(model, [f"inception_{name}"]) == [expected]


def test_it_has_nine_modules_is_22_layers_deep_and_has_no_hidden_dense_layer():
    model = whole_net("googlenet")
    assert sum(isinstance(layer, layers.Concatenate) for layer in model.layers) == 9
    assert longest_path(model) == 22
    assert [layer.name for layer in model.layers if isinstance(layer, layers.Dense)] == ["label_logits"]
    assert model.get_layer("avg_pool").output.shape == (None, 1024)
    assert model.get_layer("avg_pool_dropout").rate == 0.4


def longest_path(model):
    """Return the most layers with weights that stand one after the other."""
    depths = {}
    for operation in model.operations:
        inputs = [] if isinstance(operation, layers.InputLayer) else operation.input
        inputs = inputs if isinstance(inputs, list) else [inputs]
        weighty = isinstance(operation, layers.Conv2D | layers.Dense)
        depths[id(operation.output)] = weighty + max((depths[id(tensor)] for tensor in inputs), default=0)
    return depths[id(model.output)]


def test_naive_modules_add_up_their_maps():
    """Pooling passes on all maps that came, so each module is wider than the one before: up to 4,944 maps."""
    total, inputs = CONV1 + CONV2, 192
    for ones, three_reduce, threes, five_reduce, fives, pooled, _ in TABLE_1.values():
        total += naive_module(inputs, ones, three_reduce, threes, five_reduce, fives, pooled)
        inputs += ones + threes + fives
    total += inputs * 1000 + 1000
    model = whole_net("googlenet_naive")
    assert inputs == NETS["googlenet_naive"].features == 4944
    assert model.count_params() == total == NETS["googlenet_naive"].parameters
    assert total > 13 * TOTAL
    assert shapes(model, ["inception_3a", "inception_5b"]) == [(28, 28, 192 + 64 + 128 + 32), (7, 7, 4944)]


def test_batch_norm_replaces_biases_and_local_normalization():
    """Scale and offset in place of a bias add one trainable value per filter, the moving averages two more."""
    filters = 64 + 64 + 192 + sum(sum(widths) for _, _, widths, _ in modules())
    model = whole_net("googlenet_bn")
    assert trainable_parameters(model) == TOTAL + filters
    assert model.count_params() == TOTAL + 3 * filters == NETS["googlenet_bn"].parameters


def test_auxiliary_classifiers():
    """Each: 5x5 pooling of stride 3, 128 maps of 1x1 convolution, 1,024 units, the logits, as section 5 has them."""
    model = whole_net("googlenet")
    outputs = {"label": 1000, "colour": 3}
    auxiliaries = googlenet.auxiliaries(model, outputs)
    assert [{name: x.shape for name, x in each.items()} for each in auxiliaries] == [
        {"label": (None, 1000), "colour": (None, 3)}
    ] * 2
    for number, (each, channels) in enumerate(zip(auxiliaries, (512, 528), strict=True), start=1):
        branch = keras.Model(model.get_layer(f"inception_4{' ad'[number]}").output, each)
        assert shapes(branch, [f"auxiliary{number}_pool"]) == [(4, 4, channels)]
        expected = conv(1, channels, 128) + (4 * 4 * 128 * 1024 + 1024) + (1024 * 1000 + 1000) + (1024 * 3 + 3)
        assert branch.count_params() == expected
        assert branch.get_layer(f"auxiliary{number}_dropout").rate == 0.7


def test_auxiliary_losses_reach_what_is_below_them():
    """Of a model that goes on after the body, and at a size whose maps are smaller than the paper's pooling."""
    model = build_classifier("googlenet", image_size=32)
    first, second = googlenet.auxiliaries(model, {"label": 10})
    variables = [model.get_layer(f"inception_{name}_1x1").kernel for name in ("3a", "4a", "4b", "4d", "4e")]
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    assert reached(keras.Model(model.inputs[0], first["label"]), x, variables) == [True, True, False, False, False]
    assert reached(keras.Model(model.inputs[0], second["label"]), x, variables) == [True, True, True, True, False]


def reached(model, x, variables):
    """Return of each variable whether the model's outputs depend on it."""
    before = np.asarray(model(x, training=False))
    changed = []
    for variable in variables:
        value = np.asarray(variable)
        variable.assign(value + 0.1)
        changed.append(bool(np.abs(ops.convert_to_numpy(model(x, training=False)) - before).max() > 0))
        variable.assign(value)
    return changed
