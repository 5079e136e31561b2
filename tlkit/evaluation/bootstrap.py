"""Intervals by the bootstrap: figures of the same images, drawn anew with replacement many times.

Few images vary less in resamples than in truth: the percentiles are taken farther out, as Hesterberg 2015 says. And
figures that are nearly perfect vary hardly at all in resamples: the intervals of those of ranking and of F1 reach at
least as far as Wilson's, as if they were a proportion.
"""

import math

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
EXACT = 1e-6  # a product so near a whole number is one
CELLS = 2**20  # numbers held at once, so that they stay near the processor


def student_interval(values):
    """Return Student's 95 % interval of the mean of a few independent values, such as one a seed: `[low, high]`.

    Args:
        values: float `(n,)`, at least two.
    """
    from scipy.stats import t

    values = np.asarray(values, np.float64)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return [float(values.mean()) - reach, float(values.mean()) + reach]


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
    return percentile_interval(np.concatenate(sums) / len(values), len(values))


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
    return percentile_interval(np.concatenate(drawn), len(labels))


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
    of_class, right = hits.sum(axis=0), 2 * (hits & predicted).sum(axis=0)
    f1 = right[of_class > 0] / (of_class + predicted.sum(axis=0))[of_class > 0]
    trials = min(len(hits), int(of_class.sum()))
    return _as_wide_as_wilson(percentile_interval(np.concatenate(drawn), len(hits)), f1.mean(), trials)


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
    as_they_are = average_precisions(hits, scores, [np.ones((len(hits), 1), np.float32)])[:, 0]
    positives = hits.sum(axis=0)
    intervals = [
        _as_wide_as_wilson(percentile_interval(row[~np.isnan(row)], len(hits)), value, trials)
        for row, value, trials in zip(precisions, as_they_are, positives, strict=True)
    ]
    of_mean = percentile_interval(mean_over_labels(precisions), len(hits))
    return intervals, _as_wide_as_wilson(of_mean, as_they_are.mean(), min(len(hits), positives.sum()))


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


def percentile_interval(values, images):
    """Return the 95 % interval of a figure from its values in resamples, `[low, high]`.

    Args:
        values: float `(resamples,)`.
        images: How many images there are; of one, every resample is the same.

    Reference:
        Hesterberg 2015, https://doi.org/10.1080/00031305.2015.1089789, (the expanded
        percentile interval).
    """
    from scipy.stats import norm, t

    tail = (1 - CONFIDENCE) / 2
    if images > 1:
        tail = norm.cdf(math.sqrt(images / (images - 1)) * t.ppf(tail, images - 1))
    return [float(value) for value in np.quantile(values, [tail, 1 - tail])]


def _as_wide_as_wilson(interval, value, trials):
    """Return an interval that holds another one, and that of the nearest proportions of so many trials."""
    low, high = math.floor(value * trials + EXACT), math.ceil(value * trials - EXACT)
    return [min(interval[0], wilson_interval(low, trials)[0]), max(interval[1], wilson_interval(high, trials)[1])]


def wilson_interval(correct, total, confidence=0.95):
    """Return the Wilson score interval of a proportion.

    Args:
        correct: Number of successes.
        total: Number of trials, at least 1.
        confidence: In (0, 1).

    Returns:
        `[low, high]`, in [0, 1].

    Reference:
        Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    from scipy.stats import binomtest

    interval = binomtest(int(correct), int(total)).proportion_ci(confidence, method="wilson")
    return [float(interval.low), float(interval.high)]
