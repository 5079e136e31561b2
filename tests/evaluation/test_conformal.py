"""Conformal sets: the stated coverage holds for images that come alike, with few validation images, too."""

import numpy as np
import pytest
from scipy.special import softmax

from tlkit.evaluation.conformal import coverage_figures, fewest_images, fit_threshold, prediction_sets


def draw(n, seed):
    """Return labels and probabilities of a model that is far too sure of itself."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, 6))
    drawn = (random.random((n, 1)) > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return np.minimum(drawn, 5), softmax(3 * logits, axis=1)


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (25, 0.2), (60, 0.1)])
def test_coverage_over_many_validation_sets(n, alpha):
    """Between 1 - alpha and 1 - alpha + 1 / (n + 1) on average, by theorem 1 of Angelopoulos & Bates."""
    labels, probabilities = draw(60_000, 0)
    covered = []
    for start in range(0, 500 * n, n):
        part = slice(start, start + n)
        threshold = fit_threshold(labels[part], probabilities[part], alpha)
        tested = slice(40_000 + start % 10_000, 41_000 + start % 10_000)
        covered.append((probabilities[tested][np.arange(1000), labels[tested]] >= threshold).mean())
    assert 1 - alpha - 0.01 < np.mean(covered) < 1 - alpha + 1 / (n + 1) + 0.01


def test_the_threshold_by_hand():
    probabilities = np.array([[p, 1 - p] for p in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)])
    labels = np.zeros(9, int)
    assert fit_threshold(labels, probabilities, 0.1) == 0.1  # all of nine: ceil(10 * 0.9) is 9
    assert fit_threshold(labels, probabilities, 0.2) == 0.2
    assert fit_threshold(labels, probabilities, 0.5) == 0.5
    assert fit_threshold(labels, probabilities, 0.09) is None  # that takes eleven
    assert fit_threshold(np.append(labels, -1), np.append(probabilities, [[0.5, 0.5]], axis=0), 0.1) == 0.1
    assert fit_threshold(np.full(3, -1), probabilities[:3], 0.1) is None
    assert [fewest_images(alpha) for alpha in (0.5, 0.2, 0.1, 0.05, 0.01)] == [1, 4, 9, 19, 99]


def test_a_set_holds_at_least_the_most_probable_class():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25]])
    assert prediction_sets(probabilities, 0.3).tolist() == [[True, True, False], [True, True, False]]
    assert prediction_sets(probabilities, 0.9).tolist() == [[True, False, False], [True, False, False]]


def test_coverage_on_test_by_hand():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.9, 0.05, 0.05], [0.2, 0.2, 0.6]])
    figures = coverage_figures(np.array([1, 2, 0, -1]), probabilities, 0.1, 0.3)
    low, high = figures.pop("coverage_interval")
    assert low < 2 / 3 < high
    assert figures == {
        "alpha": 0.1,
        "threshold": 0.3,
        "coverage": 2 / 3,
        "mean_size": pytest.approx(5 / 3),
        "n": 3,
    }
    nothing = coverage_figures(np.array([-1]), probabilities[:1], 0.1, 0.3)
    assert nothing["coverage"] is nothing["mean_size"] is None
    assert coverage_figures(np.array([1]), probabilities[:1], 0.1, None)["coverage"] is None
