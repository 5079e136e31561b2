"""What may differ where a run is taken up again, and what is said of it; nothing is trained."""

import shutil

import pytest

import tlkit
from tlkit import run as run_folder
from tlkit.api.job import Job
from tlkit.api.resuming import changed_versions, check_allowed, record_changes, record_data, recorded_changes, take_up
from tlkit.errors import RecipeError, RunError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe

SETTINGS = {"data.image_size": 32, "data.batch_size": 8, "stages": "probe"}
ENVIRONMENT = {
    "started": "2026-01-02",
    "packages": {"tlkit": "0.1.0", "keras": "3.15.1"},
    "threads": 2,
    "device": "CPU",
    "processor": {"features": ["avx2"]},
}


def resolved(data, recipe="default", **settings):
    recipe = read_recipe(recipe, (), settings)
    return Job(recipe, data, ("a", "b"), None, Listener()).resolve().recipe


@pytest.fixture
def begun(photos, tmp_path):
    """The folder of photos, and that of a run on them that has just begun."""
    data, path = tlkit.load_data(photos), tmp_path / "run"
    path.mkdir()
    record_data(path, data)
    run_folder.write_text(path / run_folder.RECIPE, resolved(data, **SETTINGS).to_toml())
    run_folder.write_json(path / run_folder.ENVIRONMENT, ENVIRONMENT)
    return photos, path


def taken_up(photos, path, *allowed, **settings):
    data = tlkit.load_data(photos)
    return take_up(path, resolved(data, path / run_folder.RECIPE, **settings), data, frozenset(allowed))


def test_the_same_run_goes_on_as_it_was(begun):
    photos, path = begun
    run = taken_up(photos, path)
    assert run.changes == {}
    assert run.recipe == read_recipe(path / "recipe.toml")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"training.ema": 0.5}, r"training.ema \(0.0 before, 0.5 now\)"),
        ({"data.augment": "heavy", "data.views": 3}, r"data.augment .*, data.views \(\d before, 3 now\)"),
    ],
)
def test_another_recipe_is_refused_with_both_values(settings, told, begun):
    with pytest.raises(RunError, match=f"this run's recipe differs in {told}.*--allow-changed recipe"):
        taken_up(*begun, **settings)
    run = taken_up(*begun, "recipe", **settings)
    key, value = next(iter(settings.items()))
    assert run.changes["recipe"][key][1] == value
    assert run.recipe.model_dump()["training"]["ema"] == settings.get("training.ema", 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"backbone.name": "resnet50"},
        {"head.hidden": [8]},
        {"training.monitor": "accuracy"},
        {"data.fit": "squash"},
    ],
    ids=str,
)
def test_what_makes_it_another_run_cant_be_allowed(settings, begun):
    with pytest.raises(RunError, match="can't change under way"):
        taken_up(*begun, "recipe", "data", "versions", **settings)


def test_where_features_are_kept_is_no_change(begun):
    run = taken_up(*begun, **{"training.cache": "ram"})
    assert (run.changes, run.recipe.training.cache) == ({}, "ram")


def image_of(path, split, number=0):
    """Return the name of an image of a run, `class/file`."""
    rows = [line.split(",") for line in (path / "splits.csv").read_text().splitlines()]
    return [row[0] for row in rows if row[1] == split][number]


def add(photos, path):
    shutil.copy(photos / image_of(path, "train"), photos / "a" / "copy.png")


def alter(photos, path, split="train"):
    file = photos / image_of(path, split)
    file.write_bytes(file.read_bytes() + b"\0")


def remove(photos, path, split="train"):
    (photos / image_of(path, split)).unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add, r"1 image more \(a/copy.png\)"),
        (alter, r"1 image with other contents \(a/\d\d.\w+\)"),
        (remove, r"1 image fewer \(a/\d\d.\w+\)"),
    ],
)
def test_other_training_images_are_refused_by_name_or_allowed(change, told, begun):
    photos, path = begun
    splits = {image_of(path, split, n) for split in ("val", "test") for n in range(3)}
    change(photos, path)
    with pytest.raises(RunError, match=f"the data changed since this run began: {told}.*--allow-changed data"):
        taken_up(photos, path)
    run = taken_up(photos, path, "data")
    held_out = {run.data.paths[i] for split in ("val", "test") for i in run.data.indices(split)}
    assert splits <= held_out  # the images are not dealt out anew
    assert "copy.png" not in str(held_out)
    assert run.changes["data"]["images"][1].startswith("1 image")
    record_data(path, run.data)
    record_changes(path, ENVIRONMENT, run.changes, {"stage": 0})
    assert taken_up(photos, path).changes == {}  # once allowed, it needn't be again


def test_a_new_image_goes_where_its_equal_is(begun):
    photos, path = begun
    shutil.copy(photos / image_of(path, "test"), photos / "a" / "copy.png")
    run = taken_up(photos, path, "data")
    assert "a/copy.png" in {run.data.paths[i] for i in run.data.indices("test")}


@pytest.mark.parametrize("change", [alter, remove])
def test_other_validation_images_cant_be_allowed(change, begun):
    photos, path = begun
    change(photos, path, "val")
    with pytest.raises(RunError, match="the validation images changed"):
        taken_up(photos, path, "data")


def test_images_that_were_trained_on_cant_be_for_testing(tmp_path, photo_folder):
    folder = photo_folder(tmp_path / "photos" / "train", per_class=12)
    photo_folder(tmp_path / "photos" / "val", per_class=4, seed=1)
    photo_folder(tmp_path / "photos" / "test", per_class=4, seed=2)
    data, path = tlkit.load_data(tmp_path / "photos"), tmp_path / "run"
    path.mkdir()
    record_data(path, data)
    run_folder.write_text(path / run_folder.RECIPE, resolved(data, **SETTINGS).to_toml())
    (folder / "a" / "00.jpg").rename(tmp_path / "photos" / "test" / "a" / "moved.jpg")
    with pytest.raises(RunError, match="images that the run has trained on are for testing now"):
        taken_up(tmp_path / "photos", path, "data")


def test_images_that_were_taken_away_cant_come_back_for_testing(tmp_path, photo_folder):
    photos, path = tmp_path / "photos", tmp_path / "run"
    folder = photo_folder(photos / "train", per_class=12)
    photo_folder(photos / "val", per_class=4, seed=1)
    photo_folder(photos / "test", per_class=4, seed=2)
    data = tlkit.load_data(photos)
    path.mkdir()
    record_data(path, data)
    run_folder.write_text(path / run_folder.RECIPE, resolved(data, **SETTINGS).to_toml())
    run_folder.write_json(path / run_folder.ENVIRONMENT, ENVIRONMENT)
    (folder / "a" / "00.jpg").rename(tmp_path / "away.jpg")
    run = taken_up(photos, path, "data")
    record_data(path, run.data)
    record_changes(path, ENVIRONMENT, run.changes, {"stage": 0})
    (tmp_path / "away.jpg").rename(photos / "test" / "a" / "moved.jpg")
    with pytest.raises(RunError, match="images that the run has trained on are for testing now"):
        taken_up(photos, path, "data")


def test_other_classes_cant_be_allowed(begun, photo_folder):
    photos, path = begun
    photo_folder(photos, classes=("c",), seed=3)
    with pytest.raises(RunError, match="the classes changed"):
        taken_up(photos, path, "data")


def test_a_cross_validated_run_keeps_its_images(begun):
    photos, path = begun
    data = tlkit.load_data(photos)
    run_folder.write_text(path / run_folder.RECIPE, resolved(data, **SETTINGS | {"data.folds": 3}).to_toml())
    add(photos, path)
    with pytest.raises(RunError, match="a cross-validated run can't go on with other images"):
        taken_up(photos, path, "data")


def test_other_versions_are_refused_with_both_and_recorded_where_allowed(begun):
    _, path = begun
    assert changed_versions(path, ENVIRONMENT | {"started": "later"}, frozenset()) == {}
    now = ENVIRONMENT | {"threads": 4, "packages": {"tlkit": "0.1.0", "keras": "4.0"}}
    with pytest.raises(RunError, match=r"packages.keras \(3.15.1 before, 4.0 now\), threads \(2 before, 4 now\)"):
        changed_versions(path, now, frozenset({"recipe", "data"}))
    changed = changed_versions(path, now, frozenset({"versions"}))
    record_changes(path, now, {"versions": changed}, {"stage": 1, "epoch": 2, "step": 3})
    recorded = run_folder.read_json(path / run_folder.ENVIRONMENT)
    assert (recorded["threads"], recorded["started"]) == (4, "2026-01-02")
    [change] = recorded["changes"]
    assert (change["what"], change["stage"], change["changed"]["threads"]) == ("versions", 1, [2, 4])
    assert recorded_changes(path) == {"versions"}
    assert changed_versions(path, now, frozenset()) == {}


STRANGE = {
    "[]": "environment.json: expected JSON written by tlkit. Received: no object",
    '{"packages": 3}': "the run began with other versions",
    '{"threads": {"a": 1}}': "the run began with other versions",
}


@pytest.mark.parametrize("environment", STRANGE)
def test_a_strange_environment_is_another_one(environment, begun):
    _, path = begun
    (path / run_folder.ENVIRONMENT).write_text(environment)
    with pytest.raises(RunError, match=STRANGE[environment]):
        changed_versions(path, ENVIRONMENT, frozenset())


def test_only_what_can_change_can_be_allowed(tlkit, tmp_path):
    with pytest.raises(RecipeError, match=r"one of recipe, data, versions. Received: 'recipes'. Did you mean 'recipe'"):
        check_allowed(["recipes"])
    status, _, errors = tlkit("finetune", "--data", tmp_path, "--allow-changed", "data")
    assert status == 2
    assert "--allow-changed: it says what a run may go on with. Give --resume, too" in errors
    status, _, errors = tlkit("tune", "--resume", "--out", tmp_path, "--allow-changed", "nothing")
    assert status == 2
    assert "'nothing' is not one of 'recipe', 'data', 'versions'" in errors
