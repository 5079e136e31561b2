"""What the oracles propose: within the ranges, the same in every process, and all the way to the end."""

import math
import random

import pytest

from tlkit.recipe_keys import Span
from tlkit.search.oracles import ORACLES, WAIT, Oracle

RANGES = {
    "stages.0.learning_rate": Span(min=1e-4, max=1e-1, log=True),
    "head.dropout": Span(min=0.0, max=0.8),
    "data.views": Span(min=1, max=4),
    "head.pooling": ["avg", "max"],
    "stages.0.unfreeze": [0, 2, "all"],
}


def make(kind, trials=10, seed=0):
    return Oracle(kind, RANGES, trials, seed, epochs=9)


def score_of(proposal):
    """Best at a rate of 1e-2 and little dropout."""
    return -abs(math.log10(proposal.settings["stages.0.learning_rate"]) + 2) - proposal.settings["head.dropout"]


def search(oracle, answer=score_of):
    found = []
    while (proposal := oracle.ask()) is not None:
        assert proposal is not WAIT
        found.append(proposal)
        oracle.tell(proposal.number, answer(proposal))
    return found


@pytest.mark.parametrize("kind", ORACLES)
def test_proposals_are_of_the_ranges_and_numbered(kind):
    found = search(make(kind))
    assert [proposal.number for proposal in found] == list(range(10))
    for proposal in found:
        assert list(proposal.settings) == list(RANGES)
        assert 1e-4 <= proposal.settings["stages.0.learning_rate"] <= 1e-1
        assert proposal.settings["data.views"] in (1, 2, 3, 4)
        assert isinstance(proposal.settings["data.views"], int)
        assert proposal.settings["head.pooling"] in ("avg", "max")
        assert proposal.settings["stages.0.unfreeze"] in (0, 2, "all")
    assert len({proposal.settings["head.dropout"] for proposal in found}) > 4


@pytest.mark.parametrize("kind", ORACLES)
def test_the_same_answers_bring_the_same_questions_whatever_the_global_seeds(kind):
    random.seed(1)
    first = search(make(kind))
    random.seed(2)
    assert search(make(kind)) == first
    assert search(make(kind, seed=1)) != first


def test_answers_matter_to_the_oracles_that_learn():
    for kind in ("bayesian", "hyperband"):
        assert search(make(kind)) != search(make(kind), lambda proposal: -score_of(proposal))
    assert search(make("random")) == search(make("random"), lambda proposal: -score_of(proposal))


def test_a_failed_trial_is_as_bad_as_the_worst_and_stops_nothing():
    for kind in ORACLES:
        found = search(make(kind), lambda proposal: None if proposal.number < 4 else score_of(proposal))
        assert len(found) == 10


def test_several_questions_may_be_out_at_once():
    oracle = make("random")
    out = [oracle.ask() for _ in range(3)]
    assert out == search(make("random"))[:3]
    for proposal in reversed(out):
        oracle.tell(proposal.number, 0.0)
    assert oracle.ask().number == 3


def test_hyperband_gives_most_epochs_to_few_and_waits_for_answers():
    found = search(make("hyperband", trials=100))
    epochs = [proposal.epochs for proposal in found]
    assert max(epochs) == 9
    assert epochs.count(1) > epochs.count(9) / 2
    oracle, out = make("hyperband", trials=100), []
    while (proposal := oracle.ask()) not in (None, WAIT):
        out.append(proposal)
    assert proposal is WAIT  # no bracket can go on
    for asked in out:
        oracle.tell(asked.number, score_of(asked))
    assert oracle.ask() not in (None, WAIT)
