"""Paired comparisons against published values, plain recomputation, and what a reader can work out by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score
from tails import expanded_tails

from tlkit.evaluation import compare
from tlkit.evaluation.bootstrap import RESAMPLES, mean_interval, resampled_counts
from tlkit.evaluation.compare import mcnemar_p, paired_accuracy_interval, paired_difference
from tlkit.tasks import Task

CLASSES = Task("single_label", ("cat", "dog"))
LABELS = Task("multilabel", ("a", "b", "c"))
NUMBER = Task("regression", mean=4.0, scale=2.0)


def test_a_paired_interval_is_the_published_one():
    """Fagerland, Lydersen & Laake 2014, https://doi.org/10.1002/sim.6148: 1 and 7 of 21 children, Tango's interval."""
    assert paired_accuracy_interval(1, 7, 21) == pytest.approx([-0.517, -0.026], abs=5e-4)


@pytest.mark.parametrize(("won", "lost", "n"), [(5, 0, 50), (3, 9, 40), (25, 25, 50), (30, 20, 1000)])
def test_the_ends_of_a_paired_interval_are_just_rejected(won, lost, n):
    """The likeliest probabilities for a difference are searched for here; the interval has them in closed form."""
    from scipy.optimize import minimize_scalar

    for end in paired_accuracy_interval(won, lost, n):
        counts = np.array([won, lost, n - won - lost])

        def unlikelihood(losing, end=end, counts=counts):
            probabilities = np.array([losing + end, losing, 1 - 2 * losing - end])
            return -(counts * np.log(np.maximum(probabilities, 1e-300))).sum()

        bounds = max(0, -end), (1 - end) / 2
        losing = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        distance = (won - lost - n * end) / np.sqrt(n * (2 * losing + end - end**2))
        assert abs(distance) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 0, 50), (7, 7, 30), (50, 0, 50), (0, 0, 1), (3, 1, 4), (0, 9, 9)])
def test_paired_intervals_hold_what_was_observed(won, lost, n):
    low, high = paired_accuracy_interval(won, lost, n)
    assert -1 <= low <= (won - lost) / n <= high <= 1
    assert low < high
    assert paired_accuracy_interval(lost, won, n) == pytest.approx([-high, -low])


def test_where_nothing_differs_more_images_narrow_the_interval():
    z = stats.norm.ppf(0.975)
    for n in (10, 153, 5000):
        assert paired_accuracy_interval(0, 0, n)[1] == pytest.approx(z**2 / (n + z**2), abs=1e-6)


def test_mcnemar_by_hand():
    assert mcnemar_p(0, 0) == mcnemar_p(4, 4) == 1
    assert mcnemar_p(3, 0) == mcnemar_p(0, 3) == pytest.approx(2 / 8)
    assert mcnemar_p(1, 9) == pytest.approx(2 * (1 + 10) / 1024)


def test_accuracies_by_hand():
    labels = np.array([0, 0, 1, 1, 1, -1])
    cat, dog = [0.9, 0.1], [0.3, 0.7]
    first = np.array([cat, cat, cat, cat, cat, dog])
    second = np.array([dog, cat, dog, dog, dog, cat])
    found = paired_difference(labels, first, second, CLASSES)
    assert (found.metric, found.n, found.first, found.second) == ("accuracy", 5, 2 / 5, 4 / 5)
    assert (found.gain, found.won, found.lost) == (2 / 5, 3, 1)
    assert found.p == pytest.approx(2 * (1 + 4) / 16)
    assert found.interval == paired_accuracy_interval(3, 1, 5)


def made_up(n, noise, seed=0):
    """Return labels of three kinds of rarity and the scores of two models, the second of less noise."""
    random = np.random.default_rng(seed)
    hits = (random.random((n, 3)) < [0.5, 0.8, 0.2]).astype(np.int8)
    scores = [hits + level * random.normal(size=(n, 3)) for level in noise]
    return hits, *scores


def mean_average_precision(hits, scores, rows):
    values = [
        average_precision_score(hits[rows, k], scores[rows, k]) for k in range(hits.shape[1]) if hits[rows, k].any()
    ]
    return np.mean(values)


def test_mean_average_precisions_are_resampled_together(monkeypatch):
    some = np.concatenate(list(resampled_counts(40)), axis=1)[:, :200]
    monkeypatch.setattr(compare, "resampled_counts", lambda images: [some])
    hits, first, second = made_up(40, (1.0, 0.7))
    first = np.round(first, 1)  # tenths: many scores are equal
    found = paired_difference(hits, first, second, LABELS)
    everything = np.arange(40)
    assert found.first == pytest.approx(mean_average_precision(hits, first, everything))
    assert found.second == pytest.approx(mean_average_precision(hits, second, everything))
    assert found.gain == found.second - found.first
    gains = [
        mean_average_precision(hits, second, drawn) - mean_average_precision(hits, first, drawn)
        for drawn in (np.repeat(everything, column) for column in some.astype(int).T)
    ]
    assert found.interval == pytest.approx(np.quantile(gains, expanded_tails(40)), abs=1e-5)


def test_the_scale_of_the_scores_does_not_matter():
    hits, first, second = made_up(60, (1.0, 0.7))
    plain = paired_difference(hits, first, second, LABELS)
    stretched = paired_difference(hits, first, np.exp(3 * second + 1), LABELS)
    assert plain == stretched


def test_average_precision_s_p_is_that_of_all_exchanges():
    """With eight images there are 256 ways to exchange the predictions of some."""
    hits, first, second = made_up(8, (2.0, 0.5), seed=0)
    hits, first, second = hits[:, :1], first[:, :1], second[:, :1]
    found = paired_difference(hits, first, second, Task("multilabel", ("a",)))
    ranks = [stats.rankdata(scores, axis=0) for scores in (first, second)]
    gains = []
    for coins in itertools.product([False, True], repeat=8):
        coins = np.array(coins)[:, None]
        one, other = np.where(coins, ranks[1], ranks[0]), np.where(coins, ranks[0], ranks[1])
        gains.append(average_precision_score(hits, other) - average_precision_score(hits, one))
    exact = np.mean(np.abs(gains) >= abs(found.gain) - 1e-9)
    assert 0.02 < exact < 0.9
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / RESAMPLES))


def test_labels_that_all_or_none_have_say_nothing():
    hits, first, second = made_up(30, (1.0, 0.7))
    hits[:, 2] = 1
    whole = paired_difference(hits, first, second, LABELS)
    assert whole == paired_difference(hits[:, :2], first[:, :2], second[:, :2], Task("multilabel", ("a", "b")))
    nothing = paired_difference(np.ones((30, 3), np.int8), first, second, LABELS)
    assert (nothing.n, nothing.first, nothing.gain, nothing.interval, nothing.p) == (30, None, None, None, None)


def test_errors_by_hand():
    labels = np.array([1.0, 2, np.nan, 6, 8])
    first = np.array([[2], [2], [0], [9], [8]], np.float32)
    second = np.array([[1], [3], [9], [5], [8]], np.float32)
    found = paired_difference(labels, first, second, NUMBER)
    gains = np.array([1, -1, 2, 0])  # how much nearer the second is
    assert (found.metric, found.n, found.first, found.second) == ("mae", 4, 4 / 4, 2 / 4)
    assert found.gain == gains.mean() == 0.5
    assert found.interval == mean_interval(gains)
    assert found.won is found.lost is None
    signed = [np.mean(gains * signs) for signs in itertools.product([-1, 1], repeat=4)]
    exact = np.mean(np.abs(signed) >= 0.5)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / RESAMPLES))


@pytest.mark.parametrize("task", [CLASSES, LABELS, NUMBER], ids=lambda task: task.kind)
def test_turned_round_the_gain_is_turned_round(task):
    hits, *both = made_up(50, (1.0, 0.7), seed=1)
    labels = {"single_label": hits[:, 0].astype(np.int32), "multilabel": hits, "regression": hits[:, 0] + 0.25}
    labels = labels[task.kind]
    first, second = (scores[:, : task.num_outputs] for scores in both)
    there, back = paired_difference(labels, first, second, task), paired_difference(labels, second, first, task)
    assert there.gain == -back.gain
    assert there.interval == pytest.approx([-bound for bound in reversed(back.interval)], abs=1e-6)
    assert (there.won, there.lost) == (back.lost, back.won)
    assert there.p == pytest.approx(back.p, abs=0.05)
    alike = paired_difference(labels, first, first, task)
    assert (alike.gain, alike.p) == (0, 1)
    assert alike.interval[0] <= 0 <= alike.interval[1]


@pytest.mark.parametrize("task", [CLASSES, LABELS, NUMBER], ids=lambda task: task.kind)
def test_images_without_a_label_count_for_nothing(task):
    hits, *both = made_up(50, (1.0, 0.7))
    labels = {"single_label": hits[:, 0].astype(np.int32), "multilabel": hits, "regression": hits[:, 0] + 0.25}
    first, second = (scores[:, : task.num_outputs] for scores in both)
    labels, missing = labels[task.kind], np.nan if task.kind == "regression" else -1
    partly = labels.copy()
    partly[::3] = missing
    kept = np.arange(50) % 3 > 0
    assert paired_difference(partly, first, second, task) == paired_difference(
        labels[kept], first[kept], second[kept], task
    )
    nothing = paired_difference(np.full_like(labels, missing), first, second, task)
    assert (nothing.n, nothing.gain, nothing.p) == (0, None, None)
