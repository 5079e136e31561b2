"""The statistics keep what they promise: how often intervals hold the truth, and how often p is small for nothing.

What can be enumerated is: all outcomes with their exact probabilities. The rest is simulated, with a tolerance that is
said; in the long tests more, and with less tolerance.
"""

from functools import cache

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from tlkit.evaluation import bootstrap, compare, seeds
from tlkit.evaluation.bootstrap import average_precision_intervals, mean_interval
from tlkit.evaluation.compare import holm, mcnemar_p, paired_accuracy_interval, paired_difference
from tlkit.evaluation.metrics import wilson_interval
from tlkit.evaluation.seeds import compare_groups
from tlkit.tasks import Task

LABELS = Task("multilabel", ("a", "b"))
NUMBER = Task("regression", mean=0.0, scale=1.0)
CLASSES = Task("single_label", ("right", "wrong"))


@pytest.fixture(autouse=True, scope="module")
def kept_resamples():
    """The resamples and coins of a number of images are the same always: they are drawn once here."""
    counts, coins = (cache(lambda n, draw=draw: list(draw(n))) for draw in (bootstrap.resampled_counts, compare._coins))
    with pytest.MonkeyPatch.context() as patch:
        for module in (bootstrap, compare, seeds):
            patch.setattr(module, "resampled_counts", counts)
        patch.setattr(compare, "_coins", coins)
        yield


@pytest.mark.parametrize("n", [50, 150, 1000])
def test_wilson_intervals_hold_the_truth_in_95_percent(n):
    correct = np.arange(n + 1)
    low, high = np.array([wilson_interval(k, n) for k in correct]).T
    rates = np.linspace(0.5, 0.99, 491)[:, None]
    covered = (stats.binom.pmf(correct, n, rates) * ((low <= rates) & (rates <= high))).sum(axis=1)
    assert 0.94 <= covered.mean() <= 0.96
    assert covered.min() > 0.89


def shared_out(n, least=1e-12):
    """Yield pairs of rates of (only the second right, only the first right), and the outcomes and their probabilities.

    The share of images on which the two differ goes from 4 to 40 %, that of them which the second gets right from 0.3
    to 0.7.
    """
    for differing in np.linspace(0.04, 0.4, 7):
        for share in (0.3, 0.4, 0.5, 0.6, 0.7):
            rates = differing * share, differing * (1 - share)
            won, lost = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
            possible = won + lost <= n
            won, lost = won[possible], lost[possible]
            counts = np.stack([won, lost, n - won - lost], axis=1)
            chance = stats.multinomial.pmf(counts, n, [*rates, 1 - sum(rates)])
            likely = chance > least
            yield rates, won[likely], lost[likely], chance[likely]


def mean_coverage(n):
    known, covered = {}, []
    for rates, won, lost, chance in shared_out(n, least=1e-6):
        holds = 0.0
        for outcome in zip(won.tolist(), lost.tolist(), chance.tolist(), strict=True):
            if outcome[:2] not in known:
                known[outcome[:2]] = paired_accuracy_interval(*outcome[:2], n)
            low, high = known[outcome[:2]]
            holds += outcome[2] * (low <= rates[0] - rates[1] <= high)
        covered.append(holds)
    return np.mean(covered), min(covered)


def test_paired_intervals_hold_the_truth_in_95_percent():
    mean, least = mean_coverage(50)
    assert 0.94 <= mean <= 0.96
    assert least > 0.92


@pytest.mark.slow
def test_paired_intervals_hold_the_truth_in_95_percent_of_150():
    mean, least = mean_coverage(150)
    assert 0.945 <= mean <= 0.955
    assert least > 0.93


def test_mcnemar_sees_nothing_where_nothing_is():
    """Exactly, given how many images differ: at most 5 % false alarms, hence in sum over that number, too."""
    alarms = []
    for differing in (*range(60), *range(60, 151, 10)):
        few = 0  # won by one of the two, so few that it is seen
        while 2 * few < differing and mcnemar_p(few, differing - few) < 0.05:
            few += 1
        alarms.append(2 * stats.binom.cdf(few - 1, differing, 0.5))
    assert max(alarms) <= 0.05
    assert alarms[-1] > 0.03  # it isn't that it never sees anything


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5]) == [0.5]
    assert holm([0.9, 0.9]) == [1, 1]
    assert holm([]) == []


def test_one_in_twenty_families_gives_a_false_alarm():
    random = np.random.default_rng(0)
    alarms = np.mean([min(holm(random.random(6))) < 0.05 for _ in range(4000)])
    assert alarms == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def two_models(n, random, noise=(1.0, 1.0), kind="multilabel"):
    """Return labels and the outputs of two models whose mistakes have half of their variance in common."""
    shared = random.normal(size=(n, 2))
    errors = [np.sqrt(0.5) * (shared + random.normal(size=(n, 2))) for _ in noise]
    if kind == "regression":
        labels = random.normal(size=n)
        return labels, *((labels + level * error[:, 0])[:, None] for level, error in zip(noise, errors, strict=True))
    hits = (random.random((n, 2)) < [0.5, 0.25]).astype(np.int8)
    hits[0], hits[1] = 0, 1  # each label is varied
    return hits, *(expit(1.5 * hits + level * error) for level, error in zip(noise, errors, strict=True))


def false_alarms(n, kind, repeats, seed=0):
    random = np.random.default_rng(seed)
    task = NUMBER if kind == "regression" else LABELS
    p = [paired_difference(*two_models(n, random, kind=kind), task).p for _ in range(repeats)]
    return np.mean(np.array(p) < 0.05)


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_other_figures_see_nothing_where_nothing_is(kind):
    assert false_alarms(50, kind, 200) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multilabel", "regression"])
@pytest.mark.parametrize("n", [50, 150])
def test_false_alarms_are_at_most_6_percent(n, kind):
    """Of 4,000 comparisons under the null; the standard error is 0.35 %."""
    assert 0.04 <= false_alarms(n, kind, 4000, seed=1) <= 0.06


@pytest.mark.parametrize("kind", ["multilabel", "regression"])
def test_what_is_there_is_seen(kind):
    random = np.random.default_rng(0)
    task = NUMBER if kind == "regression" else LABELS
    found = [paired_difference(*two_models(150, random, (1.6, 0.8), kind), task) for _ in range(20)]
    assert all(difference.gain > 0 for difference in found)
    assert sum(difference.p < 0.05 for difference in found) >= 18


def average_precision_coverage(n, repeats, seed=0):
    """Return how often the intervals hold the truth: of one label's average precision, of the mean's, of a gain's."""
    random = np.random.default_rng(seed)
    hits, first, second = two_models(50_000, random, (1.4, 0.9))
    from sklearn.metrics import average_precision_score

    truths = np.array([[average_precision_score(hits[:, k], s[:, k]) for k in range(2)] for s in (first, second)])
    held = []
    for _ in range(repeats):
        hits, first, second = two_models(n, random, (1.4, 0.9))
        of_labels, of_mean = average_precision_intervals(hits == 1, first)
        of_gain = paired_difference(hits, first, second, LABELS).interval
        truth = [truths[0, 0], truths[0].mean(), truths[1].mean() - truths[0].mean()]
        held.append([low <= t <= high for t, (low, high) in zip(truth, (of_labels[0], of_mean, of_gain), strict=True)])
    return np.mean(held, axis=0)


@pytest.mark.parametrize("n", [30, 55])
def test_the_average_precision_of_a_good_ranking_is_not_taken_for_certain(n):
    """Where most samples are ranked without a fault, resampling them shows none: Wilson's interval does."""
    random = np.random.default_rng(0)

    def draw(images):
        hits = random.random(images) < 0.3
        return hits[:, None], (random.normal(size=images) + 3.5 * hits)[:, None]

    from sklearn.metrics import average_precision_score

    truth, held, faultless = average_precision_score(*draw(200_000)), [], 0
    assert truth > 0.98
    for _ in range(200):
        hits, scores = draw(n)
        ((low, high),), _ = average_precision_intervals(hits, scores)
        held.append(low <= truth <= high)
        faultless += scores[hits].min() > scores[~hits].max()
    assert faultless > 20
    assert np.mean(held) >= 0.93


def test_average_precision_intervals_hold_the_truth():
    """The bootstrap is a little too narrow, or off centre, with few images: 90 % is what it must keep."""
    coverage = average_precision_coverage(60, 120)
    assert (coverage >= 0.9 - 2.5 * np.sqrt(0.1 * 0.9 / 120)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(50, 0.89), (150, 0.91)])
def test_average_precision_intervals_hold_the_truth_many_times(n, least):
    """Those of average precision may be wider than need be: they reach as far as Wilson's."""
    coverage = average_precision_coverage(n, 1500, seed=1)
    assert (coverage >= least).all()
    assert coverage[2] <= 0.97  # of a gain


@pytest.mark.parametrize(("n", "least"), [(5, 0.87), (10, 0.90), (50, 0.925), (150, 0.935)])
def test_bootstrap_means_hold_the_truth(n, least):
    """Absolute errors of a normal distribution: their mean is sqrt(2 / pi). Of 2,000; the standard error is 0.5 %."""
    random = np.random.default_rng(0)
    intervals = np.array([mean_interval(np.abs(random.normal(size=n))) for _ in range(2000)])
    coverage = np.mean((intervals[:, 0] <= np.sqrt(2 / np.pi)) & (np.sqrt(2 / np.pi) <= intervals[:, 1]))
    assert least <= coverage <= 0.96


def groups_of_seeds(random, n, sizes, seed_effect):
    """Return groups of runs of one recipe: images differ in how hard they are, and seeds in how good they are."""
    ease = random.normal(1.5, 2, n)
    groups = []
    for size in sizes:
        chances = [expit(ease + seed_effect * random.normal()) for _ in range(size)]
        right = [random.random(n) < chance for chance in chances]
        groups.append([np.stack([answer, ~answer], axis=1).astype(np.float32) for answer in right])
    return groups


def group_alarms(n, sizes, seed_effect, repeats, seed=0):
    random, labels = np.random.default_rng(seed), np.zeros(n, np.int32)
    p = [
        compare_groups(labels, groups_of_seeds(random, n, sizes, seed_effect), CLASSES)[1].difference.p
        for _ in range(repeats)
    ]
    return np.mean(np.array(p) < 0.05)


def test_groups_of_seeds_of_one_recipe_are_not_told_apart():
    assert group_alarms(60, (3, 3), 0.2, 100) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 100)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (5, 5), (1, 3)])
@pytest.mark.parametrize("seed_effect", [0.0, 0.2])
def test_groups_of_seeds_are_not_told_apart_many_times(sizes, seed_effect):
    """An effect of 0.2 is a standard deviation of 2 points of accuracy. Of 1,000; the standard error is 0.7 %."""
    assert group_alarms(150, sizes, seed_effect, 1000, seed=1) <= 0.06 + 0.014
