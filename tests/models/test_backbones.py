"""Contracts that every backbone of the catalog keeps, with random weights and small images."""

import itertools

import keras
import numpy as np
import pytest
from close import assert_close
from keras import layers

from tlkit.catalog import BACKBONES
from tlkit.errors import TlkitError
from tlkit.models.assemble import assemble, cut, freeze, logits_of
from tlkit.models.backbones import block_ends, build_backbone
from tlkit.models.heads import make_head
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("ant", "bee", "cat"))}
LARGE = 50_000_000  # parameters


def _case(backbone):
    return pytest.param(backbone, id=backbone.name, marks=[pytest.mark.slow] * (backbone.parameters > LARGE))


@pytest.fixture(scope="module", params=[_case(backbone) for backbone in BACKBONES.values()])
def net(request):
    """One backbone, built once for all its contracts: `(catalog entry, backbone, whole model, two images)`."""
    entry = request.param
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    backbone = build_backbone(entry.name, image_size=entry.smallest_image)
    model = assemble(backbone, make_head(TASKS), TASKS)
    images = np.random.default_rng(0).uniform(0, 255, (2, entry.smallest_image, entry.smallest_image, 3))
    yield entry, backbone, model, images.astype("float32")
    keras.backend.clear_session()


def test_it_is_what_the_catalog_says(net):
    entry, backbone, _, _ = net
    assert backbone.name == entry.name
    assert backbone.input_shape == (None, entry.smallest_image, entry.smallest_image, 3)
    assert backbone.output_shape[-1] == entry.features
    assert backbone.count_params() == entry.parameters
    assert block_ends(backbone) == entry.block_ends


def test_a_forward_pass_is_finite_and_gives_probabilities(net):
    _, _, model, images = net
    probabilities = np.asarray(model(images, training=False))
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


def test_the_graph_is_flat(net):
    """Nothing is called twice, and nothing is a model within the model but ConvNeXt's pairs of norm and convolution."""
    _, _, model, _ = net
    for operation in model.operations:
        assert operation.output is not None  # raises where an operation has several outputs
        assert not isinstance(operation, keras.Model) or len(operation.layers) == 2


def test_block_ends_come_in_order_and_leave_nothing_out(net):
    entry, backbone, _, _ = net
    names = [operation.name for operation in backbone.operations]
    ends = [names.index(end) for end in entry.block_ends]
    assert ends == sorted(ends)
    assert ends[-1] == len(names) - 1
    assert len(ends) == 1 if entry.name.startswith("nasnet") else 4 <= len(ends) <= 12


def test_every_block_end_separates_the_graph(net):
    """Prefix and suffix can be built at each, and the blocks one after the other compute what the whole computes."""
    entry, _, model, images = net
    logits = logits_of(model, TASKS)["label"]
    expected = keras.Model(model.inputs[0], logits)(images, training=False)
    ends = [model.inputs[0], *(model.get_layer(end).output for end in entry.block_ends), logits]
    x = images
    for start, end in itertools.pairwise(ends):
        x = keras.Model(start, end)(x, training=False)
    assert_close(x, expected)
    for unfreeze in range(len(entry.block_ends)):
        prefix, suffix = cut(model, entry.block_ends, unfreeze, TASKS)
        assert prefix.output_shape == suffix.input_shape
        assert len(prefix.weights) + len(suffix.weights) == len(model.weights)


def test_prefix_and_suffix_together_are_the_whole(net):
    entry, _, model, images = net
    prefix, suffix = cut(model, entry.block_ends, len(entry.block_ends) // 2, TASKS)
    logits = suffix(prefix(images), training=False)["label"]
    assert_close(keras.ops.softmax(logits), model(images, training=False))


def test_freezing_freezes_exactly_the_other_blocks(net):
    entry, backbone, model, _ = net
    head = {id(weight) for weight in model.weights} - {id(weight) for weight in backbone.weights}
    for unfreeze in range(len(entry.block_ends) + 1):
        freeze(model, entry.block_ends, unfreeze)
        _, suffix = cut(model, entry.block_ends, unfreeze, TASKS)
        expected = head | {id(weight) for layer in suffix.layers for weight in _trained_by_policy(layer)}
        assert {id(weight) for weight in model.trainable_weights} == expected
        assert {id(weight) for weight in suffix.trainable_weights} == expected


def _trained_by_policy(layer):
    """What of a backbone's layer may train at all: not BatchNorm, and not what never does (EfficientNet's scaling)."""
    if isinstance(layer, layers.BatchNormalization | layers.Normalization):
        return []
    return layer.weights


def test_the_frozen_part_computes_the_same_in_training_mode(net):
    """Trap 2: `trainable=False` alone leaves Dropout active."""
    entry, _, model, images = net
    freeze(model, entry.block_ends, 0)
    prefix, _ = cut(model, entry.block_ends, 0, TASKS)
    first, second = (np.asarray(prefix(images, training=True)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert_close(first, prefix(images, training=False))


@pytest.mark.parametrize("name", ["convnext_tiny", "densenet121", "mobilenet_v3_small", "resnet50"])
def test_names_do_not_depend_on_what_was_built_before(name):
    """Keras numbers unnamed layers through the whole process, so the second net gets other numbers than the first."""
    first, second = (build_backbone(name, image_size=32) for _ in range(2))
    assert [operation.name for operation in first.operations] == [operation.name for operation in second.operations]


def test_unknown_names_get_a_hint():
    with pytest.raises(TlkitError, match="Did you mean 'resnet50'"):
        build_backbone("resnet5O")
    with pytest.raises(TlkitError, match="at least 75 for inception_v3"):
        build_backbone("inception_v3", image_size=64)


def test_block_ends_of_a_model_of_ones_own():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="first")(image)
    model = keras.Model(image, layers.Conv2D(4, 3, name="second")(x), name="mine")
    assert block_ends(model, ["first", "second"]) == ("first", "second")
    with pytest.raises(TlkitError, match="pass `block_ends="):
        block_ends(model)
    with pytest.raises(TlkitError, match="Did you mean 'second'"):
        block_ends(model, ["first", "secnod"])
