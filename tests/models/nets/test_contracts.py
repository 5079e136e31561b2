"""Contracts that every net of the catalog keeps, with random weights and small images."""

import gc
import itertools

import keras
import numpy as np
import pytest
from close import assert_close
from weightless import weightless, whole_net

from tlkit.catalog import BACKBONES, NETS
from tlkit.errors import TlkitError
from tlkit.models.assemble import assemble, cut, logits_of
from tlkit.models.backbones import SCALINGS, block_ends, build_backbone, find_function, original_head
from tlkit.models.reader import read_model
from tlkit.recipe_keys import Stage
from tlkit.tasks import Task
from tlkit.training.features import Batch
from tlkit.training.stage import Craft, StageTrainer
from tlkit.training.variables import values_of

TASKS = {
    "label": Task("single_label", ("ant", "bee", "cat")),
    "side": Task("single_label", ("left", "right")),
}
LARGE = 20_000_000  # parameters
# One of each file trains in the default run, unless it is large; the others are slow tests.
QUICK = {min((e for e in NETS.values() if e.body.split(":")[0] == file), key=lambda e: e.parameters).name
         for file in {e.body.split(":")[0] for e in NETS.values()}}  # fmt: skip


def _case(entry):
    quick = entry.name in QUICK and entry.parameters < LARGE
    return pytest.param(entry, id=entry.name, marks=[pytest.mark.slow] * (not quick))


@pytest.fixture(scope="module", params=[_case(entry) for entry in NETS.values()])
def net(request):
    """One net, built once for all its contracts: `(catalog entry, body, whole model for two tasks, four images)`."""
    entry = request.param
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    body = build_backbone(entry.name, weights="none", image_size=entry.smallest_image)
    model = assemble(body, original_head(entry.name, TASKS), TASKS)
    images = np.random.default_rng(0).uniform(0, 255, (4, entry.smallest_image, entry.smallest_image, 3))
    yield entry, body, model, images.astype("float32")
    del body, model
    keras.backend.clear_session()
    gc.collect()  # models refer to themselves, and the large ones would pile up


@pytest.mark.parametrize("entry", NETS.values(), ids=lambda entry: entry.name)
def test_it_is_what_the_catalog_says(entry):
    """At the paper's image size, and for the large nets, too: nothing here has values."""
    assert entry.name not in BACKBONES
    assert entry.scaling in SCALINGS
    assert entry.smallest_image <= entry.image_size
    classifier = whole_net(entry.name)
    assert classifier.name == entry.name
    assert classifier.input_shape == (None, entry.image_size, entry.image_size, 3)
    assert classifier.output_shape == (None, entry.num_classes)
    assert classifier.count_params() == entry.parameters
    with weightless():
        body = build_backbone(entry.name)
    assert len(body.output_shape) == 4
    assert body.output_shape[-1] == entry.features
    assert block_ends(body) == block_ends(classifier) == entry.block_ends


@pytest.mark.parametrize("entry", [NETS[name] for name in sorted(QUICK)], ids=lambda entry: entry.name)
def test_names_do_not_depend_on_what_was_built_before(entry):
    first, second = (whole_net(entry.name) for _ in range(2))
    names = [operation.name for operation in first.operations]
    assert names == [operation.name for operation in second.operations]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("entry", NETS.values(), ids=lambda entry: entry.name)
def test_too_small_an_image_is_refused(entry):
    with pytest.raises(TlkitError, match=f"at least {entry.smallest_image} for {entry.name}"):
        build_backbone(entry.name, image_size=entry.smallest_image - 1)


@pytest.mark.parametrize("entry", [entry for entry in NETS.values() if entry.auxiliaries], ids=lambda entry: entry.name)
def test_auxiliary_classifiers_have_logits_for_every_task(entry):
    with weightless():
        body = build_backbone(entry.name)
        auxiliaries = find_function(entry.auxiliaries)(body, {"label": 3, "side": 2})
    assert auxiliaries
    for logits in auxiliaries:
        assert {name: tuple(tensor.shape) for name, tensor in logits.items()} == {"label": (None, 3), "side": (None, 2)}


def test_a_forward_pass_is_finite_and_gives_every_tasks_probabilities(net):
    _, _, model, images = net
    probabilities = model(images, training=False)
    for name, task in TASKS.items():
        assert probabilities[name].shape == (4, task.num_outputs)
        np.testing.assert_allclose(np.asarray(probabilities[name]).sum(axis=-1), 1, rtol=1e-5)


def test_the_graph_is_flat_and_of_built_in_layers(net):
    _, _, model, _ = net
    for operation in model.operations:
        assert operation.output is not None  # raises where an operation is called more than once
        assert not isinstance(operation, keras.Model | keras.layers.Lambda)
        assert type(operation).__module__.startswith("keras.")


def test_block_ends_come_in_order_and_leave_nothing_out(net):
    entry, body, _, _ = net
    names = [operation.name for operation in body.operations]
    ends = [names.index(end) for end in entry.block_ends]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(names) - 1
    assert 2 <= len(ends) <= 12


def test_every_block_end_separates_the_graph(net):
    """Prefix and suffix can be built at each, and the blocks one after the other compute what the whole computes."""
    entry, _, model, images = net
    logits = logits_of(model, TASKS)
    expected = keras.Model(model.inputs[0], logits)(images, training=False)
    ends = [model.inputs[0], *(model.get_layer(end).output for end in entry.block_ends)]
    x = images
    for start, end in itertools.pairwise([*ends, logits]):
        x = keras.Model(start, end)(x, training=False)
    assert_close(x["label"], expected["label"])
    for unfreeze in range(len(entry.block_ends)):
        prefix, suffix = cut(model, entry.block_ends, unfreeze, TASKS)
        assert prefix.output_shape == suffix.input_shape
        assert len(prefix.weights) + len(suffix.weights) == len(model.weights)


def test_saved_it_loads_in_plain_keras_and_computes_the_same(net, tmp_path):
    _, _, model, images = net
    model.save(tmp_path / "net.keras")
    expected = model(images, training=False)["label"]
    plain = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(plain(images, training=False)["label"], expected)
    ours = read_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(ours(images, training=False)["label"], expected)


def test_a_training_step_changes_the_loss_and_every_variable(net):
    """The last of the contracts: it changes the net that all share."""
    entry, _, model, images = net
    keras.utils.set_random_seed(1)
    stage = Stage(unfreeze="all", epochs=1, learning_rate=1e-3, optimizer="adam", schedule="constant")
    craft = Craft(batch_norm="train")
    trainer = StageTrainer(model, stage, ends=entry.block_ends, tasks=TASKS, steps_per_epoch=2, craft=craft)
    batch = Batch(images, {"label": np.array([0, 1, 2, 0], np.int32), "side": np.array([0, 1, 1, 0], np.int32)})
    variables, before = model.trainable_variables, values_of(model.trainable_variables)
    first, second = (trainer.train_step(batch, step)[0] for step in range(2))
    assert np.isfinite([first, second]).all()
    assert first != second
    for variable, old, new in zip(variables, before, values_of(variables), strict=True):
        assert np.isfinite(new).all(), variable.path
        assert (new != old).any(), variable.path
