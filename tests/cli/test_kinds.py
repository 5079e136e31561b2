"""What the commands print of tasks of several labels and of numbers."""

import csv
import json

import numpy as np
import pytest
from fake_runs import outputs, write_run
from PIL import Image

from tlkit.cli.training import headline, print_result
from tlkit.delivery.predict import Run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "probabilities", outputs)
    return write_run(tmp_path / "run")


@pytest.fixture
def table(tmp_path):
    """A CSV of twelve images with two tasks, a fourth of each one's labels missing."""
    cells = ["RBC WBC", "-", "RBC Platelets", "", "WBC", "RBC"] * 2
    rows = ["path,cells,count,stage"]
    for i, cell in enumerate(cells):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / f"{i:02}.png")
        rows.append(f"{i:02}.png,{cell},{'' if i % 4 == 1 else i + 0.5},{('early', 'late')[i % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "labels.csv"


def test_the_last_screen_has_a_line_per_task(run, capsys):
    print_result(Run(run))
    cells, count, *_ = capsys.readouterr().out.splitlines()
    assert cells == (
        "test cells: mean average precision 0.931, 95 % interval 0.901 to 0.956 (constant prediction 0.812), 70 images"
    )
    assert count == (
        "test count: mean absolute error 2.12, 95 % interval 1.91 to 2.41 (constant prediction 4.54), 68 images"
    )


def test_figures_that_do_not_exist_are_explained():
    entry = {"kind": "regression", "n_labelled": 0, "mae": None, "mae_interval": None}
    assert headline("val", "age", entry, ["epoch"]) == "val age: no mean absolute error: no image has a label"
    entry = {"kind": "multilabel", "n_labelled": 3, "mean_average_precision": None}
    assert headline("test", "label", entry, []) == (
        "test no mean average precision: every label is on all images, or on none"
    )


def test_predict_prints_each_kind(tlkit, run, table):
    images = [table.parent / f"{i:02}.png" for i in range(3)]
    status, out, err = tlkit("predict", run, *images)
    assert status == 0, err
    header, _, *rows = [line.split() for line in out.splitlines() if line.strip()]
    assert header == ["image", "cells", "count", "stage"]
    assert [row[1:] for row in rows] == [
        ["RBC", "0.900,", "WBC", "0.600", "12.25", "early", "0.750"],
        ["-", "3", "late", "0.875"],
        ["RBC", "0.800,", "Platelets", "0.500", "20.5", "early", "0.500"],
    ]
    header, _, row = [
        line.split() for line in tlkit("predict", run, images[1], "--top", 2)[1].splitlines() if line.strip()
    ]
    assert header == ["image", "cells", "1.", "2.", "count", "stage", "2."]
    assert row[1:] == [
        "RBC",
        "0.900,",
        "WBC",
        "0.600",
        "RBC",
        "0.900",
        "WBC",
        "0.600",
        "12.25",
        "early",
        "0.750",
        "late",
        "0.250",
    ]


def test_predict_writes_json_and_csv(tlkit, run, table):
    image = table.parent / "00.png"
    (prediction,) = json.loads(tlkit("predict", run, image, "--json", "--top", 2)[1])
    assert prediction["tasks"]["cells"]["prediction"] == ["RBC", "WBC"]
    assert [entry["class"] for entry in prediction["tasks"]["cells"]["top"]] == ["RBC", "WBC"]
    assert prediction["tasks"]["count"] == {"prediction": 12.25}
    assert prediction["tasks"]["stage"]["prediction"] == "early"
    tlkit("predict", run, *(table.parent / f"{i:02}.png" for i in range(3)), "--csv", table.parent / "out.csv")
    with (table.parent / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["cells.prediction"] for row in rows] == ["RBC|WBC", "-", "RBC|Platelets"]
    assert [row["count.prediction"] for row in rows] == ["12.25", "3", "20.5"]
    assert rows[1]["cells.WBC"] == "0.4"
    assert list(rows[0])[:2] == ["path", "cells.prediction"]


def test_evaluate_prints_each_kind(tlkit, run, table):
    status, out, err = tlkit("evaluate", run, "--data", table)
    assert status == 0, err
    lines = out.splitlines()
    assert any(line.startswith("data cells: mean average precision ") and "10 images" in line for line in lines)
    assert any(line.startswith("data count: mean absolute error ") and "9 images" in line for line in lines)
    assert any(line.startswith("data stage: accuracy 0.") and "12 images" in line for line in lines)
    assert any("average precision" in line and "ROC AUC" in line for line in lines)
    assert any(line.startswith("root mean squared error ") for line in lines)
    document = json.loads(tlkit("evaluate", run, "--data", table, "--json")[1])
    assert document["tasks"]["count"]["training_mean_mae"] == pytest.approx(
        np.mean([abs(i + 0.5 - 11.5) for i in range(12) if i % 4 != 1])
    )


def test_audit_shows_each_kind_and_what_is_missing(tlkit, table):
    kinds = ("--task", "cells=multilabel", "--task", "count=regression")
    status, out, err = tlkit("audit", table, *kinds)
    assert status == 0, err
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert sum(map(int, rows["RBC"])) == 6
    assert sum(map(int, rows["Platelets"])) == 2
    assert out.count("missing") == 2
    assert "standard deviation" in out
    description = json.loads(tlkit("audit", table, *kinds, "--json")[1])
    assert description["kinds"] == {"cells": "multilabel", "count": "regression"}
    left_out = [finding for finding in description["findings"] if finding["left_out"]]
    assert left_out == [{"path": "09.png", "problem": "no label", "left_out": True}]  # neither of both
    assert sum(description["missing"]["cells"].values()) == 1
    assert sum(description["missing"]["count"].values()) == 2
    assert sum(counts["WBC"] for counts in description["class_counts"]["cells"].values()) == 4
    assert max(figures["max"] for figures in description["values"]["count"].values()) == 11.5


def test_an_ambiguous_column_names_the_flags(tlkit, table):
    status, out, err = tlkit("audit", table, "--task", "cells=auto")
    assert (status, out) == (2, "")
    assert "`--task cells=multilabel` or `--task cells=single_label`" in err
