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
    return _interval(np.concatenate([values @ counts for counts in resampled_counts(len(values))]) / len(values))


def average_precision_intervals(hits, scores):
    """Return the 95 % intervals of the average precision of each label, and of their mean.

    A resample in which nobody has a label says nothing of that label, and is left out for it.

    Args:
        hits: bool `(images, labels)`, at least one True per label.
        scores: float `(images, labels)`.

    Returns:
        `(intervals, interval of the mean)`: a list of `[low, high]`, one per label, and one more.
    """
    rankings = [_ranking(hits[:, k], scores[:, k]) for k in range(hits.shape[1])]
    drawn = [
        np.stack([resampled_average_precision(*ranking, counts) for ranking in rankings])
        for counts in resampled_counts(len(hits))
    ]
    precisions = np.concatenate(drawn, axis=1)
    found = ~np.isnan(precisions)
    means = np.where(found, precisions, 0).sum(axis=0)[found.any(axis=0)] / found.sum(axis=0)[found.any(axis=0)]
    intervals = [_interval(row[there]) for row, there in zip(precisions, found, strict=True)]
    return intervals, _interval(means)


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


def _interval(values):
    tail = (1 - CONFIDENCE) / 2
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]
