"""`tlkit compare` and `tlkit evaluate --ensemble` on the screen and as JSON."""

import json
import shutil

import numpy as np
import pytest
from compared_runs import recipe, says, write_run

TRUTH = np.array([0, 1, 2] * 10)


def write(folder, wrong, **settings):
    answers = TRUTH.copy()
    answers[:wrong] = (answers[:wrong] + 1) % 3
    return write_run(folder, range(30), {"label": TRUTH}, {"label": says(answers)}, **settings)


@pytest.fixture
def runs(tmp_path):
    """Two seeds of one recipe, and a better run of another."""
    return [
        write(tmp_path / "runs" / "a0", 8, recipe=recipe(0, loss="a")),
        write(tmp_path / "runs" / "a1", 10, recipe=recipe(1, loss="a")),
        write(tmp_path / "runs" / "b", 0, recipe=recipe(0, loss="b"), others={"x": "train"}),
    ]


def test_compare_prints_a_table_and_a_verdict(tlkit, runs):
    status, out, err = tlkit("compare", *runs)
    assert status == 0, err
    first, second, *_ = out.splitlines()
    assert first == "test: 30 images that all held out"
    assert second == "accuracy, 30 images with a label"
    rows = {line.split()[0]: line for line in reversed(out.splitlines()) if line.strip()}  # of the first table
    assert "0.733" in rows["a0"]
    assert "the first" in rows["a0"]
    assert "better: 8 of 30 more right, p = 0.016" in rows["b"]  # 2 / 2^8, twice for two comparisons
    assert "+0.267" in rows["b"]
    assert "not distinguishable: 2 images of 30 decide, 0 for and 2 against" in rows["a1"]


def test_seeds_have_a_table_of_their_own(tlkit, runs, tmp_path):
    again = write(tmp_path / "runs" / "a2", 9, recipe=recipe(2, loss="a"))
    status, out, _ = tlkit("compare", *runs[:2], again)
    assert status == 0
    (row,) = [line for line in out.splitlines() if "a0, a1, a2" in line]
    assert "0, 1, 2" in row
    assert "0.700" in row
    assert "0.667 to 0.733" in row


def test_compare_as_json(tlkit, runs):
    status, out, _ = tlkit("compare", *runs[::2], "--json")
    document = json.loads(out)
    assert (status, document["split"], document["n"]) == (0, "test", 30)
    second = document["tasks"]["label"]["runs"][1]
    assert (second["run"], second["difference"]["won"], second["difference"]["lost"]) == ("b", 8, 0)


def test_what_is_left_out_and_what_chose_something_is_said(tlkit, tmp_path):
    first = write(tmp_path / "a", 8, split="val", used_for=["epoch"])
    second = write_run(
        tmp_path / "b", [0, 1, 90], {"label": [0, 1, 2]}, {"label": says([0, 1, 2])}, split="val", others={2: "train"}
    )
    _, out, _ = tlkit("compare", first, second)
    assert out.splitlines()[0] == (
        "val: 2 images that all held out; left out: 1 trained on by one of them, 28 unknown to one "
        "(optimistic: these images were used for choosing the epoch)"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("compare runs/a0", "expected at least two runs. Received: 1"),
        ("compare runs/a0 runs/a0", "the same folder twice"),
        ("compare runs/a0 runs/c", "no such run folder"),
        ("compare runs/a0 runs/b --split cv", "has no figures of cv. It has: test"),
        ("compare runs/a0 runs", "not a run folder"),
        ("evaluate runs/a0 --ensemble runs/c", "no such run folder"),
    ],
)
def test_mistakes_are_one_line(tlkit, runs, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    status, out, err = tlkit(*words.split())
    assert (status, out) == (2, "")
    assert expected in err
    assert len(err.splitlines()) == 1


def test_an_ensemble_of_real_runs(tlkit, tiny_run, tmp_path):
    """A run and its copy: the average is what each says, so nothing differs."""
    copy = shutil.copytree(tiny_run.path, tmp_path / "copy")
    status, out, err = tlkit("evaluate", tiny_run.path, "--ensemble", copy, "--tta", "flip", "--json")
    assert status == 0, err
    both = json.loads(out)
    alone = json.loads(tlkit("evaluate", tiny_run.path, "--tta", "flip", "--json")[1])
    assert both["tasks"]["label"]["accuracy"] == alone["tasks"]["label"]["accuracy"]
    assert both["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert "ensemble" not in alone
    entry = both["ensemble"]["tasks"]["label"]
    assert (entry["won"], entry["lost"], entry["members"]) == (0, 0, [alone["tasks"]["label"]["accuracy"]] * 2)
    _, out, _ = tlkit("evaluate", tiny_run.path, "--ensemble", copy)
    assert f"average against {tiny_run.path}: gain +0.000" in out
    assert out.splitlines()[-1] == "not distinguishable: right on the same images"
    _, out, _ = tlkit("compare", tiny_run.path, copy)
    assert f"{tiny_run.accuracy:.3f}" in out
