"""Intervals by the percentile bootstrap: figures of the same images, drawn anew with replacement many times."""

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
CELLS = 2**20  # numbers held at once, so that they stay near the processor


def mean_interval(values):
    """Return the 95 % interval of a mean over images.

    Args:
        values: float `(images,)`, at least one.

    Returns:
        `[low, high]`.

    Reference:
        Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (the percentile interval).
    """
    sums = [values @ counts for counts in resampled_counts(len(values))]
    return percentile_interval(np.concatenate(sums) / len(values))


def r2_interval(labels, errors):
    """Return the 95 % interval of R squared: one minus the share of the labels' spread that the errors make up.

    A resample of equal labels says nothing of it, and is left out.

    Args:
        labels: float `(images,)`, not all equal.
        errors: float `(images,)`: prediction minus label.

    Returns:
        `[low, high]`.
    """
    centred, drawn = labels - labels.mean(), []
    for counts in resampled_counts(len(labels)):
        spread = centred**2 @ counts - (centred @ counts) ** 2 / len(labels)
        varied = spread > 1e-9 * (centred**2).sum()
        drawn.append(1 - (errors**2 @ counts)[varied] / spread[varied])
    return percentile_interval(np.concatenate(drawn))


def macro_f1_interval(hits, predicted):
    """Return the 95 % interval of the mean F1 of the classes that occur; in a resample, of those that occur there.

    Args:
        hits: bool `(images, classes)`: which image has which class.
        predicted: bool `(images, classes)`: which is said to have it.

    Returns:
        `[low, high]`, or None if no class occurs.
    """
    from scipy.sparse import csr_array

    if not hits.any():
        return None
    both, of_class, found = (csr_array(which.T.astype(np.float32)) for which in (hits & predicted, hits, predicted))
    drawn = []
    for counts in resampled_counts(len(hits)):
        support = of_class @ counts
        f1 = 2 * (both @ counts) / np.maximum(support + found @ counts, 1)
        occurring = (support > 0).sum(axis=0)
        drawn.append((np.where(support > 0, f1, 0).sum(axis=0) / np.maximum(occurring, 1))[occurring > 0])
    return percentile_interval(np.concatenate(drawn))


def average_precision_intervals(hits, scores):
    """Return the 95 % intervals of the average precision of each label, and of their mean.

    A resample in which nobody has a label says nothing of that label, and is left out for it.

    Args:
        hits: bool `(images, labels)`, at least one True per label.
        scores: float `(images, labels)`.

    Returns:
        `(intervals, interval of the mean)`: a list of `[low, high]`, one per label, and one more.
    """
    precisions = average_precisions(hits, scores, resampled_counts(len(hits)))
    intervals = [percentile_interval(row[~np.isnan(row)]) for row in precisions]
    return intervals, percentile_interval(mean_over_labels(precisions))


def average_precisions(hits, scores, parts):
    """Return the average precision of each label in resamples: `(labels, resamples)`, NaN where nobody has the label.

    Args:
        hits, scores: As for `average_precision_intervals`.
        parts: Arrays `(images, resamples)` of how often each image counts, as from `resampled_counts`.
    """
    rankings = [_ranking(hits[:, k], scores[:, k]) for k in range(hits.shape[1])]
    drawn = [np.stack([resampled_average_precision(*ranking, counts) for ranking in rankings]) for counts in parts]
    return np.concatenate(drawn, axis=1)


def mean_over_labels(precisions):
    """Return the mean over the labels that someone has, of each resample in which there are any.

    Args:
        precisions: As from `average_precisions`.
    """
    found = ~np.isnan(precisions)
    some = found.any(axis=0)
    return np.where(found, precisions, 0).sum(axis=0)[some] / found.sum(axis=0)[some]


def resampled_counts(images):
    """Yield how often each image is drawn in `RESAMPLES` resamples: float32 `(images, resamples)`, some at a time.

    The same number of images gives the same resamples always.
    """
    random = np.random.default_rng(0)
    at_once = max(1, CELLS // images)
    for start in range(0, RESAMPLES, at_once):
        width = min(at_once, RESAMPLES - start)
        drawn = random.integers(0, images, (images, width)) * width + np.arange(width)
        yield np.bincount(drawn.ravel(), minlength=images * width).reshape(images, width).astype(np.float32)


def resampled_average_precision(order, positives, ends, counts):
    """Return a label's average precision in resamples, NaN in those where nobody has the label.

    Average precision is the mean, over the images that have the label, of the precision among all images that score
    at least as high.

    Args:
        order: Positions of the images, the highest score first.
        positives: Ranks in that order of the images that have the label, ascending.
        ends: For each of them, the last rank of the same score.
        counts: As from `resampled_counts`.
    """
    ranked = counts[order]
    of_positives = ranked[positives]
    above = np.cumsum(ranked, axis=0)[ends]
    found = np.cumsum(of_positives, axis=0)
    precision = found[np.searchsorted(positives, ends, side="right") - 1] / np.maximum(above, 1)
    total = found[-1]
    return np.where(total > 0, (of_positives * precision).sum(axis=0) / np.maximum(total, 1), np.nan)


def _ranking(hits, scores):
    order = np.argsort(-scores, kind="stable")
    ascending = -scores[order]
    positives = np.flatnonzero(hits[order])
    return order, positives, np.searchsorted(ascending, ascending[positives], side="right") - 1


def percentile_interval(values):
    """Return the 95 % interval of a figure from its values in resamples, `[low, high]`."""
    tail = (1 - CONFIDENCE) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]
