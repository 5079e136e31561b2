"""A training whose time is up ends with what is best by then, and what repeats it says where."""

import math

import numpy as np
import pytest
from two_blocks import STEPS, linear_head, make_model, make_training, train

from tlkit.progress import Listener
from tlkit.recipe_keys import Stage
from tlkit.training.checkpoint import Checkpoint, TrainingState
from tlkit.training.clock import Deadline

STAGES = [Stage(unfreeze=1, epochs=6, learning_rate=1e-2), Stage(unfreeze="all", epochs=4, learning_rate=1e-3)]
PROBE = range(1)


class OverAfter(Listener):
    """Lets a deadline pass after some steps, counted over all stages."""

    def __init__(self, steps):
        self.recorded = []
        self.deadline = Deadline(record=self.recorded.append)
        self._left = steps
        self._pass_if_due()

    def step_done(self, loss):
        self._left -= 1
        self._pass_if_due()

    def _pass_if_due(self):
        if self._left == 0:
            self.deadline.at = -math.inf


def weights(model):
    return [np.array(value) for value in model.get_weights()]


def assert_same(one, other):
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("steps", "probe", "trained"),
    [
        (0, PROBE, [0, 0]),
        (1, PROBE, [0, 0]),
        (2 * STEPS, (), [1, 0]),  # the second epoch is not validated yet
        (2 * STEPS + 1, PROBE, [2, 0]),
        (6 * STEPS + 1, PROBE, [6, 0]),
        (7 * STEPS + 2, PROBE, [6, 1]),
    ],
)
def test_a_training_that_is_cut_is_repeated_by_the_stages_that_it_records(steps, probe, trained, tmp_path):
    model, listener = make_model(linear_head), OverAfter(steps)
    state, _ = train(make_training(model, STAGES, probe), tmp_path, listener=listener, deadline=listener.deadline)
    [recorded] = listener.recorded
    assert [stage.trained_epochs for stage in recorded] == trained
    assert [stage.epochs for stage in recorded] == [6, 4]  # the schedule stays that of the plan
    again = make_model(linear_head)
    repeated, _ = train(make_training(again, recorded, probe), tmp_path)
    assert_same(weights(model), weights(again))
    assert repeated.history == state.history
    assert len(state.history) == sum(trained)


def test_time_that_is_up_when_all_is_done_cuts_nothing(tmp_path):
    class OverWithTheLastEpoch(OverAfter):
        def epoch_done(self, row, is_best):
            if (row["stage"], row["epoch"]) == (1, 3):
                self.deadline.at = -math.inf

    model, listener = make_model(linear_head), OverWithTheLastEpoch(1000)
    state, _ = train(make_training(model, STAGES), tmp_path, listener=listener, deadline=listener.deadline)
    assert listener.recorded == []
    assert len(state.history) == 10


def test_without_anything_to_ship_a_training_goes_on_to_the_end_of_its_first_epoch(tmp_path):
    model, listener = make_model(linear_head), OverAfter(0)
    state, _ = train(make_training(model, STAGES), tmp_path, listener=listener, deadline=listener.deadline)
    assert len(state.history) == 1
    assert state.best == state.history[0]


def test_a_cut_training_that_is_killed_ends_in_the_same_place(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "is_due", lambda _: True)

    class Killed(Exception):  # noqa: N818
        pass

    class KilledAtItsEnd(OverAfter):
        def stage_finished(self):
            raise Killed

    model, listener = make_model(linear_head), KilledAtItsEnd(3 * STEPS + 1)
    with pytest.raises(Killed):
        train(make_training(model, STAGES), tmp_path, listener=listener, deadline=listener.deadline)
    [recorded] = listener.recorded
    resumed = make_model(linear_head)
    state = Checkpoint(tmp_path / "run" / "checkpoint", {"test": True}, 3600).load()
    assert (state.epoch, state.step) == (3, 1)
    train(make_training(resumed, recorded), tmp_path, state=state)
    whole = make_model(linear_head)
    train(make_training(whole, recorded), tmp_path / "whole")
    assert_same(weights(resumed), weights(whole))


def test_whatever_would_ship_can_be_had_at_any_moment_and_leaves_no_trace(tmp_path):
    """The model that is held after the last epoch is the one that ships; holding it changes nothing."""
    held = []

    def hold(state, at_once=False):
        training = trainings[-1]
        before = weights(training.model)
        with training.holding_best(state):
            held.append((training.candidate(state), weights(training.model)))
        assert_same(before, weights(training.model))

    stages = [STAGES[0]]
    plain = make_model(linear_head)
    train(make_training(plain, stages, PROBE), tmp_path)
    watched = make_model(linear_head)
    trainings = [make_training(watched, stages, PROBE)]
    state, _ = train(trainings[0], tmp_path / "watched", TrainingState(), on_candidate=hold)
    assert_same(weights(plain), weights(watched))
    assert len(held) == 1 + 6
    assert held[0][0] == state.probe
    row, last = held[-1]
    assert row == state.best
    assert_same(last, weights(watched))
