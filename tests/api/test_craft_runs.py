"""Whole runs with the tools on: tasks of every kind at once, missing labels, mixing, sizes, and their resumption."""

import csv
import json
import os
import signal

import keras
import numpy as np
import pytest

import tlkit
from tlkit.api import find_learning_rate, finetune_recipe
from tlkit.errors import RecipeError, Stopped, TlkitError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.training.lr_find import RangeTest
from tlkit.training.rules import STANDARD_ERRORS

EVERYTHING = {
    "data.mixup": 0.4,
    "data.cutmix": 1.0,
    "data.mix_off": 0.5,
    "loss.label_smoothing": 0.1,
    "loss.imbalance": "balanced_sampling",
    "training.ema": 0.9,
    "training.average_best": 2,
    "training.l2": 1e-4,
    "training.l2_sp": 1e-3,
    "training.batch_norm": "recalibrate",
    "training.checkpoint_seconds": 3600.0,
    "stages": [
        {
            "unfreeze": 0,
            "epochs": 2,
            "learning_rate": 0.3,
            "schedule": "plateau",
            "decay_epochs": 1,
            "optimizer": "sgd",
        },
        {"unfreeze": 2, "epochs": 2, "learning_rate": 1e-3, "block_factor": 0.4, "accumulate": 2, "image_size": 48},
    ],
}


class Notes(Listener):
    def __init__(self, stop_after=None):
        self.lines, self.left = [], stop_after

    def note(self, text):
        self.lines.append(text)

    def step_done(self, loss):
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)  # which the training answers by saving and stopping


@pytest.fixture(scope="module")
def photos(photo_folder, tmp_path_factory):
    return photo_folder(tmp_path_factory.mktemp("craft") / "photos", per_class=20)


@pytest.fixture(scope="module")
def labels(photos):
    """A CSV of the photos with a task of each kind, a third of all labels missing."""
    random = np.random.default_rng(0)
    path = photos.parent / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "hue", "parts", "count"])
        for number, photo in enumerate(sorted(photos.rglob("*.*"))):
            is_b = photo.parent.name == "b"
            cells = [photo.parent.name, "dark round" if is_b else ("dark" if number % 2 else "-"), str(3 + 5 * is_b)]
            kept = [cell if random.random() < 0.67 else "" for cell in cells]
            writer.writerow([photo.relative_to(path.parent).as_posix(), *kept])
    return path


def make(photos, out, tiny, settings, **options):
    return finetune_recipe(read_recipe("default", tiny, settings), photos, out=out, **options)


def weights_of(run):
    return keras.saving.load_model(run.path / "model.keras").get_weights()


@pytest.fixture(scope="module")
def everything(photos, tiny_lite0):
    notes = Notes()
    run = make(photos, photos.parent / "everything", tiny_lite0, EVERYTHING, listener=notes)
    return run, notes.lines


def test_all_tools_work_together(everything):
    run, notes = everything
    assert any("mixup and CutMix mix images" in line for line in notes)
    assert any(line.startswith("linear probe of the frozen features") for line in notes)
    assert run.accuracy is not None
    contests = json.loads((run.path / "selection.json").read_text())["contests"]
    assert [contest["stage"] for contest in contests] == [0, 1]
    assert all(
        contest["taken"] == (contest["difference"] < -STANDARD_ERRORS * contest["standard_error"])
        for contest in contests
    )


@pytest.mark.parametrize(
    "steps", [pytest.param(3, marks=pytest.mark.slow), 9, pytest.param(12, marks=pytest.mark.slow)]
)
def test_all_tools_resume_to_the_same_bits(steps, everything, photos, tmp_path, tiny_lite0):
    assert_same_run(resumed(photos, tmp_path / "run", tiny_lite0, EVERYTHING, steps), everything[0])


def resumed(source, out, tiny, settings, steps):
    """Return a run that was stopped after some steps, saved what it had, and went on."""
    with pytest.raises(Stopped):
        make(source, out, tiny, settings, listener=Notes(stop_after=steps))
    assert (out / "checkpoint" / "state.npz").exists()
    return make(source, out, tiny, settings, resume=True)


def assert_same_run(one, other):
    for file in ("metrics.json", "history.csv", "selection.json"):
        assert (one.path / file).read_bytes() == (other.path / file).read_bytes()
    for mine, theirs in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_stage_of_another_size_on_blocks_that_were_trained_resumes_to_the_same_bits(photos, tmp_path, tiny):
    """The kept prefix and the validation need the weights that the earlier stage has chosen."""
    stages = [
        {"unfreeze": 2, "epochs": 1, "learning_rate": 3e-3},
        {"unfreeze": 0, "epochs": 2, "learning_rate": 1e-2, "image_size": 48},
    ]
    settings = {"stages": stages, "head.init": "random", "training.checkpoint_seconds": 3600.0}
    whole = make(photos, tmp_path / "whole", tiny, settings)
    per_epoch = len((whole.path / "splits.csv").read_text().split(",train,")) // 8
    assert_same_run(resumed(photos, tmp_path / "run", tiny, settings, steps=per_epoch + 2), whole)


def test_learned_weights_of_losses_resume_to_the_same_bits(labels, tmp_path, tiny):
    tasks = {"hue": "single_label", "parts": "multilabel", "count": "regression"}
    stages = [{"unfreeze": depth, "epochs": 1, "learning_rate": 1e-2} for depth in (0, 1)]
    settings = {"tasks": tasks, "loss.weights": "uncertainty", "stages": stages, "training.checkpoint_seconds": 3600.0}
    whole = make(labels, tmp_path / "whole", tiny, settings)
    assert_same_run(resumed(labels, tmp_path / "run", tiny, settings, steps=5), whole)


@pytest.mark.parametrize("weights", ["uncertainty", pytest.param({"count": 0.5}, marks=pytest.mark.slow)])
def test_three_tasks_with_missing_labels_train_and_are_evaluated_on_what_is_there(labels, tmp_path, tiny, weights):
    tasks = {"hue": "single_label", "parts": "multilabel", "count": "regression"}
    stages = [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-3}, {"unfreeze": 1, "epochs": 1, "learning_rate": 1e-4}]
    settings = {"tasks": tasks, "loss.weights": weights, "stages": stages}
    run = make(labels, tmp_path / "run", tiny, settings)
    entry = run.headline[1]
    assert {name: of["kind"] for name, of in entry["tasks"].items()} == tasks
    assert all(0 < of["n_labelled"] < entry["n"] for of in entry["tasks"].values())
    assert run.accuracy > 0.7  # hue and brightness are easily told
    assert entry["tasks"]["count"]["mae"] < entry["tasks"]["count"]["training_mean_mae"]
    history = (run.path / "history.csv").read_text().splitlines()[0].split(",")
    assert {"val_hue_loss", "val_parts_accuracy", "val_count_loss"} <= set(history)
    evaluated = tlkit.evaluate(run.path)
    assert evaluated.metrics["tasks"] == entry["tasks"]
    model = keras.saving.load_model(run.path / "model.keras")
    outputs = model.predict_on_batch(np.zeros((1, 32, 32, 3), "float32"))
    assert {name: values.shape[-1] for name, values in outputs.items()} == {"hue": 2, "parts": 2, "count": 1}
    answers = tlkit.load_run(run.path).predict([str(next((labels.parent / "photos" / "b").iterdir()))])[0].answers
    assert {answer.kind for answer in answers.values()} == set(tasks.values())


def test_the_probe_alone_is_a_run(photos, tmp_path, tiny):
    run = make(photos, tmp_path / "run", tiny, {"stages": "probe"})
    assert run.accuracy > 0.7
    assert json.loads((run.path / "selection.json").read_text())["shipped"]["stage"] == -1
    assert (run.path / "history.csv").read_text().count("\n") == 1


def test_flips_of_digits_are_warned_of_and_imbalance_is_met(photo_folder, tmp_path, tiny):
    digits = photo_folder(tmp_path / "photos", classes=("6", "9"), per_class=50)
    for photo in sorted((digits / "9").iterdir())[4:]:
        photo.unlink()
    notes = Notes()
    run = make(digits, tmp_path / "run", tiny, {"stages": "probe", "data.augment": "flips"}, listener=notes)
    assert any("flips horizontally" in line and "look like digits" in line for line in notes.lines)
    assert any(line.startswith("imbalance: ") and "weigh more" in line for line in notes.lines)
    assert read_recipe(run.path / "recipe.toml").loss.imbalance == "class_weights"


def test_the_probe_ships_where_training_only_harms(photos, tmp_path, tiny):
    stages = [{"unfreeze": "all", "epochs": 1, "learning_rate": 9.0, "optimizer": "sgd", "clip_norm": 1.0}]
    notes = Notes()
    run = make(photos, tmp_path / "run", tiny, {"stages": stages}, listener=notes)
    assert any(line.endswith("not taken") for line in notes.lines)
    assert json.loads((run.path / "selection.json").read_text())["shipped"]["stage"] == -1
    probe = make(photos, tmp_path / "probe", tiny, {"stages": "probe"})
    assert run.metrics == probe.metrics


def test_a_head_that_is_not_linear_has_no_probe(photos, tmp_path, tiny):
    notes = Notes()
    stages = [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-2}]
    make(photos, tmp_path / "run", tiny, {"stages": stages, "head.hidden": [8]}, listener=notes)
    assert any("the head is not linear" in line for line in notes.lines)
    with pytest.raises(TlkitError, match="at least one stage"):
        make(photos, tmp_path / "none", tiny, {"stages": "probe", "head.hidden": [8]})


def test_what_is_measured_is_recorded_and_followed(photos, tmp_path, tiny):
    settings = {
        "training.precision": "auto",
        "stages": [{"unfreeze": 1, "epochs": 1, "learning_rate": 1e-4}],
        "training.checkpoint_seconds": 3600.0,
    }
    notes = Notes(stop_after=2)
    with pytest.raises(Stopped):
        make(photos, tmp_path / "run", tiny, settings, listener=notes)
    assert any(line.startswith("precision: ") for line in notes.lines)
    chosen = read_recipe(tmp_path / "run" / "recipe.toml").training.precision
    assert chosen in {"float32", "bfloat16"}
    again = Notes()
    make(photos, tmp_path / "run", tiny, settings, resume=True, listener=again)
    assert not any(line.startswith("precision: ") for line in again.lines)


def test_python_takes_any_key(photos, tmp_path, tiny):
    data = tlkit.load_data(photos)
    model = tlkit.build_model("efficientnet_lite0", data.tasks, image_size=32)
    stages = [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-3}]
    run = tlkit.finetune(model, data, stages=stages, settings={"loss.label_smoothing": 0.1}, out=tmp_path / "run")
    assert read_recipe(run.path / "recipe.toml").loss.label_smoothing == 0.1
    with pytest.raises(RecipeError, match="label_smothing"):
        tlkit.finetune(model, data, stages=stages, settings={"loss.label_smothing": 0.1}, out=tmp_path / "other")
    for key, where in (
        ("head.dropout", "build_model"),
        ("data.image_size", "build_model"),
        ("data.folds", "load_data"),
    ):
        with pytest.raises(RecipeError, match=where):
            tlkit.finetune(model, data, stages=stages, settings={key: 48}, out=tmp_path / "other")
    with pytest.raises(RecipeError, match="Did you mean 'gradual'"):
        tlkit.finetune(model, data, stages="gradul", out=tmp_path / "other")
    again = tlkit.finetune(model, data, recipe="quick", out=tmp_path / "quick")
    assert read_recipe(again.path / "recipe.toml").stages == []


def test_the_range_test_rises_from_tiny_rates_and_suggests_one(photos, tiny_lite0):
    recipe = read_recipe("default", tiny_lite0, {"stages": [{"unfreeze": 1, "epochs": 1, "learning_rate": 1e-3}]})
    found = find_learning_rate(
        read_recipe("default", tiny_lite0, {"stages": "head", "head.init": "random"}), photos, steps=30
    )
    ratios = np.divide(found.rates[1:], found.rates[:-1])
    np.testing.assert_allclose(ratios, ratios[0])
    assert found.rates[0] == pytest.approx(1e-7)
    assert found.suggestion == found.rates[int(np.argmin(found.losses))] / 10
    assert 1e-4 < found.suggestion < 1
    assert RangeTest([1e-7, 1e-6, 1e-5, 1e-4, 1e-3], [1.0, 1.01, 0.99, 1.0, 1.1], True).suggestion is None
    with pytest.raises(RecipeError, match="one of the 1 stages"):
        find_learning_rate(recipe, photos, stage=1)
