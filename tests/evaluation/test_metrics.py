"""Figures against published values and against what a reader can work out by hand."""

import numpy as np
import pytest

from tlkit.evaluation.metrics import calibration_error, split_metrics, task_metrics, wilson_interval
from tlkit.tasks import Task


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_the_published_ones(correct, total, low, high):
    assert wilson_interval(correct, total) == pytest.approx([low, high], abs=5e-5)


def test_calibration_error_by_hand():
    # Confidences 0.97 (right) and 0.95 (wrong) share the last of 15 bins; 0.58 (right) has its own.
    probabilities = np.array([[0.97, 0.03], [0.95, 0.05], [0.42, 0.58]])
    labels = np.array([0, 1, 1])
    same_bin = abs((1 - 0.97) + (0 - 0.95))
    assert calibration_error(labels, probabilities) == pytest.approx((same_bin + abs(1 - 0.58)) / 3)


def test_figures_of_a_task_by_hand():
    task = Task("single_label", ("cat", "dog", "owl"))
    labels = np.array([0, 0, 0, 1, 1])
    predicted = [0, 0, 1, 1, 2]
    probabilities = np.eye(3)[predicted] * 0.7 + 0.1
    figures = task_metrics(labels, probabilities, task)
    assert figures["accuracy"] == 3 / 5
    assert figures["per_class"]["cat"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert figures["per_class"]["dog"] == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2})
    assert figures["per_class"]["owl"]["support"] == 0
    assert figures["macro_f1"] == pytest.approx((0.8 + 0.5) / 2)  # no owl to find, so no owl to average
    assert figures["top5"] is None


def test_top5_counts_the_five_most_probable():
    task = Task("single_label", tuple("abcdefg"))
    probabilities = np.tile(np.arange(7.0) / 21, (2, 1))
    assert task_metrics(np.array([2, 1]), probabilities, task)["top5"] == 0.5


def test_the_loss_of_a_split_is_the_sum_over_its_tasks():
    tasks = {"one": Task("single_label", ("a", "b")), "two": Task("single_label", ("x", "y"))}
    labels = {"one": np.array([0, 1]), "two": np.array([1, 1])}
    probabilities = {"one": np.array([[0.5, 0.5], [0.2, 0.8]]), "two": np.array([[0.1, 0.9], [0.0, 1.0]])}
    entry = split_metrics(labels, probabilities, tasks, ["epoch"])
    assert entry["loss"] == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2 - (np.log(0.9) + 0) / 2)
    assert entry["n"] == 2
    assert entry["used_for"] == ["epoch"]
