"""Memory that is predicted before a stage begins. Each test is a row of the table in `README.md`."""

from types import SimpleNamespace

import keras
import pytest
from faults import Notes
from two_blocks import ENDS, TASKS, linear_head, make_model

from tlkit.api.memory import choose_splits, footprints
from tlkit.recipe import check_recipe, read_recipe
from tlkit.recipe_keys import Split, Stage
from tlkit.training.cache import memory_room
from tlkit.training.footprint import GRAPH, footprint
from tlkit.training.stage import Craft

STAGES = [{"unfreeze": "all", "epochs": 1, "learning_rate": 1e-2}]


def conv_net(size=8):
    """One convolution, its normalization and activation, pooled: few enough layers to count by hand."""
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU(name="block1")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(3, name="logits")(x)
    return keras.Model(image, keras.layers.Activation("softmax", name="label")(logits))


def predicted(model, **more):
    stage = Stage(unfreeze="all", epochs=1, learning_rate=1e-3, optimizer=more.pop("optimizer", "sgd"))
    return footprint(model, stage, ends=("block1",), tasks=TASKS, craft=Craft(**more))


def test_a_stage_is_counted_by_hand():
    model = conv_net()
    image, maps, pooled = 8 * 8 * 3, 8 * 8 * 4, 4
    kept = image + maps + pooled  # the inputs of the convolution and of the dense layer, and the activation's output
    in_flight = 3 * (maps + maps)
    assert predicted(model).per_image == 4 * (kept + in_flight + image)
    assert predicted(model, batch_norm="train").per_image == 4 * (kept + maps + in_flight + image)
    assert predicted(model, precision="bfloat16").per_image == 4 * ((kept + in_flight) // 2 + image)
    weights = 4 * (3 * 3 * 3 * 4 + 4 * 4 + 4 * 3 + 3)
    assert predicted(model).fixed == GRAPH * len(model.operations) + weights * (1 + 2 + 3)
    assert predicted(model, optimizer="adam").fixed - predicted(model).fixed == 2 * weights
    assert predicted(model, ema=0.9).fixed - predicted(model).fixed == 2 * weights
    assert predicted(model).accumulated == weights


def choose(monkeypatch, free, stages=STAGES, **settings):
    """Return the splits that are chosen with so many bytes free, what is said, and the footprints."""
    monkeypatch.setattr("tlkit.training.cache.available_memory", lambda: free)
    notes, model = Notes(), make_model(linear_head)
    values = read_recipe("default").model_dump() | {"stages": stages}
    values["data"]["batch_size"] = 8
    values["training"] |= settings
    recipe = check_recipe(values, where="test")
    job = SimpleNamespace(ends=ENDS, data=SimpleNamespace(tasks=TASKS), listener=notes)
    chosen, _ = choose_splits(job, recipe, model)
    return chosen.training.splits, notes, footprints(job, recipe, model)


def test_a_stage_that_fits_is_left_alone(monkeypatch):
    entries, notes, _ = choose(monkeypatch, 10**12)
    assert (entries, notes.lines) == ([], [])


def test_a_stage_that_does_not_fit_is_computed_in_parts(monkeypatch):
    _, _, (found,) = choose(monkeypatch, 10**12)
    free = (found.fixed + found.accumulated + 3 * found.per_image) / 0.9
    entries, notes, _ = choose(monkeypatch, free)
    assert entries == [Split(what="training", stage=0, step=0, parts=4)]
    (line,) = notes.lines
    assert line.startswith("memory: stage 0 is predicted to take ")
    assert "it computes 2 of 8 images at once, gradients added up" in line


def test_a_stage_that_never_fits_is_said_to(monkeypatch):
    entries, notes, _ = choose(monkeypatch, 1)
    assert entries == [Split(what="training", stage=0, parts=8)]  # no layer is frozen
    assert "even one image at a time takes" in notes
    entries, notes, _ = choose(monkeypatch, 1, stages=[STAGES[0] | {"unfreeze": 1}])
    assert entries == [Split(what="frozen", stage=-1, parts=8), Split(what="training", stage=0, parts=8)]
    assert "even one image at a time takes" in notes


def test_what_a_recipe_says_of_splits_is_left_alone(monkeypatch):
    given = [{"what": "training", "stage": 0, "step": 3, "parts": 2}]
    entries, notes, _ = choose(monkeypatch, 1, splits=given)
    assert (entries, notes.lines) == ([Split(**given[0])], [])


def test_features_are_streamed_where_training_needs_the_memory(monkeypatch):
    monkeypatch.setattr("tlkit.training.cache.available_memory", lambda: 1000)
    assert [memory_room(beside) for beside in (0, 400, 700, 2000)] == [500, 500, 300, 0]


@pytest.mark.slow
def test_a_run_with_too_little_memory_goes_its_way_and_its_recipe_repeats_it(small_run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("tlkit.training.cache.available_memory", lambda: 1)
        notes = small_run(tmp_path / "run")
    assert "even one image at a time" in notes
    small_run(tmp_path / "again", recipe=tmp_path / "run" / "recipe.toml")
    names = ("metrics.json", "history.csv", "recipe.toml")
    assert all((tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)
