"""What a run wrote is read back as it was."""

import numpy as np
import pytest

from tlkit.api.scoring import write_predictions
from tlkit.delivery.folder import read_predictions
from tlkit.tasks import Task

TASKS = {
    "species": Task("single_label", ("ant, red", "bee", "قطة")),
    "marks": Task("multilabel", ("red", "green")),
    "size": Task("regression", (), 3.0, 2.0),
}
LABELS = {
    "species": np.array([2, -1, 0], np.int32),
    "marks": np.array([[1, 1], [-1, -1], [0, 0]], np.int8),
    "size": np.array([np.nan, -2.5, 1e9]),
}
OUTPUTS = {
    "species": np.array([[0.1, 0.2, 0.7], [1, 0, 0], [1e-7, 0.5, 0.5]], np.float32),
    "marks": np.array([[0.5, 0.25], [0.125, 1], [0, 0]], np.float32),
    "size": np.array([[1.5], [-3], [7]], np.float32),
}


class Given:
    paths = ("a/1.jpg", "b, c/2.jpg", 'd"e.jpg')
    tasks = TASKS
    labels = LABELS


def test_predictions_are_read_as_they_were_written(tmp_path):
    write_predictions(tmp_path / "p.csv", Given, np.arange(3), OUTPUTS)
    paths, labels, outputs = read_predictions(tmp_path / "p.csv", TASKS)
    assert tuple(paths) == Given.paths
    for name in TASKS:
        np.testing.assert_array_equal(labels[name], LABELS[name])
        np.testing.assert_allclose(outputs[name], OUTPUTS[name], rtol=1e-6)


def test_predictions_of_other_tasks_are_refused(tmp_path):
    write_predictions(tmp_path / "p.csv", Given, np.arange(3), OUTPUTS)
    with pytest.raises(ValueError, match="expected 8 columns"):
        read_predictions(tmp_path / "p.csv", {"species": TASKS["species"], "size": Task("regression")})
