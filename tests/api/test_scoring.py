"""Figures and predictions for tasks of all kinds, with missing labels; the model is a table here."""

import csv
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from fake_runs import OUTPUTS, outputs, write_run

import tlkit
from tlkit.api.folds import cross_validate
from tlkit.api.scoring import primary_key, write_predictions
from tlkit.api.words import describe_in_words
from tlkit.delivery.predict import Run
from tlkit.errors import DataError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe
from tlkit.tasks import Task

KINDS = {"cells": "multilabel", "count": "regression", "stage": "single_label"}


def load(labels, n=12, **settings):
    """Load different grey images with those labels."""
    images = np.arange(n, dtype=np.uint8).reshape(n, 1, 1)
    return tlkit.load_data((images, labels), tasks={name: KINDS[name] for name in labels}, **settings)


def write_table(folder, cells, count, stage):
    photos = [folder / f"{i}.png" for i in range(len(cells))]
    import cv2

    for i, photo in enumerate(photos):
        cv2.imwrite(str(photo), np.full((4, 4, 3), i, np.uint8))
    rows = [f"{photo.name},{','.join(row)}" for photo, *row in zip(photos, cells, count, stage, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["path,cells,count,stage", *rows]))
    return folder / "labels.csv"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "probabilities", outputs)
    return Run(write_run(tmp_path / "run"))


def test_other_data_may_lack_classes_and_labels(run, tmp_path):
    table = write_table(tmp_path, ["RBC", "", "RBC Platelets"], ["13.25", "", "20.5"], ["early", "early", ""])
    result = tlkit.evaluate(run, data=table)
    cells, count, stage = result.metrics["tasks"].values()
    assert [entry["n_labelled"] for entry in (cells, count, stage)] == [2, 2, 2]
    # RBC is on both; Platelets scores 0.5 where it is and 0.2 where not; nobody has WBC.
    assert [row["support"] for row in cells["per_class"].values()] == [1, 2, 0]
    assert result.value == cells["mean_average_precision"] == 1.0
    assert count["mae"] == 0.5
    assert count["training_mean_mae"] == (13.25 - 11.5 + 20.5 - 11.5) / 2
    assert stage["accuracy"] == 0.5
    binary = (np.log(0.8) + np.log(0.9) + np.log(0.4) + np.log(0.5) + np.log(0.8) + np.log(0.9)) / 6
    single = (np.log(0.75) + np.log(0.125)) / 2
    assert result.metrics["loss"] == pytest.approx(-binary - single + 0.5 * (1 / 4) ** 2)


def test_an_unknown_label_is_an_error(run, tmp_path):
    table = write_table(tmp_path, ["RBC", "WBCs"], ["1", "2"], ["early", "late"])
    with pytest.raises(DataError, match=r"cells 'WBCs' is unknown to the run\. Did you mean 'WBC'"):
        tlkit.evaluate(run, data=table)


def test_labels_of_another_kind_are_an_error(run):
    data = load({"count": np.arange(12.0)})
    with pytest.raises(DataError, match=r"labels of cells \(multilabel\) are needed. Received: count \(regression\)"):
        tlkit.evaluate(run, data=data)


def test_predictions_are_written_by_kind(tmp_path):
    labels = {
        "cells": np.array([[0, 1, 1], [-1, -1, -1], [0, 0, 0], [1, 0, 0]] * 3),
        "count": np.array([12.5, 3, np.nan, 4] * 3),
        "stage": ["early", "late"] * 6,
    }
    data = load(labels)
    data = replace(data, tasks=data.tasks | {"cells": Task("multilabel", ("Platelets", "RBC", "WBC"))})
    predicted = {name: np.array(rows, np.float32) for name, rows in OUTPUTS.items()}
    write_predictions(tmp_path / "predictions.csv", data, np.arange(3), predicted)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "path", "cells", "cells.prediction", "cells.Platelets", "cells.RBC", "cells.WBC",
        "count", "count.prediction", "stage", "stage.prediction", "stage.early", "stage.late",
    ]  # fmt: skip
    assert [(row["cells"], row["cells.prediction"]) for row in rows] == [
        ("RBC|WBC", "RBC|WBC"), ("", "-"), ("-", "Platelets|RBC"),
    ]  # fmt: skip
    assert [(row["count"], row["count.prediction"]) for row in rows] == [("12.5", "12.25"), ("3", "3"), ("", "20.5")]
    assert [(row["stage"], row["stage.prediction"]) for row in rows] == [
        ("early", "early"), ("late", "late"), ("early", "early"),
    ]  # fmt: skip
    assert rows[0]["cells.RBC"] == "0.9"


def test_the_primary_figure_is_the_first_task_s():
    assert primary_key("test", {"cells": Task("multilabel", ("a",)), "x": Task("regression")}) == (
        "test.tasks.cells.mean_average_precision"
    )
    assert primary_key("cv", {"x": Task("regression")}) == "cv.tasks.x.mae"
    assert primary_key("val", {"label": Task("single_label", ("a", "b"))}) == "val.tasks.label.accuracy"


def test_the_screen_names_tasks_and_what_is_missing():
    labels = {"cells": np.array([[0, 1], [-1, -1], [1, 0]] * 8), "count": np.array([np.nan, 3, 1, 5.5] * 6)}
    first, left_out, wide = describe_in_words(load(labels, n=24), folds=0)
    # 8 lack cells and 6 the count; two of them (4 and 16: 1 modulo 3 and 0 modulo 4) lack both.
    assert first.startswith("22 images, 2 labels of cells (missing for 6), count from 1 to 5.5 (missing for 4): train ")
    assert left_out.startswith("2 left out")
    assert "the 95 % interval will be wide; --folds 5 tests all 22" in wide


@dataclass(frozen=True)
class FakeJob:
    """What cross-validation asks of a job; the model of each fold predicts the truth, a missing label included."""

    recipe: object
    data: object
    path: object
    listener: object = Listener()
    model: object = "trained"
    pool: object = None

    def resolve(self):
        return self

    def close(self):
        pass

    def open(self, *_args, **_settings):
        return self

    def run(self, estimate=None):
        return estimate or SimpleNamespace(probabilities=self.predict)

    def predict(self, data, indices, **_settings):
        cells = data.labels["cells"][indices].astype(np.float32)
        return {"cells": cells, "count": data.labels["count"][indices, None].astype(np.float32) + 1}


def test_folds_join_all_kinds(tmp_path):
    random = np.random.default_rng(0)
    cells = random.integers(0, 2, (60, 2))
    cells[::4] = -1
    count = random.normal(size=60)
    count[1::5] = np.nan
    data = load({"cells": cells, "count": count}, n=60)
    recipe = read_recipe("default", ["data.folds=4"])
    estimate = cross_validate(FakeJob(recipe, data, tmp_path), tmp_path, resume=False)
    assert estimate["n"] == 57  # three have neither label
    assert estimate["folds"] == 4
    assert estimate["tasks"]["cells"]["n_labelled"] == 45
    assert estimate["tasks"]["cells"]["mean_average_precision"] == 1
    assert estimate["tasks"]["count"]["n_labelled"] == 48
    assert estimate["tasks"]["count"]["mae"] == pytest.approx(1, rel=1e-6)
