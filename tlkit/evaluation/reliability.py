"""How far probabilities can be taken at their word: log loss, Brier score, and confidence against what came true."""

import numpy as np

BINS = 15  # as in Guo et al. 2017, section 2


def reliability(labels, probabilities, task, bins=BINS):
    """Return confidence and accuracy in bins of confidence of equal width: what a reliability diagram draws.

    A single-label task is judged by its most probable class: its probability, and whether it is right. A task of
    several labels is judged by each of them on each image: its probability, and whether the image has it.

    Args:
        labels: int `(images,)`, or `(images, classes)` of 0 and 1, as `Task` says; none missing.
        probabilities: float `(images, classes)`.
        task: The `Task`, of classes.
        bins: Number of bins.

    Returns:
        List of dicts: `low` (excluded) and `high` (included) confidence, `n` of what is in between, its mean
        `confidence` and `accuracy`, None where there is nothing.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 2.
    """
    counts, confidences, hits = _binned(labels, probabilities, task, bins)
    return [
        {
            "low": number / bins,
            "high": (number + 1) / bins,
            "n": int(n),
            "confidence": float(confidence / n) if n else None,
            "accuracy": float(hit / n) if n else None,
        }
        for number, (n, confidence, hit) in enumerate(zip(counts, confidences, hits, strict=True))
    ]


def calibration_error(labels, probabilities, task, bins=BINS):
    """Return the expected calibration error: the mean gap between confidence and accuracy, over equal-width bins.

    Args:
        labels, probabilities, task, bins: As for `reliability`; at least one image.

    Returns:
        Float in [0, 1].

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3.
    """
    counts, confidences, hits = _binned(labels, probabilities, task, bins)
    return float(np.abs(hits - confidences).sum() / counts.sum())


def log_loss(labels, probabilities, task):
    """Return the mean log loss over images, and over labels where there are several.

    Probabilities are held a float32's precision, 1.2e-7, away from 0 and 1, as scikit-learn does.

    Args:
        labels, probabilities, task: As for `reliability`; at least one image.
    """
    from sklearn.metrics import log_loss

    probabilities = np.asarray(probabilities, np.float32)
    if task.kind == "multilabel":
        return float(log_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]))
    if len(task.classes) < 2:
        return 0.0
    return float(log_loss(labels, probabilities, labels=range(len(task.classes))))


def brier(labels, probabilities, task):
    """Return the Brier score: the mean squared distance between probabilities and what came true.

    Args:
        labels, probabilities, task: As for `reliability`; at least one image.

    Returns:
        Float in [0, 2], summed over the classes of a single-label task; in [0, 1], averaged, for several labels.

    Reference:
        Brier 1950, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    """
    from sklearn.metrics import brier_score_loss

    probabilities = np.asarray(probabilities, np.float32)
    if task.kind == "multilabel":
        return float(brier_score_loss(labels.ravel(), probabilities.ravel(), labels=[0, 1]))
    if len(task.classes) < 2:
        return 0.0
    return float(brier_score_loss(labels, probabilities, labels=range(len(task.classes)), scale_by_half=False))


def probability_figures(labels, probabilities, task):
    """Return `log_loss`, `brier` and `ece` as a dict; arguments as for `reliability`, at least one image."""
    return {
        "log_loss": log_loss(labels, probabilities, task),
        "brier": brier(labels, probabilities, task),
        "ece": calibration_error(labels, probabilities, task),
    }


def _binned(labels, probabilities, task, bins):
    """Return how many fall into each bin, and the sums of their confidence and of their hits."""
    probabilities = np.asarray(probabilities, np.float64)
    if task.kind == "multilabel":
        confidence, hits = probabilities.ravel(), (np.asarray(labels) == 1).ravel()
    else:
        confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(np.bincount(which, weights=weights, minlength=bins) for weights in (None, confidence, hits))
