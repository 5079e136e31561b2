"""What `evaluate` prints of the figures, and `predict --conformal` of the sets; the model is a table here."""

import csv
import hashlib
import json

import numpy as np
import pytest
from fake_runs import INPUTS, outputs, write_run
from PIL import Image

from tlkit.cli.training import headline
from tlkit.delivery.predict import Run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "probabilities", outputs)
    return write_run(tmp_path / "run")


@pytest.fixture
def with_sets(run):
    """The same run, with sets of the classes of `stage` that have a probability of at least 0.25."""
    stage = INPUTS["tasks"]["stage"] | {"conformal": {"alpha": 0.1, "threshold": 0.25}}
    (run / "inputs.json").write_text(json.dumps(INPUTS | {"tasks": INPUTS["tasks"] | {"stage": stage}}))
    return run


@pytest.fixture
def table(tmp_path):
    rows = ["path,cells,count,stage"]
    for i in range(12):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,RBC,{i + 0.5},{('early', 'late')[i % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "labels.csv"


def test_evaluate_says_what_the_probabilities_are_worth(tlkit, run, table):
    status, out, err = tlkit("evaluate", run, "--data", table)
    assert status == 0, err
    lines = out.splitlines()
    assert sum(line.startswith("log loss 0.") and "Brier score" in line for line in lines) == 2  # cells and stage
    (stage,) = [line for line in lines if line.startswith("macro F1") and "ROC AUC" in line and "mean" not in line]
    assert stage.startswith("macro F1 0.")
    assert "(0." in stage  # its interval
    assert "weighted F1" in stage
    # Images 0, 2, 4, ... are early; the table says early of every image but 1, 4, 7 and 10.
    assert "most often confused: late taken for early (4), early taken for late (2)" in lines
    (count,) = [line for line in lines if line.startswith("root mean squared error ")]
    assert "R squared" in count
    assert "conformal" not in out


def test_evaluate_checks_the_conformal_sets(tlkit, with_sets, table):
    status, out, _ = tlkit("evaluate", with_sets, "--data", table)
    assert status == 0
    # Rows (0.75, 0.25), (0.125, 0.875), (0.5, 0.5): both classes but for every third image, which is said to be late.
    assert "conformal sets: hold the true class of 0.833" in out
    assert "0.9 was asked for; 1.67 classes a set" in out


def test_images_that_the_run_has_used_check_no_sets(tlkit, with_sets, table):
    seen = hashlib.sha256((table.parent / "03.png").read_bytes()).hexdigest()
    (with_sets / "splits.csv").write_text(f"path,split,sha256\n03.png,val,{seen}\n")
    status, out, _ = tlkit("evaluate", with_sets, "--data", table)
    assert status == 0
    assert "conformal sets: no labelled image to check them on that the run has not used" in out
    assert "hold the true class" not in out


def test_predict_shows_the_sets_that_are_asked_for(tlkit, with_sets, table, tmp_path):
    images = [table.parent / f"{i:02}.png" for i in range(2)]
    status, out, _ = tlkit("predict", with_sets, *images, "--conformal")
    assert status == 0
    header, _, *rows = [line.split() for line in out.splitlines() if line.strip()]
    assert header[-2:] == ["stage", "set"]
    assert rows[0][-4:] == ["early", "0.750", "early,", "late"]
    assert rows[1][-3:] == ["late", "0.875", "late"]
    assert "set" not in tlkit("predict", with_sets, *images)[1].splitlines()[0].split()
    status, _, _ = tlkit("predict", with_sets, *images, "--conformal", "--csv", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["stage.set"] for row in csv.DictReader(file)] == ["early|late", "late"]
    document = json.loads(tlkit("predict", with_sets, *images, "--json")[1])
    assert [entry["tasks"]["stage"]["conformal_set"] for entry in document] == [["early", "late"], ["late"]]
    assert "conformal_set" not in document[0]["tasks"]["cells"]


def test_sets_that_the_run_lacks_are_refused(tlkit, run, table):
    status, _, err = tlkit("predict", run, table.parent / "00.png", "--conformal")
    assert status == 2
    assert "the run has no conformal sets. Train with --set evaluation.conformal=0.1" in err


def test_there_are_no_sets_of_averaged_views(tlkit, with_sets, table):
    """Their threshold is one of the evaluation view's probabilities."""
    photo = table.parent / "00.png"
    for tta in ("flip", "auto"):
        status, out, err = tlkit("predict", with_sets, photo, "--conformal", "--tta", tta)
        assert (status, out) == (2, "")
        assert f"for the evaluation view alone. Received: --tta {tta}." in err
    (entry,) = json.loads(tlkit("predict", with_sets, photo, "--json", "--tta", "flip")[1])
    assert "conformal_set" not in entry["tasks"]["stage"]


def test_a_split_that_chose_something_is_called_optimistic():
    entry = {"kind": "single_label", "n_labelled": 40, "accuracy": 0.9, "accuracy_interval": [0.8, 0.95]}
    assert "optimistic" not in headline("test", "label", entry, [])
    assert headline("val", "label", entry, ["epoch", "calibration"]).endswith(
        "(optimistic: these images were used for choosing the epoch and calibrating the probabilities)"
    )
