"""Groups of runs against what a reader can work out, and against the paired test of single runs."""

import numpy as np
import pytest

from tlkit.evaluation.compare import paired_difference
from tlkit.evaluation.seeds import compare_groups
from tlkit.tasks import Task

CLASSES = Task("single_label", ("right", "wrong"))
LABELS = Task("multilabel", ("a", "b"))
NUMBER = Task("regression", mean=0.0, scale=1.0)


def answers(right):
    right = np.asarray(right, bool)
    return np.stack([right, ~right], axis=1).astype(np.float32)


def test_means_and_gains_by_hand():
    n = 40
    labels = np.zeros(n, np.int32)
    first = [answers(np.arange(n) >= wrong) for wrong in (10, 14)]
    second = [answers(np.arange(n) >= wrong) for wrong in (4, 6, 8)]
    a, b = compare_groups(labels, [first, second], CLASSES)
    assert (a.values, a.difference) == ([30 / 40, 26 / 40], None)
    assert b.values == [36 / 40, 34 / 40, 32 / 40]
    assert (a.mean, b.mean) == (28 / 40, 34 / 40)
    found = b.difference
    assert (found.metric, found.n, found.first, found.second) == ("accuracy", n, 28 / 40, 34 / 40)
    assert found.gain == pytest.approx(6 / 40)
    assert np.mean(found.interval) == pytest.approx(found.gain)
    assert (found.won, found.lost) == (None, None)
    # The variance over images of the mean right answer's gain; seeds here differ by a little more than images explain.
    per_image = np.mean([v[:, 0] for v in second], axis=0) - np.mean([v[:, 0] for v in first], axis=0)
    error = np.diff(found.interval)[0] / 2 / 1.96
    assert error > 0.95 * per_image.std(ddof=1) / np.sqrt(n)


def test_seeds_that_do_not_differ_leave_the_variance_of_the_images():
    random = np.random.default_rng(0)
    right = random.random((2, 200)) < [[0.7], [0.8]]
    labels = np.zeros(200, np.int32)
    groups = [[answers(right[0])] * 2, [answers(right[1])] * 2]
    found = compare_groups(labels, groups, CLASSES)[1].difference
    alone = paired_difference(labels, groups[0][0], groups[1][0], CLASSES)
    assert found.gain == pytest.approx(alone.gain)
    assert found.interval == pytest.approx(alone.interval, abs=0.01)


def test_seeds_that_differ_much_widen_the_interval():
    labels, n = np.zeros(100, np.int32), 100
    first = [answers(np.arange(n) < right) for right in (60, 60, 60)]
    alike = [answers(np.arange(n) < right) for right in (80, 80, 80)]
    apart = [answers(np.arange(n) < right) for right in (60, 80, 100)]
    narrow, wide = (compare_groups(labels, [first, group], CLASSES)[1].difference for group in (alike, apart))
    assert [narrow.gain, wide.gain] == pytest.approx([0.2, 0.2])
    assert narrow.p < 0.001
    assert wide.p > 0.05


def test_errors_and_precisions_have_their_signs():
    random = np.random.default_rng(0)
    labels = random.normal(size=80)
    worse, better = ([(labels + level * random.normal(size=80))[:, None] for _ in range(2)] for level in (1.0, 0.3))
    found = compare_groups(labels, [worse, better], NUMBER)[1].difference
    assert (found.metric, found.gain) == ("mae", pytest.approx(found.first - found.second))
    assert found.interval[0] > 0
    hits = random.integers(0, 2, (80, 2)).astype(np.int8)
    worse, better = ([hits + level * random.normal(size=(80, 2)) for _ in range(2)] for level in (1.5, 0.5))
    found = compare_groups(hits, [worse, better], LABELS)[1].difference
    assert (found.metric, found.gain) == ("mean_average_precision", pytest.approx(found.second - found.first))
    assert found.gain > 0
    assert found.p < 0.05


def test_where_nothing_can_be_said_nothing_is():
    ones = np.ones((10, 2), np.int8)
    scores = [np.random.default_rng(0).random((10, 2)) for _ in range(2)]
    assert compare_groups(ones, [scores], LABELS) == []
    assert compare_groups(np.full(4, -1), [[answers([1, 1, 0, 0])] * 2], CLASSES) == []


def test_predictions_that_are_all_alike_are_the_same():
    labels = np.zeros(6, np.int32)
    alike, never = [answers(np.ones(6))] * 2, [answers(np.zeros(6))] * 2
    same = compare_groups(labels, [alike, alike], CLASSES)[1].difference
    assert (same.gain, same.p, same.interval) == (0, 1, [0, 0])
    opposite = compare_groups(labels, [never, alike], CLASSES)[1].difference
    assert (opposite.gain, opposite.p) == (1, 2 / 2**6)


def test_what_sums_in_another_order_come_to_is_no_gain():
    """Three runs against two, all of them right on the same five of seven images."""
    labels = np.zeros(7, np.int32)
    right = np.arange(7) >= 2
    for outputs in (answers(right), answers(np.ones(7))):
        _, b = compare_groups(labels, [[outputs] * 3, [outputs] * 2], CLASSES)
        assert (b.difference.gain, b.difference.p) == (0.0, 1.0)
