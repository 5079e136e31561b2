"""Labels that are likely wrong: what models that never saw an image's label make of it, against what it says.

No Keras here: all of it comes from features that are there already.
"""

from typing import NamedTuple

import numpy as np

from tlkit.data.labels import labelled, with_scale
from tlkit.evaluation.neighbours import votes
from tlkit.evaluation.out_of_fold import out_of_fold

LEAST_IMAGES, LEAST_MEMBERS = 20, 4  # in all, and of a class or a label, below which nothing is said
LEAST_SCORE = 0.8  # below it most labels that are named are right
MOST_NUMBERS = 4.5  # robust standard deviations of the residuals: of a normal distribution 7 of a million are beyond


class LabelError(NamedTuple):
    """A label that is likely wrong.

    Attributes:
        index: Position of the image.
        said: What the label says: index of a class; of several labels, which one; a number.
        likely: Index of the likelier class; of several labels 1 if the label is missing and 0 if it is too much; the
            number that was predicted.
        score: From 0.5 to 1, the surer the higher.
    """

    index: int
    said: float
    likely: float
    score: float


def confident_joint(labels, probabilities):
    """Count which class the images of each label confidently belong to.

    An image belongs confidently to a class if its probability is at least the mean probability of that class over the
    images so labelled; of several such classes, to the most probable.

    Args:
        labels: int `(n,)`.
        probabilities: float `(n, classes)`, from models that didn't see the image's label.

    Returns:
        `(joint, confident)`: int `(classes, classes)` of label by class, and int `(n,)`, the class that each image
        confidently belongs to, or -1.

    Reference:
        Northcutt, Jiang & Chuang 2021, "Confident learning: estimating uncertainty in dataset labels", JAIR 70,
        https://arxiv.org/abs/1911.00068, equations 1 and 2.
    """
    classes = probabilities.shape[1]
    thresholds = np.array([_mean(probabilities[labels == k, k]) for k in range(classes)])
    above = probabilities >= thresholds - 1e-12  # a class of one image is at its own mean
    likeliest = np.where(above, probabilities, -1.0).argmax(axis=1)
    confident = np.where(above.any(axis=1), likeliest, -1)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[confident >= 0], confident[confident >= 0]), 1)
    return joint, confident


def _mean(values):
    return values.mean() if len(values) else np.inf


def class_errors(labels, probabilities, least=LEAST_SCORE):
    """Name the labels of one class each that are likely wrong: as many as the confident joint tells of.

    That is pruning by class and by noise rate, both: of every label the images that are least probably what it says,
    and of every pair of label and class those that are most probably of that class rather than what the label says.

    Args:
        labels: int `(n,)`, -1 where missing.
        probabilities: float `(n, classes)`, as for `confident_joint`.
        least: Least score.

    Returns:
        List of `LabelError`, the surest first; the score is the share of the likelier class in the probability of both.

    Reference:
        Northcutt, Jiang & Chuang 2021, https://arxiv.org/abs/1911.00068, section 3.2, methods 3 to 5.
    """
    known = np.flatnonzero((labels >= 0) & ~np.isnan(probabilities[:, 0]))
    said, p = labels[known], probabilities[known]
    joint = confident_joint(said, p)[0]
    errors = []
    for label in np.unique(said):
        members = np.flatnonzero(said == label)
        wrong = joint[label] * len(members) / max(1, joint[label].sum())  # images of that label, by class
        of_label = p[members, label]
        doubted = set(members[np.argsort(of_label, kind="stable")][: round(wrong.sum() - wrong[label])].tolist())
        best = {}
        for other in np.flatnonzero(np.round(wrong)):
            if other == label:
                continue
            order = np.argsort(of_label - p[members, other], kind="stable")[: round(wrong[other])]
            for i in members[order].tolist():
                score = p[i, other] / max(p[i, other] + p[i, label], 1e-12)
                best[i] = max(best.get(i, (0.0, 0)), (float(score), int(other)))
        errors += [
            LabelError(int(known[i]), int(label), other, score)
            for i, (score, other) in best.items()
            if i in doubted and score >= least
        ]
    return sorted(errors, key=lambda error: (-error.score, error.index))


def set_errors(labels, probabilities, least=LEAST_SCORE):
    """Name labels, of several that an image may have, that are likely missing or too much: each is judged by itself.

    Args:
        labels: int8 `(n, classes)`, -1 where missing.
        probabilities: float `(n, classes)`, as `out_of_fold` returns.
        least: Least score.

    Returns:
        List of `LabelError`, the surest first.
    """
    errors = []
    for number in range(labels.shape[1]):
        column = labels[:, number]
        if min((column == 0).sum(), (column == 1).sum()) < LEAST_MEMBERS:
            continue
        p = probabilities[:, number]
        found = class_errors(column.astype(np.int32), np.stack([1 - p, p], axis=1), least)
        errors += [error._replace(said=number) for error in found]
    return sorted(errors, key=lambda error: (-error.score, error.index, error.said))


def number_errors(labels, predicted, most=MOST_NUMBERS):
    """Name numbers that are far from what models say that never saw them.

    Args:
        labels: float `(n,)`, NaN where missing.
        predicted: float `(n, 1)`, as `out_of_fold` returns.
        most: Residual from which on a number is named, in robust standard deviations: 1.4826 times the median of the
            residuals' distances from their median.

    Returns:
        List of `LabelError`, the surest first; the score is 1 less `most / 2` over the residual.
    """
    residuals = labels - predicted[:, 0]
    known = ~np.isnan(residuals)
    middle = np.median(residuals[known])
    spread = 1.4826 * np.median(np.abs(residuals[known] - middle))
    far = np.abs(residuals - middle) / max(spread, 1e-12)
    found = [
        LabelError(int(i), float(labels[i]), float(predicted[i, 0]), float(1 - most / 2 / far[i]))
        for i in np.flatnonzero(known & (far > most))
    ]
    return sorted(found, key=lambda error: (-error.score, error.index))


def find_label_errors(features, neighbours, labels, task, groups, names, seed=0):
    """Name the labels of one task that are likely wrong.

    Classes are judged by the mean of two opinions that the image's own label has no part in: the probes of
    `out_of_fold`, and its neighbours' labels.

    Args:
        features: float32 `(n, width)`.
        neighbours: `tlkit.evaluation.neighbours.Neighbours` that are no copies.
        labels: The labels of the task, as `Task` says.
        task, groups, names, seed: As for `out_of_fold`.

    Returns:
        `(errors, reason)`: a list of `LabelError`, the surest first, and why nothing could be said, or an empty text.
    """
    known = labelled(labels)
    if len({group for group, has in zip(groups, known, strict=True) if has}) < LEAST_IMAGES:
        return [], f"fewer than {LEAST_IMAGES} labelled images"
    if task.kind == "regression":
        if np.ptp(labels[known]) == 0:
            return [], "all numbers are the same"
        task = with_scale(task, labels)
        return number_errors(labels, out_of_fold(features, labels, task, groups, names, seed)), ""
    predicted = out_of_fold(features, labels, task, groups, names, seed)
    if task.kind == "multilabel":
        return set_errors(labels, predicted), ""
    rare = np.bincount(labels[known], minlength=len(task.classes)) < LEAST_MEMBERS
    judged = np.where(known & ~rare[np.maximum(labels, 0)], labels, -1)
    return class_errors(judged, (predicted + votes(neighbours, labels, len(task.classes))) / 2), ""
