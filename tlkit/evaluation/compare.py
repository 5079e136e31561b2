"""Is one of two predictions of the same images better, and by how much: a paired interval and a paired test."""

from dataclasses import dataclass

import numpy as np

from tlkit.data.labels import labelled
from tlkit.evaluation.bootstrap import (
    CELLS,
    RESAMPLES,
    average_precision_intervals,
    average_precisions,
    mean_interval,
    mean_over_labels,
    percentile_interval,
    resampled_counts,
    wilson_interval,
)
from tlkit.evaluation.metrics import headline_metric, predicted_labels

SIGNIFICANT = 0.05  # p from which on two predictions are not told apart
NORMAL_QUANTILE = 1.959963984540054  # of 0.975: the intervals are of 95 %


@dataclass(frozen=True)
class Difference:
    """How two predictions of the same images differ in the headline figure of their task.

    Attributes:
        metric: `"accuracy"`, `"mean_average_precision"` or `"mae"`.
        n: Number of images that have a label.
        first, second: The figure of each, or None where nothing can be said, as of no images; then all below is None.
        gain: How much better the second is: above 0 if it is better, for errors too.
        interval: Its paired 95 % interval, `[low, high]`.
        won, lost: For accuracy: images that only the second gets right, and only the first; else None.
        p: Two-sided p-value of no difference.
    """

    metric: str
    n: int
    first: float | None = None
    second: float | None = None
    gain: float | None = None
    interval: list[float] | None = None
    won: int | None = None
    lost: int | None = None
    p: float | None = None


def paired_difference(labels, first, second, task):
    """Compare two predictions of the same images by the headline figure of their task.

    Accuracy has McNemar's exact test and Tango's score interval. The other figures have the percentile bootstrap over
    images for the interval, and for p a randomization test: whether such a gain is common when it is left to chance
    which of the two made either prediction of an image.

    Args:
        labels: `(images,)`, or `(images, classes)` for several labels, as `Task` says; images without one count for
            nothing.
        first, second: float `(images, classes)` probabilities; for regression the numbers `(images, 1)`.
        task: The `Task`.

    Returns:
        `Difference`, of the second to the first.

    Reference:
        McNemar 1947, https://doi.org/10.1007/BF02295996 (here the exact binomial form).
        Tango 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
        Venkatraman & Begg 1996, https://doi.org/10.1093/biomet/83.4.835 (ranks exchanged between two rankings).
    """
    known = labelled(labels)
    n, metric = int(known.sum()), headline_metric(task.kind)[0]
    if not n:
        return Difference(metric, 0)
    given = (np.asarray(values)[known] for values in (labels, first, second))
    return Difference(metric, n, **_DIFFERENCES[task.kind](*given, task))


def holm(p_values):
    """Return p-values corrected for having looked at several: the chance of any false alarm stays at its level.

    Args:
        p_values: One per comparison.

    Reference:
        Holm 1979, https://www.jstor.org/stable/4615733
    """
    order, corrected, floor = np.argsort(p_values, kind="stable"), [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = floor
    return corrected


def verdict(difference, p):
    """Say in words whether the second is better, worse, or not distinguishable from the first.

    Args:
        difference: `Difference`.
        p: Its p-value, corrected where there are several.
    """
    if difference.p is None:
        return "nothing to compare"
    n, won, lost, gain = difference.n, difference.won, difference.lost, difference.gain
    certainty = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    if p < SIGNIFICANT:
        better, direction = ("better", "more") if gain > 0 else ("worse", "fewer")
        if won is not None:
            return f"{better}: {abs(won - lost)} of {n} {direction} right, {certainty}"
        higher = "higher" if (gain > 0) != (difference.metric == "mae") else "lower"
        return f"{better}: {difference.metric.replace('_', ' ')} {abs(gain):.3g} {higher}, {certainty}"
    if won is None:
        low, high = difference.interval
        return f"not distinguishable: a gain from {low:.3g} to {high:.3g}, {certainty}"
    if not won + lost:
        return "not distinguishable: right on the same images"
    decide = f"1 image of {n} decides" if won + lost == 1 else f"{won + lost} images of {n} decide"
    return f"not distinguishable: {decide}, {won} for and {lost} against, {certainty}"


def _accuracy_difference(labels, first, second, task):
    right = [predicted_labels(probabilities, task) == labels for probabilities in (first, second)]
    won, lost, n = int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum()), len(labels)
    return {
        "first": float(right[0].mean()),
        "second": float(right[1].mean()),
        "gain": (won - lost) / n,
        "interval": paired_accuracy_interval(won, lost, n),
        "won": won,
        "lost": lost,
        "p": mcnemar_p(won, lost),
    }


def figure(labels, probabilities, task):
    """Return the headline figure of one prediction and its 95 % interval, as `task_metrics` does, alone.

    Args:
        labels, probabilities, task: As for `task_metrics`.

    Returns:
        `(value, interval)`; None twice where nothing can be said.
    """
    known = labelled(labels)
    labels, probabilities = np.asarray(labels)[known], np.asarray(probabilities)[known]
    if not len(labels):
        return None, None
    if task.kind == "single_label":
        correct = int((predicted_labels(probabilities, task) == labels).sum())
        return correct / len(labels), wilson_interval(correct, len(labels))
    if task.kind == "regression":
        errors = np.abs(probabilities[:, 0].astype(np.float64) - labels)
        return float(errors.mean()), mean_interval(errors)
    hits = labels == 1
    varied = hits.any(axis=0) & ~hits.all(axis=0)
    if not varied.any():
        return None, None
    hits, scores = hits[:, varied], probabilities[:, varied]
    value = mean_over_labels(average_precisions(hits, scores, [np.ones((len(hits), 1))]))[0]
    return float(value), average_precision_intervals(hits, scores)[1]


def mcnemar_p(won, lost):
    """Return the two-sided p-value of McNemar's exact test: are the images that differ shared out by a fair coin?

    Args:
        won, lost: Numbers of images that only one of two predictions gets right.
    """
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def paired_accuracy_interval(won, lost, n):
    """Return Tango's 95 % score interval of the difference of two accuracies on the same images.

    The interval holds the differences that a score test doesn't reject, the share of images that differ being the
    likeliest under each.

    Args:
        won, lost: Numbers of images that only one of two predictions gets right.
        n: Number of images.

    Returns:
        `[low, high]`, in [-1, 1].

    Reference:
        Tango 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B, section 3.
    """
    from scipy.optimize import brentq

    def excess(difference):
        """By how much the squared distance from the observed difference exceeds what chance explains."""
        b = (2 * n - won + lost) * difference - won - lost
        c = -lost * difference * (1 - difference)
        losing = (np.sqrt(max(b * b - 8 * n * c, 0)) - b) / (4 * n)  # its likeliest probability
        variance = n * (2 * losing + difference * (1 - difference))
        return (won - lost - n * difference) ** 2 - NORMAL_QUANTILE**2 * variance

    observed, beside = (won - lost) / n, 1e-9  # where nothing differs, the observed difference is a root itself
    low = -1.0 if lost == n else brentq(excess, -1, observed - beside)
    high = 1.0 if won == n else brentq(excess, observed + beside, 1)
    return [float(low), float(high)]


def _precision_difference(hits, first, second, _task):
    hits = hits == 1
    varied = hits.any(axis=0) & ~hits.all(axis=0)
    if not varied.any():
        return {}
    hits, scores = hits[:, varied], [_ranks(values[:, varied]) for values in (first, second)]
    n = len(hits)
    whole = [average_precisions(hits, values, [np.ones((n, 1))]) for values in scores]
    means = [float(mean_over_labels(precisions)[0]) for precisions in whole]
    drawn = [mean_over_labels(average_precisions(hits, values, resampled_counts(n))) for values in scores]
    both = np.concatenate([hits, hits]), np.concatenate(scores)
    swapped = [mean_over_labels(average_precisions(*both, _exchanges(n, second=side))) for side in (False, True)]
    gain = means[1] - means[0]
    return {
        "first": means[0],
        "second": means[1],
        "gain": gain,
        "interval": percentile_interval(drawn[1] - drawn[0], n),
        "p": _randomization_p(gain, swapped[1] - swapped[0]),
    }


def _error_difference(labels, first, second, _task):
    errors = [np.abs(values[:, 0].astype(np.float64) - labels) for values in (first, second)]
    gains = errors[0] - errors[1]
    signs = (1 - 2 * part for part in _coins(len(gains)))
    return {
        "first": float(errors[0].mean()),
        "second": float(errors[1].mean()),
        "gain": float(gains.mean()),
        "interval": mean_interval(gains),
        "p": _randomization_p(gains.mean(), np.concatenate([gains @ part for part in signs]) / len(gains)),
    }


_DIFFERENCES = {
    "single_label": _accuracy_difference,
    "multilabel": _precision_difference,
    "regression": _error_difference,
}


def _ranks(scores):
    """Return each column's ranks: what two models' scores have in common, whatever their scales."""
    from scipy.stats import rankdata

    return rankdata(scores, axis=0)


def _coins(images):
    """Yield, for `RESAMPLES` tries, a coin for each image: float32 0 or 1 `(images, tries)`, some at a time."""
    random = np.random.default_rng(1)
    at_once = max(1, CELLS // images)
    for start in range(0, RESAMPLES, at_once):
        width = min(at_once, RESAMPLES - start)
        yield random.integers(0, 2, (images, width)).astype(np.float32)


def _exchanges(images, second):
    """Yield which of `2 * images` predictions, the first model's before the second's, count as the one model's.

    Args:
        images: Number of images.
        second: Whether as the second's, else as the first's.
    """
    for coins in _coins(images):
        yield np.concatenate([coins, 1 - coins] if second else [1 - coins, coins])


def _randomization_p(gain, by_chance):
    """Return how common a gain at least as far from 0 is among those by chance, the observed one being one of them."""
    as_far = np.abs(by_chance) >= abs(gain) * (1 - 1e-4)  # equal ones are told apart by rounding alone
    return float((1 + as_far.sum()) / (1 + len(by_chance)))
