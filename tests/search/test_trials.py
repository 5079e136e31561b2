"""A search that is left and taken up again, and the trials that are given up."""

import math
import time

import pytest

from tlkit.errors import RunError
from tlkit.recipe_keys import Span
from tlkit.search.journal import Journal
from tlkit.search.oracles import Oracle
from tlkit.search.trials import Answer, Trials, is_hopeless

RANGES = {"head.dropout": Span(min=0.0, max=0.8), "head.pooling": ["avg", "max"]}


JOURNALS = {}


def open_trials(folder, kind="hyperband", seed=0, ranges=RANGES, trials=8):
    """Open the search in a folder as another process would, the one before it gone."""
    if folder in JOURNALS:
        JOURNALS[folder].close()
    JOURNALS[folder] = Journal(folder / "journal.jsonl")
    return Trials(Oracle(kind, ranges, trials, seed, epochs=9), JOURNALS[folder])


def work(trials, count=None):
    while count is None or count > 0:
        if (proposal := trials.next()) is None:
            return
        trials.answer(proposal.number, answer_of(proposal))
        count = None if count is None else count - 1


@pytest.mark.parametrize("kind", ["random", "hyperband"])
@pytest.mark.parametrize("stopped_after", [0, 3, 7])
def test_a_search_taken_up_again_is_that_which_was_never_left(tmp_path, kind, stopped_after):
    """It is left with one trial asked for and not answered: that one is worked on again, and no other."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "left").mkdir()
    whole = open_trials(tmp_path / "whole", kind)
    work(whole)
    left = open_trials(tmp_path / "left", kind)
    work(left, stopped_after)
    cut_short = left.next()
    again = open_trials(tmp_path / "left", kind)
    assert again.answers == left.answers
    assert again.next() == cut_short
    again.answer(cut_short.number, answer_of(cut_short))
    work(again)
    assert again.proposals == whole.proposals
    assert again.answers == whole.answers
    assert again.best == whole.best == max(range(8), key=lambda n: (whole.answers[n].score, -n))


def test_another_oracle_is_refused(tmp_path):
    work(open_trials(tmp_path), 2)
    with pytest.raises(RunError, match="the oracle proposes"):
        open_trials(tmp_path, seed=5)


def test_a_lost_trial_is_given_out_again_before_any_other(tmp_path):
    trials = open_trials(tmp_path, "random")
    first, second = trials.next(), trials.next()
    trials.again(first.number)
    assert trials.next() == first
    assert trials.next().number == second.number + 1


def test_a_failed_trial_is_never_the_best(tmp_path):
    trials = open_trials(tmp_path, "random")
    for status, score in (("failed", None), ("pruned", 5.0), ("done", 1.0), ("done", 1.0)):
        trials.answer(trials.next().number, Answer(status, score))
    assert trials.best == 2


def make_known(tmp_path, curves):
    trials = open_trials(tmp_path, "random")
    for curve in curves:
        trials.answer(trials.next().number, Answer("done", curve[-1], curve))
    return trials, trials.next().number


def test_a_trial_below_the_median_is_hopeless_from_a_third_of_its_epochs_on(tmp_path):
    trials, number = make_known(tmp_path, [[0.1 * n, 0.2 * n, 0.3 * n, 0.3 * n] for n in range(1, 6)])
    assert is_hopeless(trials.known(number), [0.0, 0.59], 4)  # the median of the second epoch is 0.6
    assert not is_hopeless(trials.known(number), [0.0, 0.61], 4)
    assert not is_hopeless(trials.known(number), [0.0], 4)
    assert not is_hopeless(trials.known(number), [0.0, 0.0, 0.0, 0.0], 4)  # it is over anyway


def test_few_curves_and_later_ones_condemn_nobody(tmp_path):
    trials, number = make_known(tmp_path, [[1.0] * 4] * 4)
    assert not is_hopeless(trials.known(number), [0.0, 0.0], 4)
    later = trials.next().number
    trials.answer(later, Answer("done", 1.0, [1.0] * 4))
    assert not is_hopeless(trials.known(number), [0.0, 0.0], 4)
    assert is_hopeless(trials.known(trials.next().number), [0.0, 0.0], 4)


def test_shorter_trials_say_nothing_of_epochs_that_they_did_not_have(tmp_path):
    trials, number = make_known(tmp_path, [[1.0, 1.0]] * 5)
    assert is_hopeless(trials.known(number), [0.0, 0.0], 6)
    assert not is_hopeless(trials.known(number), [0.0, 0.0, 0.0], 6)


@pytest.mark.parametrize("seed", range(4))
def test_a_search_that_has_tried_everything_can_be_taken_up_again(tmp_path, seed):
    """With two trials out at a time the oracle is asked when it has nothing left, and draws all the same."""
    few = {"head.pooling": ["avg", "max"], "data.views": list(range(1, 9))}
    search, out = open_trials(tmp_path, "random", seed, few, 40), []
    while True:
        while len(out) < 2 and (proposal := search.next()) is not None:
            out.append(proposal)
        if not out:
            break
        proposal = out.pop(0)
        search.answer(proposal.number, answer_of(proposal))
        again = open_trials(tmp_path, "random", seed, few, 40)
        assert again.proposals == search.proposals
        search = again
        out = [search.next() for _ in out]
    assert len(search.answers) > 8
    assert search.next() is None


def answer_of(proposal):
    return Answer("done", -proposal.settings.get("head.dropout", 0.0), [0.1] * (proposal.epochs or 3))


def test_time_that_is_up_is_up_for_good(tmp_path):
    """No trial is begun that would end too late, as trials usually do; later processes ask no clock."""
    trials = open_trials(tmp_path, "random")
    work(trials, 2)
    trials.until = time.monotonic() + 100
    lost = trials.next()
    trials.answer(lost.number, Answer("done", 0.5, [0.5], seconds=1000.0))
    trials.again(lost.number)
    trials.until = -math.inf
    assert trials.next() == lost  # what was begun is ended
    assert trials.next() is None
    again = open_trials(tmp_path, "random")
    assert again.next() is None
    assert len(again.answers) == 3


def test_a_trial_that_usually_takes_longer_than_is_left_is_not_begun(tmp_path):
    trials = open_trials(tmp_path, "random")
    first = trials.next()
    trials.answer(first.number, Answer("done", 0.5, [0.5], seconds=1000.0))
    trials.until = time.monotonic() + 500
    assert trials.next() is None


def test_what_was_decided_stays(tmp_path):
    trials = open_trials(tmp_path, "random")
    assert [trials.decide("seeds", 3), trials.decide("seeds", 1)] == [3, 3]
    assert open_trials(tmp_path, "random").decide("seeds", 2) == 3
