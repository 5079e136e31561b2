"""Recipes compared by several runs each, that differ in their seeds: images and seeds are both samples."""

from dataclasses import dataclass

import numpy as np

from tlkit.data.labels import labelled
from tlkit.evaluation.bootstrap import average_precisions, mean_over_labels, resampled_counts
from tlkit.evaluation.compare import Difference
from tlkit.evaluation.metrics import headline_metric, predicted_labels

ROUNDING = 1e-9  # of a gain: less is what sums come to that should be equal


@dataclass(frozen=True)
class GroupFigures:
    """The headline figure of the runs of one recipe.

    Attributes:
        values: The figure of each run.
        difference: `Difference` of the mean to the first group's; None for the first.
    """

    values: list[float]
    difference: Difference | None = None

    @property
    def mean(self):
        """The mean over the runs."""
        return float(np.mean(self.values))


def compare_groups(labels, groups, task):
    """Compare groups of runs by the mean of their headline figure.

    What is said holds for other images and other seeds: to the variance over images (from the bootstrap, in which all
    runs predict the same resampled images) comes that over seeds, as far as the images of the runs' own mistakes don't
    explain it already; it is taken to be the same in all groups. The test is Student's, its degrees of freedom
    Satterthwaite's.

    Args:
        labels: As for `paired_difference`.
        groups: List of lists: the probabilities of each run of each group; one of them has at least two.
        task: The `Task`.

    Returns:
        List of `GroupFigures`; an empty one where nothing can be said.

    Reference:
        Obuchowski & Rockette 1995, https://doi.org/10.1080/03610919508813243, with seeds for readers.
        Satterthwaite 1946, https://doi.org/10.2307/3002019
    """
    known = labelled(labels)
    labels, members = np.asarray(labels)[known], [np.asarray(values)[known] for group in groups for values in group]
    figures = _FIGURES[task.kind]
    if not len(labels) or (whole := figures(labels, members, task, [np.ones((len(labels), 1))])) is None:
        return []
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    resampled = figures(labels, members, task, resampled_counts(len(labels)))
    covariance = np.cov(resampled) * len(labels) / max(1, len(labels) - 1)
    values = whole[:, 0]
    between, by_images, freedom = _within_groups(values, covariance, group_of)
    sign = -1 if task.kind == "regression" else 1
    found = [GroupFigures(values[group_of == 0].tolist())]
    for group in range(1, len(groups)):
        one, other = group_of == 0, group_of == group
        weights = other / other.sum() - one / one.sum()
        both = _Variance(
            images=float(weights @ covariance @ weights),
            between=between * (1 / one.sum() + 1 / other.sum()),
            by_images=by_images * (1 / one.sum() + 1 / other.sum()),
            freedom=freedom,
        )
        gain = sign * float(weights @ values)
        gain = 0.0 if abs(gain) < ROUNDING else gain
        means = {"first": float(values[one].mean()), "second": float(values[other].mean())}
        tested = both.test(gain, len(labels))
        difference = Difference(headline_metric(task.kind)[0], len(labels), **means, gain=gain, **tested)
        found.append(GroupFigures(values[other].tolist(), difference))
    return found


@dataclass(frozen=True)
class _Variance:
    """Variance of a gain by what it comes from.

    Attributes:
        images: Over images, for these runs.
        between: Over runs of one recipe, as seen on these images; of which `by_images` is what chance on the images
            explains, and is in `images` already.
        freedom: Degrees of freedom that `between` is known with.
    """

    images: float
    between: float
    by_images: float
    freedom: int

    def test(self, gain, n):
        """Return the 95 % interval and p of a gain over `n` images, as a dict."""
        from scipy.stats import t

        by_seeds = max(0.0, self.between - self.by_images)
        total = self.images + by_seeds
        if total < ROUNDING**2:  # every image says the same: a sign test is what remains
            return {"interval": [gain, gain], "p": min(1.0, 2.0 ** (1 - n)) if gain else 1.0}
        spread = self.images**2 / max(1, n - 1) + (self.between**2 / self.freedom if by_seeds else 0)
        freedom, error = total**2 / spread, total**0.5
        reach = float(t.ppf(0.975, freedom) * error)
        return {"interval": [gain - reach, gain + reach], "p": float(2 * t.sf(abs(gain) / error, freedom))}


def _within_groups(values, covariance, group_of):
    """Return the variance of the figure between runs of a group, what of it images explain, and its freedom.

    Args:
        values: Figure of each run.
        covariance: Of the runs' figures, over resamples of the images.
        group_of: Group of each run.
    """
    squares = explained = 0.0
    freedom = 0
    for group in np.unique(group_of):
        own = group_of == group
        k = int(own.sum())
        if k < 2:
            continue
        within = covariance[np.ix_(own, own)]
        apart = within.trace() / k - (within.sum() - within.trace()) / (k * (k - 1))
        squares += float(((values[own] - values[own].mean()) ** 2).sum())
        explained += (k - 1) * float(apart)
        freedom += k - 1
    return squares / freedom, explained / freedom, freedom


def _accuracies(labels, members, task, parts):
    right = np.stack([predicted_labels(values, task) == labels for values in members]).astype(np.float32)
    return _means(right, parts)


def _errors(labels, members, _task, parts):
    return _means(np.stack([np.abs(values[:, 0].astype(np.float64) - labels) for values in members]), parts)


def _means(rows, parts):
    return np.concatenate([rows @ counts for counts in parts], axis=1) / rows.shape[1]


def _precisions(labels, members, _task, parts):
    hits = labels == 1
    varied = hits.any(axis=0) & ~hits.all(axis=0)
    if not varied.any():
        return None
    parts = list(parts)
    return np.stack(
        [mean_over_labels(average_precisions(hits[:, varied], values[:, varied], parts)) for values in members]
    )


_FIGURES = {"single_label": _accuracies, "multilabel": _precisions, "regression": _errors}
