"""What probabilities are worth, against what a reader can work out by hand."""

import numpy as np
import pytest

from tlkit.evaluation.reliability import brier, calibration_error, log_loss, probability_figures, reliability
from tlkit.tasks import Task

TWO = Task("single_label", ("a", "b"))
THREE = Task("single_label", ("a", "b", "c"))
LABELS = Task("multilabel", ("x", "y"))


def test_calibration_error_by_hand():
    # Confidences 0.97 (right) and 0.95 (wrong) share the last of 15 bins; 0.58 (right) has its own.
    probabilities = np.array([[0.97, 0.03], [0.95, 0.05], [0.42, 0.58]])
    labels = np.array([0, 1, 1])
    same_bin = abs((1 - 0.97) + (0 - 0.95))
    assert calibration_error(labels, probabilities, TWO) == pytest.approx((same_bin + abs(1 - 0.58)) / 3)
    bins = reliability(labels, probabilities, TWO)
    assert len(bins) == 15
    assert bins[-1] == {"low": 14 / 15, "high": 1.0, "n": 2, "confidence": pytest.approx(0.96), "accuracy": 0.5}
    assert bins[8] == {"low": 8 / 15, "high": 9 / 15, "n": 1, "confidence": pytest.approx(0.58), "accuracy": 1.0}
    assert bins[0] == {"low": 0.0, "high": 1 / 15, "n": 0, "confidence": None, "accuracy": None}


def test_several_labels_are_judged_each_by_itself():
    labels, probabilities = np.array([[1, 0], [0, 0]], np.int8), np.array([[0.9, 0.1], [0.2, 0.9]])
    bins = {round(row["high"] * 15): row for row in reliability(labels, probabilities, LABELS) if row["n"]}
    assert {number: row["n"] for number, row in bins.items()} == {2: 1, 3: 1, 14: 2}
    assert bins[14]["accuracy"] == 0.5
    assert calibration_error(labels, probabilities, LABELS) == pytest.approx((0.1 + 0.2 + abs(1 - 1.8)) / 4)
    assert brier(labels, probabilities, LABELS) == pytest.approx((0.01 + 0.01 + 0.04 + 0.81) / 4)
    expected = -(np.log(0.9) + np.log(0.9) + np.log(0.8) + np.log(0.1)) / 4
    assert log_loss(labels, probabilities, LABELS) == pytest.approx(expected)


def test_the_brier_score_adds_up_over_the_classes_whatever_their_number():
    assert brier(np.array([0]), np.array([[0.8, 0.2]]), TWO) == pytest.approx(0.04 + 0.04)
    assert brier(np.array([2, 0]), np.array([[0.5, 0.3, 0.2], [1, 0, 0]]), THREE) == pytest.approx(
        (0.25 + 0.09 + 0.64) / 2
    )


def test_a_class_that_does_not_occur_does_no_harm():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], np.float32)
    figures = probability_figures(np.array([0, 0]), probabilities, THREE)
    assert figures["log_loss"] == pytest.approx(-(np.log(0.5) + np.log(0.6)) / 2)


def test_certain_and_wrong_is_bad_but_finite():
    certain = np.array([[1, 0]], np.float32)
    assert 15 < log_loss(np.array([1]), certain, TWO) < 17
    assert 15 < log_loss(np.array([[0, 1]]), certain, LABELS) < 17
