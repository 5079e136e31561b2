"""Cross-validated linear probes: how well frozen features tell the labels, on images that no fit has seen."""

import numpy as np
from threadpoolctl import threadpool_limits

from tlkit.data.labels import labelled
from tlkit.evaluation.out_of_fold import outputs
from tlkit.training.probe import STRENGTHS, encode_targets, fit_probe


def logistic_probe(features, labels, task, fold):
    """Predict every image by the linear model that a run's head begins with, fitted on the other folds.

    The penalty of a fold is chosen on the fold after it, by a fit on the rest; then the model is fitted on all folds
    but its own. So no prediction owes anything to its image.

    Args:
        features: float32 `(n, width)`.
        labels: The labels of one task, as `Task` says.
        task: The `Task`.
        fold: int array `(n,)`.

    Returns:
        float64 `(n, outputs)`: probabilities, or numbers; NaN for images without a label.

    Reference:
        Stone 1974, https://doi.org/10.1111/j.2517-6161.1974.tb00994.x, sections 2 and 3 (a choice within, and an
        assessment without).
    """
    known = labelled(labels)
    predicted = np.full((len(labels), task.num_outputs), np.nan)
    numbers = np.unique(fold[known])
    for place, number in enumerate(numbers):
        chooses = known & (fold == numbers[(place + 1) % len(numbers)])
        others, held = known & (fold != number), known & (fold == number)
        fits = others & ~chooses
        strength = fit_probe(features[fits], labels[fits], task, features[chooses], labels[chooses]).strength
        probe = fit_probe(features[others], labels[others], task, features[:0], labels[:0], strengths=(strength,))
        predicted[held] = outputs(probe, features[held], task)
    return predicted


def ridge_probe(features, labels, task, fold):
    """Predict every image by ridge regression on 0 and 1 for each class, in closed form.

    What a fit without a fold would say of that fold follows from the one fit on all: with the hat matrix H and the
    residuals r of all, the residuals of fold F by the fit without it are `inv(I - H[F, F]) @ r[F]`. So each penalty
    costs a few products of matrices. The one with the least squared error over all folds is taken.

    Args:
        features, labels, task, fold: As for `logistic_probe`.

    Returns:
        float64 `(n, outputs)`: scores, no probabilities, or numbers; NaN for images without a label.

    Reference:
        Zhang 1993, "Model selection via multifold cross validation", https://doi.org/10.1214/aos/1176349027, equation
        2.1; Allen 1974, https://doi.org/10.1080/00401706.1974.10489157, for folds of one image.
    """
    known = np.flatnonzero(labelled(labels))
    predicted = np.full((len(labels), task.num_outputs), np.nan)
    targets = encode_targets(labels[known], task)
    with threadpool_limits(1, "blas"):
        axes, variances = _decompose(features[known])
        mean = targets.mean(axis=0)
        best = None
        for strength in STRENGTHS:
            found = _without_own_fold(axes, variances / (variances + strength), targets - mean, fold[known])
            error = float(np.square(found + mean - targets).sum())
            if best is None or error < best[0]:
                best = error, found + mean
    predicted[known] = best[1]
    return predicted * task.scale + task.mean if task.kind == "regression" else predicted


def _decompose(features):
    """Return the left singular vectors `(n, axes)` of centred features, and the variance along each; they sum to 1."""
    centred = (features - features.mean(axis=0, dtype=np.float64)).astype(np.float64)
    vectors, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    variances = np.square(lengths) / max(float(np.square(lengths).sum()), 1e-300)
    kept = variances > 1e-9
    return vectors[:, kept], variances[kept]


def _without_own_fold(axes, shrinkage, targets, fold):
    """Return what fits without each image's fold say of it, of centred targets."""
    residuals = targets - axes @ (shrinkage[:, None] * (axes.T @ targets))
    found = np.empty_like(targets)
    for number in np.unique(fold):
        held = fold == number
        hat = (axes[held] * shrinkage) @ axes[held].T + 1 / len(axes)  # the mean is fitted, too
        found[held] = targets[held] - np.linalg.solve(np.eye(len(hat)) - hat, residuals[held])
    return found
