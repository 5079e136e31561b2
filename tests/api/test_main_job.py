"""The main job from a folder of images to a run folder, and the promises that a run folder makes."""

import csv
import json
import re
import shutil
import subprocess
import sys
import tomllib

import keras
import numpy as np
import pytest

import tlkit
from tlkit.api import finetune_recipe
from tlkit.api.job import Job
from tlkit.errors import DataError, RunError, TlkitError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.training.store import DiskStore

FILES = {
    "recipe.toml", "environment.json", "data.json", "splits.csv", "history.csv", "model.keras", "inputs.json",
    "metrics.json", "selection.json", "timing.json", "predictions_test.csv", "predictions_val.csv", "tensorboard",
    "report.html",
}  # fmt: skip


class Notes(Listener):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def weights_of(run):
    return keras.saving.load_model(run.path / "model.keras").get_weights()


def assert_same_run(one, other):
    """Same bits: the metrics file, and every weight."""
    assert (one.path / "metrics.json").read_bytes() == (other.path / "metrics.json").read_bytes()
    for mine, theirs in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def data_of(tiny_run):
    return tiny_run.path.parent / "photos"


def test_a_run_folder_holds_what_is_promised(tiny_run):
    assert {path.name for path in tiny_run.path.iterdir()} == FILES


def test_metrics_follow_from_the_predictions(tiny_run):
    metrics = json.loads((tiny_run.path / "metrics.json").read_text())
    assert metrics["primary"] == "test.tasks.label.accuracy"
    for split, used_for in {"test": [], "val": ["epoch"]}.items():
        rows = read_csv(tiny_run.path / f"predictions_{split}.csv")
        right = sum(row["label"] == row["label.prediction"] for row in rows)
        entry = metrics[split]
        assert entry["n"] == len(rows) == entry["tasks"]["label"]["n_labelled"]
        assert entry["tasks"]["label"]["accuracy"] == right / len(rows)
        assert entry["used_for"] == used_for
        of_true = [float(row[f"label.{row['label']}"]) for row in rows]
        assert entry["loss"] == pytest.approx(-np.mean(np.log(of_true)), rel=1e-5)


def test_the_history_has_a_row_per_epoch_and_the_chosen_one_is_kept(tiny_run):
    rows = read_csv(tiny_run.path / "history.csv")
    assert [(row["stage"], row["epoch"], row["step"]) for row in rows] == [
        ("0", "0", "2"), ("0", "1", "4"), ("1", "0", "2"),
    ]  # fmt: skip
    shipped = json.loads((tiny_run.path / "selection.json").read_text())["shipped"]
    (chosen,) = (row for row in rows if (int(row["stage"]), int(row["epoch"])) == (shipped["stage"], shipped["epoch"]))
    assert tiny_run.metrics["val"]["loss"] == pytest.approx(float(chosen["val_loss"]), rel=1e-4)


def test_splits_name_every_image_once(tiny_run):
    rows = read_csv(tiny_run.path / "splits.csv")
    assert len({row["path"] for row in rows}) == len(rows) == 24
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in rows)
    assert all(row["path"].startswith(row["label"] + "/") for row in rows)


def test_the_recipe_of_a_run_has_no_choice_left_open(tiny_run):
    recipe = tomllib.loads((tiny_run.path / "recipe.toml").read_text())
    assert "auto" not in json.dumps(recipe)
    assert recipe["data"]["image_size"] == 32
    assert [stage["epochs"] for stage in recipe["stages"]] == [2, 1]


def test_the_recipe_of_a_run_runs_again_to_the_same_bits(tiny_run, data_of, tmp_path):
    again = finetune_recipe(read_recipe(tiny_run.path / "recipe.toml"), data_of, out=tmp_path / "again")
    assert_same_run(tiny_run, again)


def test_another_seed_is_another_run(tiny_run, data_of, tmp_path):
    other = finetune_recipe(
        read_recipe(tiny_run.path / "recipe.toml", ["seed=1", "data.split_seed=1"]), data_of, out=tmp_path / "other"
    )
    assert any((a != b).any() for a, b in zip(weights_of(tiny_run), weights_of(other), strict=True))
    splits = [(run.path / "splits.csv").read_text() for run in (tiny_run, other)]
    assert splits[0] != splits[1]


def test_evaluate_finds_what_the_run_found(tiny_run):
    result = tlkit.evaluate(tiny_run.path)
    assert result.split == "test"
    assert result.metrics == tiny_run.metrics["test"]
    assert result.accuracy_interval[0] <= result.accuracy <= result.accuracy_interval[1]


def test_evaluate_on_other_data_uses_all_of_it(tiny_run, photo_folder, tmp_path):
    other = photo_folder(tmp_path / "other", per_class=3, seed=5)
    result = tlkit.evaluate(tiny_run, data=other, tta="flip")
    assert result.split == "data"
    assert result.metrics["n"] == 6


def test_evaluate_says_that_it_saw_training_images(tiny_run, data_of):
    notes = Notes()
    result = tlkit.evaluate(tiny_run.path, data=data_of, listener=notes)
    assert result.metrics["used_for"] == ["training", "epoch"]
    assert any("16 of the 24 images are in the run's own train split" in line for line in notes.lines)


def test_a_test_image_that_is_trained_on_makes_the_figures_optimistic(photo_folder, tiny, tmp_path):
    """Given splits are used as they are, copies and all."""
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        photo_folder(tmp_path / "photos" / split, per_class=4, seed=seed)
    shutil.copy(tmp_path / "photos" / "train" / "a" / "01.png", tmp_path / "photos" / "test" / "a" / "copy.png")
    recipe = read_recipe("default", tiny, {"stages": [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-3}]})
    notes = Notes()
    run = finetune_recipe(recipe, tmp_path / "photos", out=tmp_path / "run", listener=notes)
    assert "1 of the 9 test images are in the run's own train split: the figures flatter it" in notes.lines
    assert run.metrics["test"]["used_for"] == ["training"]
    assert run.metrics["val"]["used_for"] == ["epoch"]
    assert tlkit.evaluate(run.path).metrics == run.metrics["test"]
    rows = (run.path / "splits.csv").read_text().splitlines()
    for order in (1, -1):  # in which of the two the image is named last doesn't matter
        (run.path / "splits.csv").write_text("\n".join([rows[0], *rows[1:][::order]]) + "\n")
        seen = tlkit.evaluate(run.path, data=tmp_path / "photos" / "test")
        assert seen.metrics["used_for"] == ["training"]


def test_one_array_without_its_batch_axis_is_refused(tiny_run):
    with pytest.raises(DataError, match="Put a single image into a list"):
        tiny_run.predict(np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(TlkitError, match="Did you mean 'flip'"):
        tiny_run.predict([np.zeros((40, 50, 3), np.uint8)], tta="flop")


def test_what_python_chose_is_in_the_recipe(data_of, tmp_path):
    data = tlkit.load_data(data_of, seed=5, group_by="([0-9])[.]")
    model = tlkit.build_model("efficientnet_lite0", data.tasks, image_size=32, seed=3)
    stages = [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-2}]
    run = tlkit.finetune(model, data, stages=stages, out=tmp_path / "run")
    again = finetune_recipe(read_recipe(run.path / "recipe.toml"), data_of, out=tmp_path / "again")
    assert_same_run(run, again)
    test = run.metrics["test"]
    assert test["groups"] == len({data.groups[i] for i in data.indices("test")}) < test["n"]
    assert "groups of alike ones" in (run.path / "report.html").read_text()


def test_more_blocks_than_there_are_is_refused(data_of, tmp_path, tiny):
    with pytest.raises(TlkitError, match="expected at most 3"):
        finetune_recipe(
            read_recipe("feature_extraction", [*tiny, "stages.0.unfreeze=8"]), data_of, out=tmp_path / "run"
        )


def test_evaluate_notices_that_the_data_changed(photo_folder, tmp_path, tiny):
    photos = photo_folder(tmp_path / "photos")
    recipe = read_recipe("feature_extraction", [*tiny, "stages.0.epochs=1"])
    run = finetune_recipe(recipe, photos, out=tmp_path / "run")
    (photos / "a" / "00.jpg").unlink()
    with pytest.raises(RunError, match="changed since the run was made"):
        tlkit.evaluate(run.path)


def test_paths_folders_and_arrays_are_predicted_alike(tiny_run, data_of):
    rows = {row["path"]: row for row in read_csv(tiny_run.path / "predictions_test.csv")}
    paths = [data_of / path for path in rows]
    data = tlkit.load_data(data_of)
    arrays = [data.read(data.paths.index(path)) for path in rows]
    from_paths, from_arrays = tiny_run.predict(paths), tiny_run.predict(arrays)
    in_folder = {prediction.path: prediction for prediction in tiny_run.predict(data_of)}
    for row, path, one, two in zip(rows.values(), paths, from_paths, from_arrays, strict=True):
        assert one.label == two.label == in_folder[str(path)].label == row["label.prediction"]
        assert one.answers["label"].probabilities == two.answers["label"].probabilities
        assert one.probability == pytest.approx(float(row[f"label.{one.label}"]), rel=1e-6)


def test_a_gray_array_is_predicted_like_its_rgb_copy(tiny_run):
    gray = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    same = [gray, gray[:, :, None], np.repeat(gray[:, :, None], 3, axis=2)]
    assert len({prediction.probability for prediction in tiny_run.predict(same)}) == 1


def test_the_model_works_where_tlkit_was_never_imported(tiny_run, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    script = f"""
import sys, keras, numpy as np
model = keras.saving.load_model({str(tiny_run.path / "model.keras")!r})
images = np.load({str(tmp_path / "images.npy")!r})
as_bytes, as_floats = model.predict(images, verbose=0), model.predict(images.astype("float32"), verbose=0)
assert (as_bytes == as_floats).all()
assert not any(name.startswith("tlkit") for name in sys.modules)
np.save({str(tmp_path / "probabilities.npy")!r}, as_bytes)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    elsewhere = np.load(tmp_path / "probabilities.npy")
    here = np.asarray(tiny_run.model.predict_on_batch(images))
    np.testing.assert_allclose(elsewhere, here, atol=1e-5)
    np.testing.assert_allclose(elsewhere.sum(axis=1), 1, atol=1e-5)


def test_a_validation_split_that_is_the_only_one_is_marked_as_used(photo_folder, tmp_path, tiny):
    photo_folder(tmp_path / "given" / "train", per_class=6)
    photo_folder(tmp_path / "given" / "val", per_class=4, seed=1)
    run = finetune_recipe(
        read_recipe("feature_extraction", [*tiny, "stages.0.epochs=1"]), tmp_path / "given", out=tmp_path / "run"
    )
    assert run.metrics["primary"] == "val.tasks.label.accuracy"
    assert run.headline[1]["used_for"] == ["epoch"]
    assert "test" not in run.metrics
    assert json.loads((run.path / "data.json").read_text())["splits_given"] is True


def test_an_earlier_run_is_where_the_next_one_starts(data_of, tmp_path, tiny_lite0):
    stages = [{"unfreeze": 1, "epochs": 1, "learning_rate": 1e-3}]
    recipe = read_recipe("default", tiny_lite0, {"stages": stages, "head.init": "random"})  # no probe that may win
    earlier = finetune_recipe(recipe, data_of, out=tmp_path / "run")
    tasks = tlkit.load_data(data_of).tasks
    fresh = tlkit.build_model("efficientnet_lite0", tasks, image_size=32)
    later = tlkit.build_model("efficientnet_lite0", tasks, image_size=32, weights=str(earlier.path))
    trained = earlier.model.get_layer("top_conv").get_weights()[0]
    np.testing.assert_array_equal(later.get_layer("top_conv").get_weights()[0], trained)
    assert (fresh.get_layer("top_conv").get_weights()[0] != trained).any()


def two_layers(features):
    x = keras.layers.GlobalMaxPooling2D()(features)
    x = keras.layers.Dense(8, activation="relu")(x)
    return keras.layers.Dense(2, name="mine")(x)


def test_a_head_of_ones_own_trains_in_python(data_of, tmp_path):
    data = tlkit.load_data(data_of)
    model = tlkit.build_model("efficientnet_lite0", data.tasks, head=two_layers, image_size=32)
    before = model.get_layer("mine").get_weights()[0].copy()
    stages = [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-2}]
    run = tlkit.finetune(model, data, stages=stages, out=tmp_path / "run")
    assert (model.get_layer("mine").get_weights()[0] != before).any()
    assert "test_main_job:two_layers" in (run.path / "recipe.toml").read_text()
    assert tlkit.evaluate(run, tta="flip").metrics["n"] == len(data.indices("test"))


def test_arrays_and_a_model_of_ones_own_train_in_python(tmp_path):
    random = np.random.default_rng(0)
    labels = np.repeat(["dark", "light"], 20)
    images = np.where((labels == "dark")[:, None, None], 40, 200) + random.integers(-20, 20, (40, 16, 16))
    data = tlkit.load_data((images.astype(np.uint8), labels))
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, name="block1")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="block2")(x))
    model = keras.Model(image, keras.layers.Activation("softmax", name="label")(keras.layers.Dense(2)(x)), name="own")
    stages = [{"unfreeze": "all", "epochs": 20, "learning_rate": 3e-2}]
    run = tlkit.finetune(model, data, stages=stages, out=tmp_path / "run", block_ends=["block1", "block2"])
    assert run.accuracy == 1.0
    with pytest.raises(TlkitError, match="pass `block_ends"):
        tlkit.finetune(model, data, stages=stages, out=tmp_path / "other")


@pytest.mark.parametrize("mode", ["disk", "ram"])
def test_where_features_are_kept_changes_no_bit(mode, data_of, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    settings = [*tiny, "data.views=2", "stages.0.epochs=3"]
    kept, streamed = (
        finetune_recipe(
            read_recipe("feature_extraction", [*settings, f"training.cache={choice}"]), data_of, out=tmp_path / choice
        )
        for choice in (mode, "off")
    )
    assert_same_run(kept, streamed)
    assert (tmp_path / "cache" / "features").exists() == (mode == "disk")
    assert f'cache = "{mode}"' in (kept.path / "recipe.toml").read_text()
    assert json.loads((kept.path / "timing.json").read_text())["feature_pass_seconds"] > 0
    assert json.loads((streamed.path / "timing.json").read_text())["feature_pass_seconds"] == 0
    assert tlkit.evaluate(kept.path).metrics == tlkit.evaluate(streamed.path).metrics == kept.headline[1]


def test_another_head_finds_the_features_of_the_first(data_of, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    passes = []

    class Passes(Listener):
        def features_computed(self, done, total, what):
            passes.append(what)

    for name, hidden in (("one", "[]"), ("other", "[8]")):
        recipe = read_recipe(
            "feature_extraction", [*tiny, "data.views=1", "stages.0.epochs=2", f"head.hidden={hidden}"]
        )
        before = len(passes)
        finetune_recipe(recipe, data_of, out=tmp_path / name, listener=Passes())
        assert (len(passes) > before) == (name == "one")


def test_views_are_few_only_while_layers_are_frozen(data_of):
    stages = '[{unfreeze=0, epochs=6, learning_rate=1e-2}, {unfreeze="all", epochs=2, learning_rate=1e-3}]'
    recipe = read_recipe("default", [f"stages={stages}", "data.views=4", "data.image_size=32"])
    views = Job(recipe, tlkit.load_data(data_of), ("one", "two"), None, Listener()).resolve().views()
    assert [views.number(epoch) for epoch in range(8)] == [0, 1, 2, 3, 0, 1, 6, 7]


def test_a_cache_that_cannot_be_written_leaves_memory(data_of, tmp_path, tiny, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "file"))
    notes = Notes()
    recipe = read_recipe("feature_extraction", [*tiny, "stages.0.epochs=2"])
    run = finetune_recipe(recipe, data_of, out=tmp_path / "run", listener=notes)
    assert 'cache = "ram"' in (run.path / "recipe.toml").read_text()
    about_features = [line for line in notes.lines if line.startswith("features:")]
    assert len(about_features) == 2
    assert "nothing can be kept on disk" in about_features[0]
    assert "Not a directory" in about_features[0]
    assert "kept in memory" in about_features[1]


def test_folds_share_one_pass(photo_folder, tmp_path, tiny, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    photos = photo_folder(tmp_path / "photos", per_class=6)
    recipe = read_recipe(
        "feature_extraction", [*tiny, "data.folds=3", "data.views=1", "stages.0.epochs=2", "data.batch_size=4"]
    )
    notes = Notes()
    finetune_recipe(recipe, photos, out=tmp_path / "run", listener=notes)
    assert len([line for line in notes.lines if line.startswith("features:")]) == 1
    entries = DiskStore().entries()
    assert sorted(entry.what for entry in entries) == [
        "lenet5, pooled, evaluation view of photos",
        "lenet5, pooled, training view 0 of photos",
    ]
    assert [entry.rows for entry in entries] == [12, 12]


def test_folds_test_every_image_once(photo_folder, tmp_path, tiny):
    photos = photo_folder(tmp_path / "photos", per_class=6)
    recipe = read_recipe("feature_extraction", [*tiny, "data.folds=3", "stages.0.epochs=1"])
    run = finetune_recipe(recipe, photos, out=tmp_path / "run")
    assert run.metrics["primary"] == "cv.tasks.label.accuracy"
    assert run.metrics["cv"]["n"] == 12
    assert run.metrics["cv"]["used_for"] == []
    tested = [
        row["path"]
        for fold in range(3)
        for row in read_csv(run.path / "folds" / str(fold) / "splits.csv")
        if row["split"] == "test"
    ]
    assert sorted(tested) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    shipped = read_csv(run.path / "splits.csv")
    assert {row["split"] for row in shipped} == {"train", "val"}
    assert tlkit.load_run(run.path).accuracy == run.accuracy
    assert tlkit.evaluate(run.path).split == "val"


def test_small_data_and_bad_files_are_said_on_the_screen(photo_folder, tmp_path, tiny):
    photos = photo_folder(tmp_path / "photos")
    (photos / "a" / "broken.jpg").write_bytes(b"")
    notes = Notes()
    recipe = read_recipe("feature_extraction", [*tiny, "stages.0.epochs=1"])
    run = finetune_recipe(recipe, photos, out=tmp_path / "run", listener=notes)
    screen = "\n".join(notes.lines)
    assert "24 images, 2 classes: train 16, val 4, test 4" in screen
    assert "1 left out" in screen
    assert "a/broken.jpg" in screen
    assert re.search(r"interval will be some \d+ points wide; --folds 5", screen)
    assert "head only, 1 epoch," in screen
    findings = json.loads((run.path / "data.json").read_text())["findings"]
    assert [finding["path"] for finding in findings] == ["a/broken.jpg"]
