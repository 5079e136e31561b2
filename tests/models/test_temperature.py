"""A temperature in the model: the probabilities of scaled logits, from the graph alone, whatever the head."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import expit, softmax

from tlkit.models.assemble import assemble, cut, logits_of
from tlkit.models.chain import Chain
from tlkit.models.heads import make_head
from tlkit.models.reader import read_model
from tlkit.models.temperature import fold_temperatures
from tlkit.tasks import Task

ONE = {"label": Task("single_label", ("ant", "bee", "cat"))}
ALL_KINDS = ONE | {
    "tags": Task("multilabel", ("wet", "dark")),
    "age": Task("regression", mean=40.0, scale=12.5),
}
ENDS = ("block1",)
IMAGES = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype("float32")


def backbone():
    keras.utils.set_random_seed(0)
    image = x = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, name="conv1")(layers.Rescaling(1 / 64)(x))
    return keras.Model(image, layers.ReLU(name="block1")(x), name="one_block")


def custom_head(features):
    """Logits that come from an activation, from a nested model, and from a dense layer that two tasks share."""
    pooled = layers.GlobalAveragePooling2D()(features)
    shared = layers.Dense(2, name="shared")(pooled)
    return {
        "label": layers.Dense(3, activation="tanh", name="squashed")(layers.Concatenate()([pooled, shared])),
        "tags": shared,
        "age": keras.Sequential([layers.Dense(4), layers.Dense(1)], name="nested")(pooled),
    }


def without_bias(features):
    return layers.Dense(3, use_bias=False, name="plain")(layers.GlobalMaxPooling2D()(features))


HEADS = {
    "dense": (ONE, make_head(ONE), 0),
    "hidden": (ONE, make_head(ONE, hidden=(5,), pooling="gem"), 0),
    "no bias": (ONE, without_bias, 0),
    "cosine": (ONE, make_head(ONE, logits="cosine"), 1),
    "several tasks": (ALL_KINDS, make_head(ALL_KINDS), 0),
    "several tasks, cosine": (ALL_KINDS, make_head(ALL_KINDS, logits="cosine"), 2),
    "several tasks, custom": (ALL_KINDS, custom_head, 2),
}


def outputs(model, tasks):
    predicted = model.predict(IMAGES, verbose=0)
    return predicted if len(tasks) > 1 else {"label": predicted}


def expected(model, tasks, temperatures):
    """Return what a model's outputs become, from its logits."""
    logits = keras.Model(model.inputs[0], logits_of(model, tasks)).predict(IMAGES, verbose=0)
    return {
        "label": softmax(logits["label"] / temperatures["label"], axis=1),
        "tags": expit(logits["tags"] / temperatures["tags"]) if "tags" in tasks else None,
        "age": logits["age"] * 12.5 + 40 if "age" in tasks else None,
    }


@pytest.mark.parametrize("kind", HEADS)
def test_folding_gives_the_probabilities_of_scaled_logits(kind, tmp_path):
    tasks, head, rescalings = HEADS[kind]
    model = assemble(backbone(), head, tasks)
    for variable in model.variables[-2:]:  # biases that matter
        variable.assign(variable + 0.5)
    temperatures = {"label": 2.5, "tags": 0.4}
    wanted = expected(model, tasks, temperatures)
    layers_before = len(model.layers)
    folded = fold_temperatures(model, tasks, {name: temperatures[name] for name in tasks if name != "age"})
    assert (folded is model) == (not rescalings)
    assert len(folded.layers) - layers_before == rescalings
    folded.save(tmp_path / "model.keras")
    for version in (folded, read_model(tmp_path / "model.keras")):
        for name, values in outputs(version, tasks).items():
            np.testing.assert_allclose(values, wanted[name], atol=1e-5, err_msg=name)
    _check_it_still_works(folded, tasks)


def _check_it_still_works(model, tasks):
    """Everything that takes a model takes it: the chain, the cut, a second temperature."""
    chain = Chain(model, ENDS, tasks, batch_size=8)
    predicted, by_chain = outputs(model, tasks), chain.run(IMAGES, 0, [chain.end])[0]
    by_chain = by_chain if len(tasks) > 1 else {"label": by_chain}
    for name in tasks:
        np.testing.assert_allclose(by_chain[name], predicted[name], atol=1e-5)
    _, suffix = cut(model, ENDS, 0, tasks)
    assert set(suffix.output) == set(tasks)
    wanted = expected(model, tasks, {"label": 3.0, "tags": 1.0})
    again = fold_temperatures(model, tasks, {"label": 3.0})
    np.testing.assert_allclose(outputs(again, tasks)["label"], wanted["label"], atol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "cosine"])
def test_features_below_the_head_stay_what_they_were(kind):
    tasks, head, _ = HEADS[kind]
    model = assemble(backbone(), head, tasks)
    before = Chain(model, ENDS, tasks, batch_size=8)
    below = [before.digest(position) for position in range(before.end)]
    at_end = before.digest(before.end)
    after = Chain(fold_temperatures(model, tasks, {"label": 2.0}), ENDS, tasks, batch_size=8, known=before)
    assert [after.digest(position) for position in range(after.end)] == below
    assert after.digest(after.end) != at_end


def test_what_another_chain_has_found_out_is_not_computed_again(monkeypatch):
    tasks, head, _ = HEADS["dense"]
    build = lambda: assemble(backbone(), head, tasks)  # noqa: E731
    one, other, digests = build(), build(), {}
    other.set_weights(one.get_weights())
    first = Chain(one, ENDS, tasks, batch_size=8, digests=digests)
    found = [first.digest(position) for position in range(first.end)]
    changed = build()
    changed.set_weights([array + 1 for array in one.get_weights()])
    fresh = [Chain(model, ENDS, tasks, batch_size=size) for model, size in ((changed, 8), (one, 4))]
    shared = [Chain(model, ENDS, tasks, batch_size=size, digests=digests) for model, size in ((changed, 8), (one, 4))]
    for alone, among in zip(fresh, shared, strict=True):
        assert [among.digest(at) for at in range(1, among.end)] == [alone.digest(at) for at in range(1, alone.end)]
    monkeypatch.setattr(Chain, "_probe", lambda *_: pytest.fail("it is known"))
    second = Chain(other, ENDS, tasks, batch_size=8, digests=digests)
    assert [second.digest(position) for position in range(second.end)] == found


def test_a_name_that_is_taken_is_no_hindrance():
    def head(features):
        pooled = layers.GlobalAveragePooling2D(name="label_temperature")(features)
        return layers.Dense(3, activation="tanh")(pooled)

    model = assemble(backbone(), head, ONE)
    wanted = expected(model, ONE, {"label": 2.0})
    np.testing.assert_allclose(
        outputs(fold_temperatures(model, ONE, {"label": 2.0}), ONE)["label"], wanted["label"], atol=1e-5
    )


def test_a_model_without_temperatures_is_the_same():
    model = assemble(backbone(), make_head(ONE), ONE)
    before = model.get_weights()
    assert fold_temperatures(model, ONE, {}) is model
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


BARE = """
import json, sys
sys.modules["tlkit"] = None
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype("float32")
print(json.dumps({name: values.tolist() for name, values in model.predict(images, verbose=0).items()}))
"""


def test_the_file_alone_gives_scaled_probabilities(tmp_path):
    """In a process that can't import tlkit: a dense head folded, a cosine one rescaled."""
    tasks = {"label": ONE["label"], "tags": ALL_KINDS["tags"]}

    def head(features):
        logits = make_head(tasks, logits="cosine")(features)
        return logits | {"label": layers.Dense(3, name="dense")(layers.GlobalAveragePooling2D()(features))}

    model = assemble(backbone(), head, tasks)
    wanted = expected(model, tasks, {"label": 2.5, "tags": 0.4})
    fold_temperatures(model, tasks, {"label": 2.5, "tags": 0.4}).save(tmp_path / "model.keras")
    command = [sys.executable, "-c", BARE, str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, values in json.loads(done.stdout).items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-5)
