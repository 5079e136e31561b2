"""Conformal sets: instead of one class a set of classes, which holds the true one as often as was asked for.

A set holds every class whose probability reaches a threshold, and always the most probable class. The threshold is what
the true classes' probabilities on validation reach often enough. Among all sets with the same coverage these are the
smallest on average (Sadinle et al.), and nothing in them is random or has to be tuned.

The promise holds for images that come as those of validation do, and for a model that has not seen these. Validation
chose the epoch and the temperature, so it holds approximately; the coverage on test is the check.

Reference:
    Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511, section 1; Sadinle, Lei & Wasserman 2019,
    https://arxiv.org/abs/1609.00451 (least ambiguous set-valued classifiers).
"""

import math

import numpy as np

from tlkit.data.labels import labelled
from tlkit.evaluation.bootstrap import wilson_interval


def fewest_images(alpha):
    """Return how many labelled images a threshold for an error of `alpha` takes."""
    return math.ceil(1 / alpha - 1 - 1e-9)


def fit_threshold(labels, probabilities, alpha):
    """Return the probability from which on a class is in the set.

    Of n images, the true class of ceil((n + 1)(1 - alpha)) reaches it: that many out of n, instead of (1 - alpha) n,
    makes the coverage of one more image at least 1 - alpha on average, however small n is.

    Args:
        labels: int `(images,)`, -1 where missing.
        probabilities: float `(images, classes)`.
        alpha: How often the set may miss the true class, in (0, 1).

    Returns:
        Float in [0, 1], or None if there are fewer labelled images than `fewest_images(alpha)`.
    """
    known = labelled(labels)
    labels, probabilities = np.asarray(labels)[known], np.asarray(probabilities)[known]
    rank = math.ceil((len(labels) + 1) * (1 - alpha) - 1e-9)
    if not len(labels) or rank > len(labels):
        return None
    of_true = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    return float(of_true[rank - 1])


def prediction_sets(probabilities, threshold):
    """Return which classes are in the set of each image: bool `(images, classes)`.

    Args:
        probabilities: float `(images, classes)`.
        threshold: As from `fit_threshold`.
    """
    probabilities = np.asarray(probabilities)
    sets = probabilities >= threshold
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


def coverage_figures(labels, probabilities, alpha, threshold):
    """Return how often the sets hold the true class, with its 95 % Wilson interval, and how large they are.

    Args:
        labels: int `(images,)`, -1 where missing.
        probabilities: float `(images, classes)`.
        alpha: What the threshold was fitted for.
        threshold: As from `fit_threshold`.

    Returns:
        Dict of `alpha`, `threshold`, `coverage`, `coverage_interval`, `mean_size` and `n`, the labelled images; without
        any, or without a threshold, the figures are None.
    """
    known = labelled(labels)
    labels, n = np.asarray(labels)[known], int(known.sum())
    entry = {"alpha": alpha, "threshold": threshold, "coverage": None, "coverage_interval": None, "mean_size": None}
    if threshold is None or not n:
        return entry | {"n": n}
    sets = prediction_sets(np.asarray(probabilities)[known], threshold)
    covered = int(sets[np.arange(n), labels].sum())
    found = {"coverage": covered / n, "coverage_interval": wilson_interval(covered, n)}
    return entry | found | {"mean_size": float(sets.sum(axis=1).mean()), "n": n}
