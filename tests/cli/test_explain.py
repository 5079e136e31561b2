"""`tlkit explain`: the figures of every kind of task, what is left out without the data, and one line for mistakes."""

import json
import shutil

import cv2
import numpy as np
import pytest

import tlkit as package
from tlkit import run as run_folder

explain = package.explain


def first_photo(run):
    """Return the path of a training image of a run on photos, and its class."""
    data = run_folder.read_json(run.path / run_folder.DATA)
    row = next(row for row in (run.path / "splits.csv").read_text().splitlines() if ",train," in row)
    path, _, _, label = row.split(",")
    return f"{data['source']}/{path}", label


@pytest.fixture(scope="module")
def photo(tiny_lite0_run):
    return first_photo(tiny_lite0_run)


def test_all_figures_and_arrays(tlkit, tiny_lite0_run, photo, tmp_path):
    path, label = photo
    out = tmp_path / "why"
    before = (tiny_lite0_run.path / "model.keras").read_bytes()
    status, printed, _ = tlkit("explain", tiny_lite0_run.path, path, "--out", out, "--json")
    assert status == 0
    (found,) = json.loads(printed)
    assert found["class"] == max(found["probabilities"], key=found["probabilities"].get)
    assert found["true"] == label
    assert found["notes"] == []
    assert sorted(file.name for file in out.iterdir()) == [
        "ascent.png", "channels.png", "filters.png", "maps.npz", "maps.png", "neighbours.png",
    ]  # fmt: skip
    for figure in out.glob("*.png"):
        pixels = cv2.imread(str(figure))
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 10  # something is drawn
    with np.load(out / "maps.npz") as arrays:
        assert arrays["image"].shape == (32, 32, 3)
        for name in ("grad_cam", "occlusion", "gradient", "guided", "guided_grad_cam"):
            assert arrays[name].shape == (32, 32)
            assert np.isfinite(arrays[name]).all()
            assert name == "occlusion" or arrays[name].min() >= 0
        np.testing.assert_allclose(arrays["guided_grad_cam"], arrays["guided"] * arrays["grad_cam"])
    nearest = found["neighbours"]
    assert nearest[0]["distance"] == pytest.approx(0, abs=1e-4)
    assert path.endswith(nearest[0]["path"])
    assert [one["distance"] for one in nearest] == sorted(one["distance"] for one in nearest)
    assert (tiny_lite0_run.path / "model.keras").read_bytes() == before
    status, _, said = tlkit("explain", tiny_lite0_run.path, path, "--out", out, "--only", "maps")
    assert status == 2
    assert "maps.png exists already" in said


def test_the_same_image_gives_the_same_bytes_alone_or_among_others(tiny_lite0_run, photo, tmp_path):
    path, label = photo
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), np.full((40, 50, 3), 90, np.uint8))
    settings = {"parts": ("maps", "filters"), "maps": ("grad_cam",), "class_name": label}
    one = explain(tiny_lite0_run, path, out=tmp_path / "one", **settings)
    two, plain = explain(tiny_lite0_run, [path, other], out=tmp_path / "two", **settings)
    assert two.files["maps"].read_bytes() == one.files["maps"].read_bytes()
    np.testing.assert_array_equal(two.maps["grad_cam"], one.maps["grad_cam"])
    assert (plain.truth, plain.class_name) == ("", label)
    assert plain.files["maps"] == tmp_path / "two" / "other" / "maps.png"
    assert sorted(one.maps) == ["grad_cam"]


def test_without_the_data_the_rest_is_made(tlkit, tiny_lite0_run, photo, tmp_path):
    path, label = photo
    moved = tmp_path / "run"
    shutil.copytree(tiny_lite0_run.path, moved)
    described = json.loads((moved / "data.json").read_text())
    (moved / "data.json").write_text(json.dumps(described | {"source": str(tmp_path / "gone")}))
    settings = ("--out", tmp_path / "why", "--only", "filters", "--only", "neighbours")
    status, printed, said = tlkit("explain", moved, path, *settings)
    assert status == 0
    assert "neighbours: left out" in said
    assert f"(true: {label})" in printed
    assert [file.name for file in (tmp_path / "why").iterdir()] == ["filters.png"]
    status, _, said = tlkit("explain", moved, path, "--out", tmp_path / "why", "--only", "channels")
    assert status == 2
    assert "gone: no such file or folder" in said


@pytest.fixture(scope="module")
def three_tasks(tmp_path_factory, tiny):
    """A run of one task of each kind."""
    from tlkit.api import finetune_recipe
    from tlkit.recipe import read_recipe

    folder = tmp_path_factory.mktemp("three")
    random = np.random.default_rng(0)
    lines = ["path,marks,side,stage"]
    for number in range(24):
        cv2.imwrite(str(folder / f"{number}.png"), random.integers(0, 256, (40, 40, 3), np.uint8))
        lines.append(f"{number}.png,{('red', 'red|blue', 'blue')[number % 3]},{number / 2},{'ab'[number % 2]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    kinds = {"marks": "multilabel", "side": "regression", "stage": "single_label"}
    settings = {"tasks": kinds, "stages": [{"unfreeze": 0, "epochs": 1, "learning_rate": 1e-2}], "head.init": "random"}
    return finetune_recipe(read_recipe("default", tiny, settings), folder / "labels.csv", out=folder / "run"), folder


@pytest.mark.parametrize(
    ("settings", "task", "what"),
    [
        (("--class", "blue"), "marks", "blue"),
        pytest.param((), "marks", None, marks=pytest.mark.slow),
        pytest.param(("--class", "b"), "stage", "b", marks=pytest.mark.slow),
        (("--task", "side"), "side", None),
    ],
)
def test_every_kind_of_task(tlkit, three_tasks, tmp_path, settings, task, what):
    run, folder = three_tasks
    parts = [part for name in ("neighbours", "channels") for part in ("--only", name)]
    image = folder / "4.png"
    status, printed, said = tlkit("explain", run.path, image, "--out", tmp_path / "why", "--json", *settings, *parts)
    assert status == 0, said
    (found,) = json.loads(printed)
    assert found["task"] == task
    assert found["class"] == what or what is None
    assert (found["class"] is None) == (task == "side") == ("value" in found)
    assert found["true"] == {"marks": "blue|red", "side": "2", "stage": "a"}[task]
    assert len(found["neighbours"]) == 6
    assert len(found["channels"]) == 5


def test_a_class_may_have_the_sign_between_labels_in_its_name(photo_folder, tmp_path, tiny, monkeypatch):
    from tlkit.api import finetune_recipe
    from tlkit.evaluation.explain import sheets
    from tlkit.recipe import read_recipe

    drawn, draw = [], sheets.draw_neighbours
    monkeypatch.setattr(sheets, "draw_neighbours", lambda *what: drawn.append(what) or draw(*what))
    photos = photo_folder(tmp_path / "photos", ("a|b", "c"), per_class=6)
    run = finetune_recipe(read_recipe("default", tiny, {"stages": "probe"}), photos, out=tmp_path / "run")
    found = explain(run, photos / "a|b" / "00.jpg", out=tmp_path / "why", parts=("neighbours",))
    ((_, caption, _, known, neighbours, _),) = drawn
    assert (caption, known) == ("true: a|b", [found.truth])
    assert {label for _, label, _ in neighbours} <= {"a|b", "c"}


def photo_only(here):
    cv2.imwrite(str(here / "a.png"), np.zeros((40, 40, 3), np.uint8))


def photo_and_figure(here):
    photo_only(here)
    (here / "explain-a").mkdir()
    (here / "explain-a" / "maps.png").write_text("keep me")


def no_photo(here):
    (here / "a.png").write_text("no photo")


def two_alike(here):
    photo_only(here)
    (here / "b").mkdir()
    shutil.copy(here / "a.png", here / "b" / "a.png")


MISTAKES = {
    "no run": (photo_only, "explain mine a.png", "mine: no such run folder"),
    "no image": (photo_only, "explain {run}", "IMAGE"),
    "missing": (photo_only, "explain {run} gone.png", "gone.png: no such file"),
    "no photo": (no_photo, "explain {run} a.png", "a.png: can't be read as an image"),
    "class": (photo_only, "explain {run} a.png --class aa", "Did you mean 'a'?"),
    "task": (photo_only, "explain {run} a.png --task lable", "Did you mean 'label'?"),
    "layer": (photo_only, "explain {run} a.png --layer top_activatio", "Did you mean 'top_activation'?"),
    "no feature map": (photo_only, "explain {run} a.png --layer label", "must give a feature map"),
    "figure": (photo_only, "explain {run} a.png --only map", "map"),
    "exists": (photo_and_figure, "explain {run} a.png", "maps.png exists already"),
    "out is a file": (photo_only, "explain {run} a.png --out a.png", "expected a folder"),
    "two of a name": (two_alike, "explain {run} a.png b/a.png", "two images are called 'a'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(tlkit, tiny_lite0_run, tmp_path, monkeypatch, name):
    prepare, command, said = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    status, printed, answer = tlkit(*command.format(run=tiny_lite0_run.path).split())
    assert status == 2
    assert printed == ""
    assert said in answer.splitlines()[-1]
    assert before == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))


def test_a_number_has_no_classes(tlkit, three_tasks, tmp_path):
    run, folder = three_tasks
    settings = ("--task", "side", "--class", "a", "--out", tmp_path / "why")
    status, _, said = tlkit("explain", run.path, folder / "4.png", *settings)
    assert status == 2
    assert "side is a number and has no classes" in said
