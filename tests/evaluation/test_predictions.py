"""What a run wrote is read back as it was."""

import numpy as np
import pytest
from compared_runs import LABEL, says, write_run

import tlkit
from tlkit.api.scoring import write_predictions
from tlkit.errors import RunError
from tlkit.evaluation.predictions import read_predictions, read_splits

KINDS = {"cells": "multilabel", "count": "regression", "stage": "single_label"}


def test_predictions_are_read_as_they_were_written(tmp_path):
    random = np.random.default_rng(0)
    cells = random.integers(0, 2, (30, 3))
    cells[4], cells[5] = -1, 0
    count = random.normal(size=30)
    count[7] = np.nan
    stage = ["prediction", "late", "x,|y"] * 10  # a class whose column is named like another
    labels = {"cells": cells, "count": count, "stage": stage}
    images = np.arange(30, dtype=np.uint8).reshape(30, 1, 1)
    data = tlkit.load_data((images, labels), tasks=KINDS)
    outputs = {name: random.random((30, task.num_outputs)).astype(np.float32) for name, task in data.tasks.items()}
    chosen = np.arange(len(data))[::-2]
    write_predictions(tmp_path / "predictions_val.csv", data, chosen, {k: v[chosen] for k, v in outputs.items()})
    read = read_predictions(tmp_path, "val", data.tasks)
    assert read.paths == [data.paths[i] for i in chosen]
    for name in KINDS:
        np.testing.assert_array_equal(read.labels[name], data.labels[name][chosen])
        assert read.labels[name].dtype == data.labels[name].dtype
        np.testing.assert_allclose(read.probabilities[name], outputs[name][chosen], rtol=1e-6)


def test_other_files_are_refused(tmp_path):
    folder = write_run(tmp_path / "run", range(3), {"label": [0, 1, 2]}, {"label": says([0, 1, 1])})
    with pytest.raises(RunError, match=r"predictions_val.csv: the run has no such predictions\. It has: test\."):
        read_predictions(folder, "val", LABEL)
    file = folder / "predictions_test.csv"
    text = file.read_text()
    others = [text.replace("label.owl", "label.own"), text.replace("0.8", "high", 1), text + "lonely\n", ""]
    for wrong in (*others, text + '"' + "x" * 200_000):  # that is more than a cell of the csv module holds
        file.write_text(wrong)
        with pytest.raises(RunError, match=r"predictions_test\.csv: expected the file that tlkit wrote"):
            read_predictions(folder, "test", LABEL)
    file.write_text(text.replace(",cat,", ",mouse,", 1))
    with pytest.raises(RunError, match="mouse"):
        read_predictions(folder, "test", LABEL)
    for wrong in ("path,split\nx,test\n", 'path,split,sha256\n"' + "x" * 200_000):
        (folder / "splits.csv").write_text(wrong)
        with pytest.raises(RunError, match=r"splits.csv: expected the file that tlkit wrote"):
            read_splits(folder)
    (folder / "splits.csv").unlink()
    with pytest.raises(RunError, match=r"splits.csv"):
        read_splits(folder)


def test_no_images_are_no_rows(tmp_path):
    folder = write_run(tmp_path / "run", [], {"label": np.zeros(0, int)}, {"label": np.zeros((0, 3))})
    read = read_predictions(folder, "test", LABEL)
    assert read.paths == []
    assert read.probabilities["label"].shape == (0, 3)
