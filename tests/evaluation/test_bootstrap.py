"""The vectorized bootstrap against the plain one: the images drawn, repeated, and given to scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score
from tails import expanded_tails

from tlkit.evaluation.bootstrap import (
    RESAMPLES,
    average_precision_intervals,
    mean_interval,
    resampled_counts,
    wilson_interval,
)


@pytest.fixture(scope="module")
def ranked():
    random = np.random.default_rng(1)
    hits = random.random((40, 3)) < [0.5, 0.9, 0.05]
    hits[0] = True
    return hits, np.round(random.random((40, 3)) + 0.3 * hits, 1)  # tenths: many scores are equal


def test_resamples_draw_as_many_images_as_there_are():
    counts = np.concatenate(list(resampled_counts(7)), axis=1)
    assert counts.shape == (7, RESAMPLES)
    assert (counts.sum(axis=0) == 7).all()
    assert counts.mean(axis=1) == pytest.approx(np.ones(7), abs=0.1)  # standard error 0.02
    assert np.array_equal(counts, np.concatenate(list(resampled_counts(7)), axis=1))


def test_many_images_come_in_parts_of_the_same_kind():
    parts = list(resampled_counts(3000))
    assert len(parts) > 1
    assert sum(part.shape[1] for part in parts) == RESAMPLES
    assert all((part.sum(axis=0) == 3000).all() for part in parts)


def test_average_precision_intervals_are_those_of_resampled_images(ranked):
    hits, scores = ranked
    counts = np.concatenate(list(resampled_counts(40)), axis=1).astype(int)
    table = np.full((3, RESAMPLES), np.nan)
    for column in range(RESAMPLES):
        drawn = np.repeat(np.arange(40), counts[:, column])
        for label in range(3):
            if hits[drawn, label].any():
                table[label, column] = average_precision_score(hits[drawn, label], scores[drawn, label])
    assert np.isnan(table[2]).any()  # the rare label is not in every resample
    intervals, of_mean = average_precision_intervals(hits, scores)
    tails = expanded_tails(40)
    floors = [wilson_floor(average_precision_score(hits[:, k], scores[:, k]), hits[:, k].sum()) for k in range(3)]
    drawn = np.nanquantile(table, tails, axis=1).T
    np.testing.assert_allclose(intervals, union(drawn, floors), rtol=1e-4)
    mean = np.mean([average_precision_score(hits[:, k], scores[:, k]) for k in range(3)])
    floor = wilson_floor(mean, min(40, hits.sum()))
    np.testing.assert_allclose(of_mean, union([np.quantile(np.nanmean(table, axis=0), tails)], [floor])[0], rtol=1e-4)


def wilson_floor(value, trials):
    """The interval of the nearest proportions, one not above the value and one not below it."""
    low, high = np.floor(value * trials + 1e-9), np.ceil(value * trials - 1e-9)
    return [wilson_interval(low, trials)[0], wilson_interval(high, trials)[1]]


def union(one, other):
    one, other = np.array(one), np.array(other)
    return np.stack([np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])], axis=1)


def test_the_interval_of_a_mean_agrees_with_scipy():
    values = np.random.default_rng(0).exponential(size=200)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=0).confidence_interval
    width = theirs.high - theirs.low
    assert mean_interval(values) == pytest.approx([theirs.low, theirs.high], abs=0.05 * width)


def test_the_interval_of_equal_values_is_a_point():
    assert mean_interval(np.full(5, 2.0)) == [2.0, 2.0]
