"""Averages on numbers worked out by hand, and the choice of views by a paired test."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import gmean

from tlkit.errors import RecipeError
from tlkit.evaluation.tta import average, choose_views, cross_fit, describe_gain, measure_views
from tlkit.tasks import Task

LABEL = {"label": Task("single_label", ("a", "b", "c"))}


def test_single_labels_by_hand():
    values = np.array([[[0.8, 0.1, 0.1]], [[0.2, 0.4, 0.4]]], np.float32)
    np.testing.assert_allclose(average(values, "single_label"), [[0.5, 0.25, 0.25]], atol=1e-7)
    # Geometric means 0.4, 0.2, 0.2, of sum 0.8.
    for how in ("logits", "geometric"):
        found = average(values, "single_label", how)
        np.testing.assert_allclose(found, [[0.5, 0.25, 0.25]], atol=1e-6)
        assert found.dtype == np.float32


def test_mean_logits_are_the_normalized_geometric_mean():
    logits = np.random.default_rng(0).normal(0, 3, (4, 6, 5))
    values = (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)
    mean = np.exp(logits.mean(axis=0))
    for how in ("logits", "geometric"):
        found = average(values, "single_label", how)
        np.testing.assert_allclose(found, mean / mean.sum(axis=1, keepdims=True), atol=1e-5)
    assert np.abs(average(values, "single_label") - found).max() > 0.05


def test_several_labels_by_hand():
    values = np.array([[[0.9, 0.5]], [[0.4, 0.5]]], np.float32)
    np.testing.assert_allclose(average(values, "multilabel"), [[0.65, 0.5]], atol=1e-7)
    np.testing.assert_allclose(average(values, "multilabel", "geometric"), [[0.6, 0.5]], atol=1e-6)
    # Odds 9 and 2/3, of geometric mean sqrt(6).
    np.testing.assert_allclose(average(values, "multilabel", "logits"), [[6**0.5 / (1 + 6**0.5), 0.5]], atol=1e-6)
    values = np.random.default_rng(0).uniform(0.01, 0.99, (5, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(average(values, "multilabel", "logits"), expit(logit(values).mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(average(values, "multilabel", "geometric"), gmean(values, axis=0), atol=1e-6)


def test_numbers_are_averaged_as_they_are():
    values = np.array([[[1.0]], [[-4.0]]], np.float32)
    for how in ("probabilities", "logits", "geometric"):
        np.testing.assert_array_equal(average(values, "regression", how), [[-1.5]])


@pytest.mark.parametrize("kind", ["single_label", "multilabel"])
@pytest.mark.parametrize("how", ["probabilities", "logits", "geometric"])
def test_certainty_and_single_views_are_no_trouble(kind, how):
    sure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)
    found = average(sure, kind, how)
    assert np.isfinite(found).all()
    assert found[0, 0] == pytest.approx(found[0, 1])
    one = np.random.default_rng(0).uniform(size=(1, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(average(one, kind, how), one[0])


def test_an_unknown_average_is_refused():
    with pytest.raises(RecipeError, match=r"Received: 'logit'\. Did you mean 'logits'"):
        average(np.zeros((1, 1, 1), np.float32), "multilabel", "logit")


def predictions(right, n):
    """Return labels of `n` images, and probabilities that are right for those in `right`."""
    labels = np.arange(n) % 3
    said = np.where(np.isin(np.arange(n), list(right)), labels, (labels + 1) % 3)
    return {"label": labels}, {"label": np.eye(3, dtype=np.float32)[said]}


def rows_of(name, views, first, second, n=100):
    labels, plain = predictions(first, n)
    return measure_views(name, views, "val", labels, plain, predictions(second, n)[1], LABEL)


def test_rows_say_what_was_flipped():
    (row,) = rows_of("flip", 2, range(70), range(2, 80))
    assert (row["name"], row["views"], row["split"], row["task"], row["metric"]) == (
        "flip",
        2,
        "val",
        "label",
        "accuracy",
    )
    assert (row["value"], row["flipped_right"], row["flipped_wrong"]) == (0.78, 10, 2)
    assert row["gain"] == pytest.approx(0.08)
    assert row["gain_interval"][0] < 0.08 < row["gain_interval"][1]
    assert row["interval"][0] < 0.78 < row["interval"][1]
    assert row["p"] == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # two or fewer of twelve
    assert describe_gain(row) == "accuracy 0.780 (+0.080)"


def test_a_lower_error_is_a_gain_with_a_minus():
    tasks, labels = {"age": Task("regression")}, {"age": np.array([1.0, 2.0, 3.0, np.nan])}
    plain, better = ({"age": (labels["age"] + off)[:, None]} for off in (2.0, 0.5))
    (row,) = measure_views("flip", 2, "test", labels, plain, better, tasks)
    assert (row["value"], row["gain"], row["flipped_right"]) == (0.5, 1.5, None)
    assert describe_gain(row) == "age mae 0.5 (-1.5)"


def test_a_task_without_labels_has_no_row():
    tasks = LABEL | {"tags": Task("multilabel", ("x", "y"))}
    labels = {"label": np.array([0, 1]), "tags": np.full((2, 2), -1)}
    outputs = {"label": np.eye(3, dtype=np.float32)[:2], "tags": np.zeros((2, 2), np.float32)}
    assert [row["task"] for row in measure_views("flip", 2, "val", labels, outputs, outputs, tasks)] == ["label"]


def test_a_set_that_surely_helps_is_chosen_and_the_reason_said():
    rows = rows_of("flip", 2, range(60), range(61)) + rows_of("tencrop", 10, range(60), range(72))
    name, reason = choose_views(rows)
    assert name == "tencrop"
    assert reason == (
        "tencrop helps: accuracy 0.720 (+0.120) on val, predictions that become right: 12, wrong: 0 "
        "(p 0.00098, corrected for 2 tests)"
    )


def test_of_equals_the_one_with_fewer_views_is_chosen():
    rows = rows_of("tencrop", 10, range(60), range(72)) + rows_of("flip", 2, range(60), range(72))
    assert choose_views(rows)[0] == "flip"


def test_what_one_test_would_keep_many_candidates_do_not():
    """Six of six right has p 0.031 by itself, 0.063 for two candidates."""
    alone = rows_of("flip", 2, range(60), range(66))
    assert choose_views(alone)[0] == "flip"
    name, reason = choose_views(alone + rows_of("fivecrop", 5, range(60), range(60)))
    assert name == "none"
    assert "no set of views helps by more than chance makes likely; the best, flip: accuracy 0.660 (+0.060)" in reason


def test_what_surely_hurts_is_never_chosen():
    rows = rows_of("flip", 2, range(80), range(40)) + rows_of("fivecrop", 5, range(80), range(79))
    name, reason = choose_views(rows)
    assert name == "none"
    assert "the best, fivecrop: accuracy 0.790 (-0.010)" in reason
    assert choose_views([])[0] == "none"


def test_what_helps_one_task_and_hurts_another_is_not_chosen():
    row = {"split": "val", "metric": "accuracy", "value": 0.9, "views": 2, "flipped_right": 20, "flipped_wrong": 0}
    helps = row | {"name": "flip", "task": "one", "gain": 0.2, "p": 1e-6}
    hurts = row | {"name": "flip", "task": "two", "gain": -0.05, "p": 0.03}
    assert choose_views([helps, hurts | {"p": 0.2}])[0] == "flip"
    name, reason = choose_views([helps, hurts])
    assert name == "none"
    assert reason.startswith(
        "no set of views helps one task without hurting another; flip: one accuracy 0.900 (+0.200)"
    )


def test_views_that_do_nothing_are_seldom_chosen():
    """Four candidates that change predictions at random: chosen in at most 5 % of tries."""
    random, chosen = np.random.default_rng(0), 0
    for _ in range(120):
        plain = random.random(150) < 0.8
        rows = []
        for name in "abcd":
            changed = np.where(random.random(150) < 0.1, random.random(150) < 0.5, plain)
            keeps = np.where(plain != changed, random.random(150) < 0.5, plain)  # either way as likely
            rows += rows_of(name, 2, np.flatnonzero(plain), np.flatnonzero(keeps), 150)
        chosen += choose_views(rows)[0] != "none"
    assert chosen <= 6


def test_no_part_is_measured_by_a_choice_that_it_took_part_in():
    labels, plain = predictions(range(60), 100)
    _, helpful = predictions(range(90), 100)
    averaged, chosen = cross_fit("val", labels, plain, {"flip": (2, helpful)}, LABEL)
    assert chosen == ["flip"] * 5
    np.testing.assert_array_equal(averaged["label"], helpful["label"])
    # Eight images of one part are all there is to gain: the four others must not see it, nor do they.
    part = np.random.default_rng(0).permutation(100) % 5
    own = np.flatnonzero((part == 2) & (np.arange(100) >= 60))
    _, helpful = predictions({*range(60), *own}, 100)
    averaged, chosen = cross_fit("val", labels, plain, {"flip": (2, helpful)}, LABEL)
    assert chosen[2] == "none"
    np.testing.assert_array_equal(averaged["label"][part == 2], plain["label"][part == 2])
