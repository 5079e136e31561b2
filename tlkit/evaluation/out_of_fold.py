"""Predictions of images by linear probes of frozen features that never saw them. No Keras here."""

import numpy as np
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from tlkit.data.labels import labelled
from tlkit.data.splits import assign
from tlkit.training.probe import STRENGTHS, fit_probe

FOLDS = 5
# Small sets are dealt out several times: one deal of 341 photos names others than the next.
SMALL, REPEATS = 1000, 3
AXES = 256  # principal axes of the features that the probes see: a tenth of the time, and as many right predictions


def out_of_fold(features, labels, task, groups, names, seed=0):
    """Predict every image by linear probes that were fitted without it and without its group.

    The penalty is chosen once, on a fold that its fit didn't see, and serves all folds.

    Args:
        features: float32 `(n, width)`.
        labels: The labels of one task, as `Task` says.
        task: The `Task`.
        groups: One key per image: copies and others that belong together are dealt out together.
        names: One unique name per image; with `seed`, they decide who is in which fold.
        seed: Whole number.

    Returns:
        float64 `(n, outputs)`: probabilities, or numbers; NaN for images without a label.

    Reference:
        Stone 1974, "Cross-validatory choice and assessment of statistical predictions",
        https://doi.org/10.1111/j.2517-6161.1974.tb00994.x
    """
    known = np.flatnonzero(labelled(labels))
    features = _principal(features)
    predicted = np.full((len(labels), task.num_outputs), np.nan)
    repeats = REPEATS if len(known) <= SMALL else 1
    total = np.zeros((len(known), task.num_outputs))
    strength = None
    for repeat in range(repeats):
        fold = deal_folds(known, {"": labels}, groups, names, f"{seed}:{repeat}")
        if strength is None:
            strength = _strength(features[known], labels[known], task, fold)
        for number in np.unique(fold):
            held, rest = fold == number, fold != number
            probe = fit_probe(
                features[known[rest]], labels[known[rest]], task, features[:0], labels[:0], strengths=(strength,)
            )
            total[held] += outputs(probe, features[known[held]], task)
    predicted[known] = total / repeats
    return predicted


def _principal(features):
    """Return features along their principal axes, at most `AXES` of them, float32."""
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    count, width = centred.shape
    if width <= AXES:
        return centred
    with threadpool_limits(1, "blas"):  # its threads would wait for each other on a busy machine
        if count < width:
            variances, vectors = np.linalg.eigh(centred @ centred.T)
            return vectors[:, -AXES:] * np.sqrt(np.maximum(variances[-AXES:], 0))
        return centred @ np.linalg.eigh(centred.T @ centred)[1][:, -AXES:]


def deal_folds(images, labels, groups, names, seed):
    """Deal images out to `FOLDS` folds, classes evenly and groups whole.

    Args:
        images: int array `(k,)` of positions.
        labels: Dict of task to labels of all images.
        groups, names, seed: As for `out_of_fold`.

    Returns:
        Array `(k,)`: the fold of each, from 0.
    """
    parts = dict.fromkeys(range(FOLDS), 1 / FOLDS)
    labels = {name: values[images] for name, values in labels.items()}
    return assign([names[i] for i in images], [groups[i] for i in images], labels, parts, seed)


def _strength(features, labels, task, fold):
    first, second = np.unique(fold)[:2]
    rest = (fold != first) & (fold != second)
    chooses = fold == first
    found = fit_probe(features[rest], labels[rest], task, features[chooses], labels[chooses], strengths=STRENGTHS)
    return found.strength


def outputs(probe, features, task):
    """Return what a `Probe` says of features: float64 `(n, outputs)`, probabilities, or numbers in the task's unit."""
    logits = features.astype(np.float64) @ probe.kernel + probe.bias
    if task.kind == "regression":
        return task.mean + task.scale * logits
    return softmax(logits, axis=1) if task.kind == "single_label" else expit(logits)
