"""The order of backbones, from their predictions; who can be told from the first, and whose cost buys nothing."""

import numpy as np
import pytest

from tlkit.search.rank import Suitability, judge, rank
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("a", "b"))}
LABELS = {"label": np.arange(200, dtype=np.int32) % 2}


def candidate(name, wrong, seconds=1.0, certainty=0.9):
    """A backbone that is wrong on the first so many images."""
    said = np.where(np.arange(200) < wrong, 1 - LABELS["label"], LABELS["label"])
    predictions = {"label": np.where(np.eye(2)[said] == 1, certainty, 1 - certainty)}
    loss = -np.log(predictions["label"][np.arange(200), LABELS["label"]]).mean()
    return Suitability(name, {"label": (1 - wrong / 200, None)}, loss, {}, 0.0, seconds, 1, 0.0, predictions)


def names(places):
    return [place.suitability.backbone for place in places]


def test_one_task_goes_by_its_figure_and_then_by_the_loss():
    places = rank([candidate("x", 30), candidate("y", 10), candidate("z", 30, certainty=0.8)], LABELS, TASKS)
    assert names(places) == ["y", "z", "x"]


def test_several_tasks_go_by_the_loss():
    tasks = TASKS | {"other": TASKS["label"]}
    labels = LABELS | {"other": LABELS["label"]}
    both = [candidate("sure", 10, certainty=0.999), candidate("calibrated", 12, certainty=0.95)]
    for one in both:
        one.predictions["other"], one.figures["other"] = one.predictions["label"], one.figures["label"]
    assert names(rank(both, labels, tasks)) == ["calibrated", "sure"]


def test_numbers_go_by_the_smallest_error():
    task = {"age": Task("regression")}
    labels = {"age": np.linspace(0, 1, 50)}
    off = [
        Suitability(name, {"age": (error, None)}, error, {}, 0.0, 1.0, 1, 0.0, {"age": labels["age"][:, None] + error})
        for name, error in (("far", 0.5), ("near", 0.1))
    ]
    assert names(rank(off, labels, task)) == ["near", "far"]


def test_what_chance_explains_is_told_apart_from_what_it_does_not():
    places = rank([candidate("first", 10), candidate("close", 13), candidate("far", 60)], LABELS, TASKS)
    assert [place.as_good for place in places] == [True, True, False]
    assert places[0].p is None
    assert places[1].p == pytest.approx(0.25)  # three coins fall alike, two-sided; the other p is far smaller
    assert places[2].gain == pytest.approx(-50 / 200)
    low, high = places[2].gain_interval
    assert low < -50 / 200 < high < 0


def test_the_front_is_who_is_neither_worse_nor_slower_than_another():
    several = [
        candidate("slow and good", 10, 4.0),
        candidate("fast and bad", 40, 1.0),
        candidate("slow and bad", 40, 3.0),
        candidate("between", 20, 2.0),
    ]
    front = {place.suitability.backbone for place in rank(several, LABELS, TASKS) if place.on_front}
    assert front == {"slow and good", "fast and bad", "between"}


def test_features_that_tell_the_labels_are_judged_better_by_every_figure():
    random = np.random.default_rng(0)
    telling = random.normal(size=(200, 8)).astype(np.float32)
    telling[:, 0] += 3 * LABELS["label"]
    fold = np.arange(200) // 2 % 5
    good, bad = (judge(x, LABELS, TASKS, fold) for x in (telling, random.normal(size=(200, 8)).astype(np.float32)))
    assert good["figures"]["label"][0] > 0.85
    low, high = good["figures"]["label"][1]
    assert low < good["figures"]["label"][0] < high
    assert abs(bad["figures"]["label"][0] - 0.5) < 0.15
    assert good["ridge"]["label"] > 0.85
    assert good["loss"] < bad["loss"]
    assert good["log_evidence"] > bad["log_evidence"]


def test_a_ranking_of_which_nothing_can_be_said_goes_by_the_loss():
    """A label that all images have, or none: there is no figure, and no test."""
    task = {"marks": Task("multilabel", ("a",))}
    labels = {"marks": np.ones((50, 1), np.int8)}
    both = [
        Suitability(name, {"marks": (None, None)}, loss, {}, 0.0, 1.0, 1, 0.0, {"marks": np.full((50, 1), 0.9)})
        for name, loss in (("worse", 0.5), ("better", 0.1))
    ]
    places = rank(both, labels, task)
    assert names(places) == ["better", "worse"]
    assert (places[1].p, places[1].gain) == (1.0, None)
