"""Several runs on one page: their figures, what differs, and whether a difference may be chance."""

import json

import numpy as np
import pytest
from made_runs import MULTI, NUMBER, SINGLE, edit, make_run
from page import read_page

from tlkit.delivery.folder import Folder
from tlkit.delivery.side_by_side import differing_keys, write_side_by_side


def page_of(tmp_path, *runs):
    return read_page(write_side_by_side(runs, tmp_path / "page.html"))


@pytest.mark.parametrize(("tasks", "key"), [(SINGLE, "accuracy"), (MULTI, "mean_average_precision"), (NUMBER, "mae")])
def test_headlines_and_figures_are_those_of_the_metrics(tmp_path, tasks, key):
    runs = [make_run(tmp_path / name, tasks, seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    entries = [json.loads((run / "metrics.json").read_text())["test"]["tasks"]["label"] for run in runs]
    page = page_of(tmp_path, *runs)
    rows = page.one("table", css="headlines").one("tbody").all("tr")
    for row, entry in zip(rows, entries, strict=True):
        assert row.values[:3] == [entry[key], *entry[f"{key}_interval"]]
    first = page.one("table", css="figures").one("tbody").all("tr")[0]
    assert first.values == [entry[key] for entry in entries]
    assert page.one("h1").values == [min(e[key] for e in entries), max(e[key] for e in entries)]
    assert [row[0] for row in page.one("table", css="headlines").table()] == ["one", "two", "three"]


def test_pairs_count_the_images_that_only_one_got_right(tmp_path):
    one = make_run(tmp_path / "one", quality=0.3, count=200)
    two = make_run(tmp_path / "two", quality=2, count=200, seed=1)
    predicted = [Folder(run).predicted for run in (one, two)]
    right = [found.outputs["label"].argmax(axis=1) == found.labels["label"] for found in predicted]
    won, lost = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())
    (row,) = page_of(tmp_path, one, two).one("table", css="paired").one("tbody").all("tr")
    assert (row.values[0], row.values[-1]) == ((won - lost) / 200, 200)
    assert f"the second is better: {won} images only the second got right, {lost} only the first" in row.text


def test_runs_without_images_in_common_are_not_paired(tmp_path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)
    text = (two / "splits.csv").read_text()
    (two / "splits.csv").write_text(text.replace(text.splitlines()[1].split(",")[2], "0" * 64))  # one image changed
    assert page_of(tmp_path, one, two).one("table", css="paired").one("tbody").values[-1] == 39
    (two / "predictions_test.csv").unlink()
    assert not page_of(tmp_path, one, two).all("table", css="paired")


def test_pairs_that_are_not_judged_are_counted(tmp_path):
    runs = [make_run(tmp_path / f"{seed}", seed=seed, pictures=False) for seed in range(7)]
    section = page_of(tmp_path, *runs).one("section", id="pairs")
    assert len(section.one("table", css="paired").table()) == 15
    assert "only the first pairs are judged here, 6 are not" in section.text
    assert "are not" not in page_of(tmp_path, *runs[:6]).one("section", id="pairs").text


def test_keys_that_differ():
    one = {"seed": 0, "head": {"dropout": 0.2, "hidden": []}, "stages": [{"epochs": 3}]}
    two = {"seed": 1, "head": {"dropout": 0.2, "hidden": [64]}, "stages": [{"epochs": 3}, {"epochs": 5}]}
    assert differing_keys([one, two]) == [
        ("seed", [0, 1]),
        ("head.hidden", [[], None]),
        ("head.hidden.0", [None, 64]),
        ("stages.1.epochs", [None, 5]),
    ]
    assert differing_keys([one, one]) == []


def test_recipes_and_classes_stand_beside_each_other(tmp_path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)
    (two / "recipe.toml").write_text((two / "recipe.toml").read_text().replace("epochs = 2", "epochs = 7"))
    page = page_of(tmp_path, one, two)
    assert page.one("table", css="keys").table() == [["stages.0.epochs", "2", "7"]]
    entries = [json.loads((run / "metrics.json").read_text())["test"]["tasks"]["label"] for run in (one, two)]
    for row in page.one("table", css="per-class").one("tbody").all("tr"):
        name = row.one("th").text
        assert row.values == [entry["per_class"][name]["f1"] for entry in entries]
    assert len(page.one("section", id="curves").all("svg")) == 2


def test_runs_of_other_tasks_keep_to_their_own(tmp_path):
    page = page_of(tmp_path, make_run(tmp_path / "one"), make_run(tmp_path / "two", {"size": NUMBER["label"]}))
    assert page.text.count("has no such task") == 2
    assert not page.all("table", css="paired")


def test_names_are_text_and_tell_the_runs_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = make_run(tmp_path / "a" / "<i>run</i>"), make_run(tmp_path / "b" / "<i>run</i>")
    page = page_of(tmp_path, one, two)
    names = [row[0] for row in page.one("table", css="headlines").table()]
    assert names == ["a/<i>run</i>", "b/<i>run</i>"]


def test_errors_share_one_scale(tmp_path):
    one, two = make_run(tmp_path / "one", NUMBER, quality=4), make_run(tmp_path / "two", NUMBER, quality=0.5)
    rows = page_of(tmp_path, one, two).one("table", css="headlines").one("tbody").all("tr")
    marks = [float(row.one("b").attributes["style"].removeprefix("left:").removesuffix("%")) for row in rows]
    errors = [row.values[0] for row in rows]
    np.testing.assert_allclose(marks[0] / marks[1], errors[0] / errors[1], rtol=0.02)


def test_a_run_with_no_figure(tmp_path):
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two", seed=1)

    def forget(metrics):
        metrics["test"]["tasks"]["label"] = {
            "kind": "single_label", "n_labelled": 0, "accuracy": None, "accuracy_interval": None
        }  # fmt: skip

    edit(two, "metrics.json", forget)
    assert page_of(tmp_path, one, two).one("table", css="headlines").table()[1][1] == "n/a"
