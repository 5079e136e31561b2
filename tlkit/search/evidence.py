"""LogME: how probable the labels are, given frozen features, under a Bayesian linear model."""

import numpy as np
from scipy.optimize import minimize_scalar
from threadpoolctl import threadpool_limits

LEAST_LENGTH = 1e-7  # of a singular value, as a share of the largest
RATIOS, POINTS = (-25.0, 15.0), 41  # logarithms of alpha / beta that are tried, seen from the largest squared length


def log_evidence(features, targets):
    """Return the logarithm of the evidence for each image, its two hyperparameters chosen to make it largest.

    The model: `y = features @ w + noise`, `w` normal with precision alpha, the noise with precision beta, no intercept.
    For several targets, such as 0 and 1 for each class, the mean over them.

    Args:
        features: float `(n, width)`.
        targets: float `(n, outputs)`.

    Returns:
        The logarithm of a density, in nats; larger is better, and only comparable on the same targets.

    Reference:
        You, Liu, Wang & Long 2021, "LogME: practical assessment of pre-trained models for transfer learning",
        https://arxiv.org/abs/2102.11005, equation 2. The largest value, to which its algorithm 1 comes step by step, is
        searched for.
    """
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    targets = targets[:, targets.any(axis=0)]  # of a class that nothing belongs to, zeros have an infinite density
    with threadpool_limits(1, "blas"):
        vectors, lengths, _ = np.linalg.svd(features, full_matrices=False)
        kept = lengths > LEAST_LENGTH * lengths.max(initial=LEAST_LENGTH)
        spectrum, along = np.square(lengths[kept]), np.square(vectors[:, kept].T @ targets)
    beyond = np.maximum(np.square(targets).sum(axis=0) - along.sum(axis=0), 0)
    return float(np.mean([_maximize(spectrum, *parts, len(features)) for parts in zip(along.T, beyond, strict=True)]))


def _maximize(spectrum, along, beyond, count):
    """Return the largest log evidence of one target, divided by the number of images.

    For a ratio alpha / beta the best beta is known, so that only the ratio is searched for. Directions in which the
    features don't vary leave the density as it is, and are left out.

    Args:
        spectrum: Squared singular values of the features.
        along: Squared components of the target along the left singular vectors.
        beyond: Squared length of what is left of the target.
        count: Number of images.
    """

    def minus_evidence(log_ratio):
        ratio = np.exp(log_ratio)
        misfit = (along * (ratio / (spectrum + ratio))).sum() + beyond
        return (np.log(2 * np.pi * misfit / count) + 1 + np.log1p(spectrum / ratio).sum() / count) / 2

    if not len(spectrum):
        return -minus_evidence(0.0)
    grid = np.log(spectrum[0]) + np.linspace(*RATIOS, POINTS)
    best = int(np.argmin([minus_evidence(point) for point in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, POINTS - 1)]
    return -minimize_scalar(minus_evidence, bounds=bounds, method="bounded").fun
