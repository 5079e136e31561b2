"""Assembling, cutting and freezing, on small nets; what holds for every backbone is in test_backbones.py."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from tlkit.catalog import BACKBONES
from tlkit.errors import TlkitError
from tlkit.models.assemble import assemble, cut, freeze, logits_of, probe_layers, segments
from tlkit.models.backbones import block_ends, build_backbone
from tlkit.models.heads import make_head
from tlkit.models.reader import read_model
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("ant", "bee", "cat"))}
TWO_TASKS = TASKS | {"colour": Task("single_label", ("red", "blue"))}
ALL_KINDS = {
    "label": TASKS["label"],
    "tags": Task("multilabel", ("wet", "dark")),
    "age": Task("regression", mean=40.0, scale=12.5),
}
IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
LABELS = np.array([0, 1, 2, 0])


@pytest.fixture(autouse=True)
def fresh():
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)


def fit(model, ends, unfreeze, batch_norm="frozen"):
    """Train the suffix for a step, as tlkit does."""
    freeze(model, ends, unfreeze, batch_norm)
    prefix, suffix = cut(model, ends, unfreeze, TASKS)
    suffix.compile("sgd", {"label": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    suffix.fit(prefix(IMAGES, training=True) if prefix else IMAGES, {"label": LABELS}, verbose=0)


def moving_statistics(model):
    return {
        weight.path: weight.numpy()
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
        for weight in (layer.moving_mean, layer.moving_variance)
    }


# Trap 1: BatchNorm


@pytest.mark.parametrize("unfreeze", [0, 2, 7])
def test_fit_leaves_the_backbones_moving_statistics_alone(unfreeze):
    model = assemble(build_backbone("efficientnet_lite0", image_size=32), make_head(TASKS), TASKS)
    before = moving_statistics(model)
    fit(model, block_ends(model), unfreeze)
    for path, values in moving_statistics(model).items():
        np.testing.assert_array_equal(values, before[path], err_msg=path)


def test_batch_norm_trains_where_it_is_asked_to():
    model = assemble(build_backbone("efficientnet_lite0", image_size=32), make_head(TASKS), TASKS)
    before = moving_statistics(model)
    fit(model, block_ends(model), 1, batch_norm="train")
    after = moving_statistics(model)
    moved = {path.partition("/")[0] for path in after if not np.array_equal(after[path], before[path])}
    assert moved == {"block7a_expand_bn", "block7a_bn", "block7a_project_bn", "top_bn"}


def test_batch_norm_of_the_head_trains():
    def head(features):
        x = layers.BatchNormalization(name="head_bn")(layers.GlobalAveragePooling2D()(features))
        return layers.Dense(3)(x)

    model = assemble(build_backbone("efficientnet_lite0", image_size=32), head, TASKS)
    before = moving_statistics(model)
    fit(model, block_ends(model), 0)
    after = moving_statistics(model)
    assert {path.partition("/")[0] for path in after if not np.array_equal(after[path], before[path])} == {"head_bn"}


def test_freezing_again_reaches_nested_layers():
    """On TensorFlow, `model.trainable = True` does nothing where it is True already; ConvNeXt nests Sequentials."""
    model = assemble(build_backbone("convnext_tiny", image_size=32), make_head(TASKS), TASKS)
    ends = block_ends(model)
    everything = len(model.trainable_weights)
    for unfreeze in (0, 1, 0, len(ends)):
        freeze(model, ends, unfreeze)
    assert len(model.trainable_weights) == everything


def test_an_unknown_policy_is_refused():
    model = assemble(build_backbone("efficientnet_lite0", image_size=32), make_head(TASKS), TASKS)
    with pytest.raises(TlkitError, match="`batch_norm` must be one of frozen, train"):
        freeze(model, block_ends(model), 0, "thaw")


# Trap 2: Dropout


def test_a_frozen_prefix_drops_nothing_in_training_mode():
    model = assemble(build_backbone("efficientnet_b0", image_size=32), make_head(TASKS), TASKS)
    ends = block_ends(model)
    freeze(model, ends, 1)
    end = model.get_layer(ends[-2]).output
    careless = keras.Model(model.inputs[0], end)
    assert not np.allclose(careless(IMAGES, training=True), careless(IMAGES, training=True))
    prefix, _ = cut(model, ends, 1, TASKS)
    np.testing.assert_array_equal(prefix(IMAGES, training=True), prefix(IMAGES, training=True))


# Heads


def flat_head(features):
    return layers.Dense(3, name="flat")(layers.Dropout(0.1)(layers.Flatten()(features)))


def test_one_task_gives_a_tensor_and_several_a_dict():
    backbone = build_backbone("mobilenet_v3_small", image_size=32)
    one = assemble(backbone, make_head(TASKS), TASKS)
    assert one.output_shape == (None, 3)
    several = assemble(build_backbone("mobilenet_v3_small", image_size=32), make_head(TWO_TASKS), TWO_TASKS)
    shapes = {"label": (None, 3), "colour": (None, 2)}
    assert {name: tensor.shape for name, tensor in several.output.items()} == shapes
    assert {name: tensor.shape for name, tensor in logits_of(several, TWO_TASKS).items()} == shapes
    prefix, suffix = cut(several, block_ends(several), 1, TWO_TASKS)
    logits, probabilities = suffix(prefix(IMAGES), training=False), several(IMAGES, training=False)
    for name in TWO_TASKS:
        np.testing.assert_allclose(keras.ops.softmax(logits[name]), probabilities[name], atol=1e-6)


@pytest.mark.parametrize(
    ("head", "tasks", "said"),
    [
        (lambda x: layers.Dense(3)(x), TASKS, r"shape \(None, 3\) for task 'label'.*Received: KerasTensor of shape"),
        (lambda x: layers.Dense(4)(layers.Flatten()(x)), TASKS, r"Received: KerasTensor of shape \(None, 4\)"),
        (flat_head, {"age": ALL_KINDS["age"]}, r"shape \(None, 1\) for task 'age', a regression one"),
        (lambda x: None, TASKS, "Received: NoneType of shape None"),
        (lambda x: layers.Dense(3)(layers.Flatten()(x)), TWO_TASKS, r"dict of logits for \['colour', 'label'\]"),
        (lambda x: {"label": x}, TWO_TASKS, r"dict of logits for .* Received: \['label'\]"),
    ],
)
def test_a_head_that_returns_something_else_gets_one_line(head, tasks, said):
    with pytest.raises(TlkitError, match=said) as error:
        assemble(build_backbone("mobilenet_v3_small", image_size=32), head, tasks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["conv", "head_dropout"])
def test_a_task_with_a_layers_name_is_refused(name):
    tasks = {name: TASKS["label"]}
    with pytest.raises(TlkitError, match=f"A task can't be called '{name}'"):
        assemble(build_backbone("mobilenet_v3_small", image_size=32), make_head(tasks), tasks)


# Kinds of tasks


def small_model(head, tasks):
    """Return a model on a backbone of one convolution, and its block ends."""
    image = keras.Input((8, 8, 3), name="image")
    backbone = keras.Model(image, layers.Conv2D(6, 3, activation="relu", name="conv")(image), name="small")
    return assemble(backbone, head, tasks), ["conv"]


SMALL_IMAGES = IMAGES[:, :8, :8] / 255


def test_every_kind_of_task_turns_its_logits_into_predictions():
    model, ends = small_model(make_head(ALL_KINDS), ALL_KINDS)
    prefix, suffix = cut(model, ends, 0, ALL_KINDS)
    logits = {name: np.asarray(z, "float64") for name, z in suffix(prefix(SMALL_IMAGES), training=False).items()}
    predictions = model(SMALL_IMAGES, training=False)
    exponentials = np.exp(logits["label"])
    np.testing.assert_allclose(predictions["label"], exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(predictions["tags"], 1 / (1 + np.exp(-logits["tags"])), rtol=1e-5)
    np.testing.assert_allclose(predictions["age"], 40 + 12.5 * logits["age"], rtol=1e-5)


@pytest.mark.parametrize("name", ALL_KINDS)
@pytest.mark.parametrize("settings", [{}, {"dropout": 0.0}, {"logits": "cosine"}, {"logits": "cosine", "dropout": 0.0}])
def test_the_cut_lies_after_the_pooling_whatever_the_task(name, settings):
    tasks = {name: ALL_KINDS[name]}
    model, ends = small_model(make_head(tasks, **settings), tasks)
    prefix, suffix = cut(model, ends, 0, tasks)
    assert suffix.input_shape == (None, 6)
    assert [len(part.weights) > 0 for part in segments(model, ends, tasks)] == [True, False, True]
    whole = model(SMALL_IMAGES, training=False)
    features = prefix(SMALL_IMAGES)
    *_, last = segments(model, ends, tasks)
    np.testing.assert_allclose(last(features), whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "layer", "said"),
    [
        (
            "label",
            layers.Activation("sigmoid", name="label"),
            r"Activation\('softmax'\) called 'label'.*Activation\('sig",
        ),
        ("label", layers.Softmax(name="label"), r"Activation\('softmax'\) called 'label'.*Received: Softmax\."),
        (
            "tags",
            layers.Activation("softmax", name="tags"),
            r"Activation\('sigmoid'\) called 'tags', on the logits of its",
        ),
        (
            "age",
            layers.Activation("linear", name="age"),
            r"Rescaling\(scale=12.5, offset=40.0\) called 'age'.*'linear'",
        ),
        (
            "age",
            layers.Rescaling(12.5, name="age"),
            r"regression task. Received: Rescaling\(scale=12.5, offset=0.0\)\.",
        ),
        ("age", layers.Rescaling([1.0, 2.0], 40.0, name="age"), r"Received: Rescaling\(scale=\[1.0, 2.0\]"),
    ],
)
def test_the_last_layer_must_suit_the_task(task, layer, said):
    image = keras.Input((4,), name="image")
    model = keras.Model(image, layer(layers.Dense(2, name="dense")(image)), name="mine")
    with pytest.raises(TlkitError, match=said) as error:
        logits_of(model, {task: ALL_KINDS[task]})
    assert "\n" not in str(error.value)


# Probes


def noisy_head(features):
    pooled = layers.Identity()(layers.Dropout(0.1)(layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(features))))
    return layers.Dropout(0.1)(layers.Dense(3, activation="linear", name="flat")(pooled))


PROBED = {
    "default": (make_head(TASKS), TASKS, {"label": "label_logits"}),
    "average and maximum": (make_head(TASKS, pooling="avg+max", dropout=0.0), TASKS, {"label": "label_logits"}),
    "gem": (make_head(TASKS, pooling="gem", l2=0.1, max_norm=1.0), TASKS, {"label": "label_logits"}),
    "several tasks": (make_head(ALL_KINDS), ALL_KINDS, {name: f"{name}_logits" for name in ALL_KINDS}),
    "custom, flattened": (flat_head, TASKS, {"label": "flat"}),
    "custom, noisy": (noisy_head, TASKS, {"label": "flat"}),
}


@pytest.mark.parametrize("case", PROBED)
def test_a_linear_head_takes_a_probe(case):
    head, tasks, expected = PROBED[case]
    model, ends = small_model(head, tasks)
    prefix, suffix = cut(model, ends, 0, tasks)
    found = probe_layers(suffix, tasks)
    assert {name: dense.name for name, dense in found.items()} == expected
    features, random = np.asarray(prefix(SMALL_IMAGES)), np.random.default_rng(0)
    assert features.ndim == 2
    for dense in found.values():
        dense.kernel.assign(random.normal(size=dense.kernel.shape))
        dense.bias.assign(random.normal(size=dense.bias.shape))
    logits = suffix(features, training=False)
    for name, dense in found.items():
        np.testing.assert_allclose(logits[name], features @ dense.kernel + dense.bias, rtol=1e-4, atol=1e-5)


def normalized_head(features):
    return layers.Dense(3)(layers.BatchNormalization()(layers.GlobalAveragePooling2D()(features)))


def convolved_head(features):
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(features)))


def pooled_last_head(features):
    return layers.GlobalAveragePooling2D()(layers.Dense(3)(features))


def squashed_head(features):
    return layers.Dense(3, activation="tanh")(layers.GlobalAveragePooling2D()(features))


def unbiased_head(features):
    return layers.Dense(3, use_bias=False)(layers.GlobalAveragePooling2D()(features))


def residual_head(features):
    pooled = layers.GlobalAveragePooling2D()(features)
    return layers.Add()([layers.Dense(3)(pooled), layers.Dense(3)(pooled)])


def shared_head(features):
    logits = layers.Dense(3)(layers.GlobalAveragePooling2D()(features))
    return {"label": logits, "other": layers.Dropout(0.1)(logits)}


UNPROBED = {
    "hidden": (make_head(TASKS, hidden=(4,)), TASKS),
    "cosine": (make_head(TASKS, logits="cosine"), TASKS),
    "one of several": (make_head(ALL_KINDS, logits="cosine"), ALL_KINDS),
    "BatchNorm": (normalized_head, TASKS),
    "convolution": (convolved_head, TASKS),
    "pooled last": (pooled_last_head, TASKS),
    "activation": (squashed_head, TASKS),
    "no bias": (unbiased_head, TASKS),
    "two layers": (residual_head, TASKS),
    "one layer for two tasks": (shared_head, {"label": TASKS["label"], "other": TASKS["label"]}),
}


@pytest.mark.parametrize("case", UNPROBED)
def test_any_other_head_takes_none(case):
    head, tasks = UNPROBED[case]
    model, ends = small_model(head, tasks)
    assert probe_layers(cut(model, ends, 0, tasks)[1], tasks) is None


# Cuts


def test_an_end_that_does_not_separate_is_refused():
    model = assemble(build_backbone("mobilenet_v2", image_size=32), make_head(TASKS), TASKS)
    with pytest.raises(TlkitError, match="'block_2_expand_relu' of mobilenet_v2 is no block end") as error:
        cut(model, ["block_2_expand_relu", "out_relu"], 1, TASKS)
    assert "\n" not in str(error.value)


def test_a_model_without_the_tasks_activation_gets_one_line():
    image = keras.Input((4,), name="image")
    model = keras.Model(image, layers.Dense(3, name="dense")(image), name="mine")
    said = (
        r"'mine' must end in Activation\('softmax'\) called 'label'.*single_label task. Received: no layer of that name"
    )
    with pytest.raises(TlkitError, match=said):
        cut(model, ["dense"], 0, TASKS)


def test_training_the_suffix_trains_the_model():
    model = assemble(build_backbone("mobilenet_v3_small", image_size=32), make_head(TASKS), TASKS)
    before = np.asarray(model(IMAGES, training=False))
    fit(model, block_ends(model), 0)
    assert not np.allclose(model(IMAGES, training=False), before)


# Artifacts


BARE = """
import sys
import keras, numpy as np
for name in sys.argv[1:]:
    outputs = keras.saving.load_model(name + ".keras")(np.load("images.npy"), training=False)
    np.savez(name + "_after.npz", **(outputs if isinstance(outputs, dict) else {"label": outputs}))
assert not any(module.partition(".")[0] == "tlkit" for module in sys.modules)
"""


def check_bare_loading(cases, folder, tasks=TASKS):
    """Save models, load them in a process that never imports tlkit, and compare; read them by our own reader, too."""
    size = max(BACKBONES[name].smallest_image for name in cases)
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    np.save(folder / "images.npy", images)
    for name, head in cases.items():
        model = assemble(build_backbone(name, image_size=size), head, tasks)
        model.save(folder / f"{name}.keras")
        outputs = model(images, training=False)
        np.savez(folder / f"{name}_before.npz", **(outputs if isinstance(outputs, dict) else {"label": outputs}))
        ends = block_ends(model)
        loaded = read_model(folder / f"{name}.keras")
        assert block_ends(loaded) == ends
        cut(loaded, ends, min(1, len(ends) - 1), tasks)
        keras.backend.clear_session()
    subprocess.run([sys.executable, "-I", "-c", BARE, *cases], cwd=folder, check=True)
    for name in cases:
        before, after = (dict(np.load(folder / f"{name}_{when}.npz")) for when in ("before", "after"))
        assert set(before) == set(after) == set(tasks)
        for task, values in before.items():
            np.testing.assert_allclose(after[task], values, rtol=1e-5, atol=1e-5, err_msg=f"{name} {task}")
        (folder / f"{name}.keras").unlink()  # pytest keeps the folders of its last runs; all nets take 6 GB


@pytest.mark.parametrize("logits", ["linear", "cosine"])
def test_every_kind_of_task_loads_where_tlkit_is_not_imported(logits, tmp_path):
    head = make_head(ALL_KINDS, logits=logits, max_norm=2.0, hidden=(8,))
    check_bare_loading({"mobilenet_v3_small": head}, tmp_path, ALL_KINDS)


def test_artifacts_load_where_tlkit_is_not_imported(tmp_path):
    cases = {
        "resnet50": make_head(TASKS, pooling="gem"),  # flips to BGR
        "convnext_tiny": make_head(TASKS, pooling="avg+max", hidden=(8,)),  # LayerScale
        "mobilenet_v3_small": make_head(TASKS, l2=1e-4),  # operations as layers
        "efficientnet_b0": make_head(TASKS),  # scaling in weights
        "efficientnet_lite0": make_head(TASKS, pooling="max"),
    }
    check_bare_loading(cases, tmp_path)


ONE_PER_PAPER = {entry.paper: name for name, entry in reversed(BACKBONES.items())}.values()


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_PER_PAPER)
def test_every_kind_of_backbone_loads_where_tlkit_is_not_imported(name, tmp_path):
    check_bare_loading({name: make_head(TASKS)}, tmp_path)
