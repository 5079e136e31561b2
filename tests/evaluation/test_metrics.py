"""Figures against published values and against what a reader can work out by hand."""

import json

import numpy as np
import pytest

from tlkit.errors import TlkitError
from tlkit.evaluation.metrics import (
    Result,
    headline_metric,
    split_metrics,
    task_metrics,
    wilson_interval,
)
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


LABELS = Task("multilabel", ("a", "b", "c"))
HITS = np.array([[0, 1, 1], [0, 0, 1], [1, 1, 1], [1, 0, 1]])
SCORES = np.array([[0.1, 0.9, 0.6], [0.4, 0.2, 0.4], [0.35, 0.8, 0.7], [0.8, 0.6, 0.9]], np.float32)


def test_figures_of_several_labels_by_hand():
    figures = task_metrics(HITS, SCORES, LABELS)
    a, b, c = figures["per_class"].values()
    # a ranks hit, miss, hit, miss: precision 1 at the first hit, 2/3 at the second (scikit-learn's own example).
    assert a["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert a["roc_auc"] == pytest.approx(3 / 4)  # of the four pairs of a hit and a miss, one is the wrong way round
    assert a["constant_average_precision"] == 1 / 2
    assert (a["precision"], a["recall"], a["f1"], a["support"]) == (1, 1 / 2, pytest.approx(2 / 3), 2)
    assert b["average_precision"] == b["roc_auc"] == 1
    assert (b["precision"], b["recall"], b["support"]) == (pytest.approx(2 / 3), 1, 2)
    assert c["average_precision"] is c["average_precision_interval"] is c["roc_auc"] is None  # on every image
    assert (c["precision"], c["recall"], c["support"]) == (1, 3 / 4, 4)
    assert figures["mean_average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    assert figures["constant_mean_average_precision"] == 1 / 2
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0.8 + 6 / 7) / 3)
    assert figures["subset_accuracy"] == 1 / 4
    low, high = figures["mean_average_precision_interval"]
    assert 0 < low < figures["mean_average_precision"] <= high == 1


def test_a_constant_prediction_has_the_share_of_positives():
    hits = (np.arange(50)[:, None] % [2, 5] == 0).astype(np.int8)
    figures = task_metrics(hits, np.full((50, 2), 0.7, np.float32), Task("multilabel", ("a", "b")))
    for row, share in zip(figures["per_class"].values(), (0.5, 0.2), strict=True):
        assert row["average_precision"] == row["constant_average_precision"] == pytest.approx(share)
        assert row["roc_auc"] == 0.5
    assert figures["mean_average_precision"] == pytest.approx(figures["constant_mean_average_precision"])


def test_one_label_alone_is_judged_by_its_presence():
    figures = task_metrics(HITS[:, :1], SCORES[:, :1], Task("multilabel", ("a",)))
    assert figures["per_class"]["a"]["support"] == 2
    assert figures["per_class"]["a"]["precision"] == 1
    assert figures["mean_average_precision"] == pytest.approx(5 / 6)


def test_figures_of_numbers_by_hand():
    task = Task("regression", mean=4.0, scale=2.0)
    figures = task_metrics(np.array([1.0, 2, 3, 6]), np.array([[2], [2], [2], [8]], np.float32), task)
    assert figures["mae"] == (1 + 0 + 1 + 2) / 4
    assert figures["rmse"] == pytest.approx(np.sqrt((1 + 0 + 1 + 4) / 4))
    assert figures["r2"] == pytest.approx(1 - 6 / 14)  # deviations from the mean of 3: 4 + 1 + 0 + 9
    assert figures["training_mean_mae"] == (3 + 2 + 1 + 2) / 4
    low, high = figures["mae_interval"]
    assert 0 <= low < 1 < high <= 2
    assert task_metrics(np.array([2.0, 2]), np.array([[1], [2]]), task)["r2"] is None


@pytest.mark.parametrize(
    ("task", "labels", "predicted"),
    [
        (Task("single_label", ("a", "b")), [0, -1, 1], [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]]),
        (Task("multilabel", ("a", "b")), [[0, 1], [-1, -1], [1, 0]], [[0.1, 0.9], [0.9, 0.1], [0.3, 0.7]]),
        (Task("regression", mean=1.0, scale=3.0), [1.5, np.nan, 3], [[1], [100], [3]]),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_images_without_a_label_count_for_nothing(task, labels, predicted):
    labels, predicted = np.array(labels), np.array(predicted, np.float32)
    everything = split_metrics({"t": labels}, {"t": predicted}, {"t": task}, [])
    known = split_metrics({"t": labels[[0, 2]]}, {"t": predicted[[0, 2]]}, {"t": task}, [])
    assert everything == known | {"n": 3}
    assert everything["tasks"]["t"]["n_labelled"] == 2
    json.dumps(everything, allow_nan=False)
    nothing = split_metrics({"t": labels[[1]]}, {"t": predicted[[1]]}, {"t": task}, [])
    headline, interval = headline_metric(task.kind)
    assert nothing["tasks"]["t"] == {"kind": task.kind, "n_labelled": 0, headline: None, interval: None}
    assert nothing["loss"] == 0


def test_the_loss_adds_up_tasks_of_all_kinds():
    tasks = {
        "one": Task("single_label", ("a", "b")),
        "cells": Task("multilabel", ("x", "y")),
        "age": Task("regression", mean=4.0, scale=2.0),
    }
    labels = {"one": np.array([0, -1]), "cells": np.array([[1, 0], [0, 1]]), "age": np.array([3.0, 5.0])}
    predicted = {
        "one": np.array([[0.5, 0.5], [0.2, 0.8]]),
        "cells": np.array([[0.9, 0.2], [0.0, 1.0]]),
        "age": np.array([[4.0], [8.0]]),
    }
    log_losses = -np.log(0.5), -(np.log(0.9) + np.log(0.8)) / 4
    squares = ((1 / 2) ** 2 + (3 / 2) ** 2) / 2
    assert split_metrics(labels, predicted, tasks, [])["loss"] == pytest.approx(sum(log_losses) + squares)


def test_a_result_gives_the_first_task_s_headline():
    entry = {"kind": "regression", "mae": 2.1, "mae_interval": [1.9, 2.4]}
    result = Result("test", {"tasks": {"age": entry, "one": {"kind": "single_label", "accuracy": 0.5}}})
    assert (result.value, result.interval) == (2.1, [1.9, 2.4])
    for name in ("accuracy", "accuracy_interval"):
        with pytest.raises(TlkitError, match="the first task, 'age', is regression and has no accuracy"):
            getattr(result, name)
    entry = {"kind": "single_label", "accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
    result = Result("test", {"tasks": {"label": entry}})
    assert result.value == result.accuracy == 0.5
    assert result.interval == result.accuracy_interval == [0.4, 0.6]
