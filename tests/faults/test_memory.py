"""Memory that runs out while a run computes. Each test is a row of the table in `tests/faults/README.md`."""

import contextlib

import keras
import numpy as np
import pytest
from doomed import assert_same_bits
from faults import Exhausted, Notes
from two_blocks import (
    BATCH,
    ENDS,
    STEPS,
    TASKS,
    StopAfter,
    head,
    linear_head,
    make_batches,
    make_model,
    make_training,
    train,
)

from tlkit.errors import OutOfMemoryError, Stopped
from tlkit.models.chain import Chain
from tlkit.recipe import read_recipe
from tlkit.recipe_keys import Split, Stage
from tlkit.training.checkpoint import Checkpoint, TrainingState
from tlkit.training.features import Batch
from tlkit.training.interrupt import StopRequest
from tlkit.training.splits import Splits
from tlkit.training.stage import Craft, StageTrainer, _Trainee
from tlkit.training.variables import values_of

DOWN = [Stage(unfreeze=0, epochs=2, learning_rate=1e-2), Stage(unfreeze=2, epochs=2, learning_rate=1e-3)]


def plain_model():
    """Return a model in which what an image becomes doesn't depend on the others of its batch, nor on chance."""
    model = make_model(linear_head)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model


def stepped(rows, accumulate=1, **craft):
    """Return the weights after three steps with so many images at once, and what the steps said."""
    model = plain_model()
    stage = Stage(unfreeze="all", epochs=1, learning_rate=1e-2, optimizer="sgd", accumulate=accumulate)
    trainer = StageTrainer(model, stage, ends=ENDS, tasks=TASKS, steps_per_epoch=STEPS, craft=Craft(**craft), rows=rows)
    random, said = np.random.default_rng(0), []
    for step, batch in enumerate(make_batches()):
        labels = batch["labels"]["label"].copy()
        labels[:2] = -1  # missing labels weigh on parts unevenly
        partners, shares = random.permutation(BATCH), random.random(BATCH).astype("float32")
        rows_seen = batch["image"].astype("float32")
        said.append(trainer.train_step(Batch(rows_seen, {"label": labels}, partners, shares), step))
    return values_of(model.variables), said


@pytest.mark.parametrize(
    "craft",
    [
        {"class_weights": {"label": np.array([0.5, 1.0, 4.0])}, "label_smoothing": 0.1, "l2": 0.1},
        {"loss_weights": "uncertainty", "accumulate": 2, "focal_gamma": 2.0},
    ],
    ids=["class weights", "learned weights"],
)
def test_parts_of_a_batch_make_the_step_of_the_whole_batch(craft):
    """Mixed images, missing labels, weights of classes and penalties included."""
    whole, said = stepped(None, **craft)
    for rows in (4, 3, 1):
        parts, said_of_parts = stepped(rows, **craft)
        np.testing.assert_allclose(said_of_parts, said, rtol=1e-5)
        for one, other in zip(parts, whole, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


PLACES = {  # what fails, at which of its calls, and where the batches are then computed in how many parts
    "in the first step": ([("train_on_batch", [0])], Split(what="training", stage=0, step=0, parts=2)),
    "in a later step": ([("train_on_batch", [4])], Split(what="training", stage=0, step=3, parts=2)),
    "in the second stage, twice": (
        [("train_on_batch", [6]), ("train_in_parts", [0])],
        Split(what="training", stage=1, step=0, parts=4),
    ),
    "in validation": ([("predict_on_batch", [4])], Split(what="training", stage=0, step=5, parts=2)),
    "in frozen layers": ([("_run", [7])], Split(what="frozen", stage=0, step=3, parts=2)),
}


class DueAfter(Checkpoint):
    """A checkpoint that is due after every third step: where training goes back to."""

    def __init__(self, folder, calls=3):
        super().__init__(folder, {"test": True}, 3600)
        self._calls, self._every = 0, calls

    def is_due(self):
        self._calls += 1
        return self._calls % self._every == 0


def run(tmp_path, name, entries=(), stop_after=None, state=None, probe_views=()):
    """Train; return the weights, the state, the entries that came to be, and what was noted."""
    model, recorded, notes = make_model(linear_head if probe_views else head), [], Notes()
    splits = Splits(BATCH, entries, recorded.append)
    training = make_training(model, DOWN, splits=splits, probe_views=probe_views)
    checkpoint, stop = DueAfter(tmp_path / name), StopRequest()
    listener = StopAfter(stop_after, stop) if stop_after else notes
    more = {"listener": listener, "stop": stop, "on_epoch": lambda state: None}
    state = state or TrainingState()
    training.run(state, checkpoint=checkpoint, **more)
    return model.get_weights(), state, splits.entries, notes.lines


def same(one, other):
    assert one[1].history == other[1].history
    for mine, theirs in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_halves_the_batch_and_the_record_repeats_it(place, tmp_path):
    failing, expected = PLACES[place]
    with contextlib.ExitStack() as exhausted:
        for name, at in failing:
            exhausted.enter_context(Exhausted(Chain if name == "_run" else _Trainee, name, at, after=True))
        ended = run(tmp_path, "ended")
    assert ended[2] == [expected]
    assert any("out of memory" in line for line in ended[3])
    same(run(tmp_path, "repeated", ended[2]), ended)


def test_memory_that_runs_out_in_the_probe_is_met_before_the_first_stage(tmp_path):
    with Exhausted(Chain, "_run", [0, 2]):
        ended = run(tmp_path, "ended", probe_views=[0])
    assert ended[2] == [Split(what="frozen", stage=-1, step=0, parts=4)]
    same(run(tmp_path, "repeated", ended[2], probe_views=[0]), ended)


def test_a_resumed_run_computes_in_the_same_parts(tmp_path):
    with Exhausted(_Trainee, "train_on_batch", [4], after=True):
        ended = run(tmp_path, "ended")
    for steps in (5, 8):
        name = f"stopped{steps}"
        with pytest.raises(Stopped):
            run(tmp_path, name, ended[2], stop_after=steps)
        saved = DueAfter(tmp_path / name).load()
        same(run(tmp_path, name, ended[2], state=saved), ended)


def test_memory_that_is_not_even_there_for_one_image_is_one_line(tmp_path):
    exhausted = Exhausted(_Trainee, "train_on_batch", [0]), Exhausted(_Trainee, "train_in_parts", range(100))
    match = r"out of memory with 1 image at once\. Try a smaller image_size, or fewer unfrozen blocks"
    with exhausted[0], exhausted[1], pytest.raises(OutOfMemoryError, match=match):
        run(tmp_path, "ended")


def test_batch_norm_that_trains_is_said_to_see_fewer_images(tmp_path):
    notes = Notes()
    training = make_training(make_model(), [Stage(unfreeze=2, epochs=1, learning_rate=1e-3)], batch_norm="train")
    with Exhausted(_Trainee, "train_on_batch", [0]):
        train(training, tmp_path, listener=notes)
    assert any("BatchNorm that trains takes its statistics from 4 images" in line for line in notes.lines)


@pytest.mark.parametrize(
    ("owner", "name", "call", "what", "stage"),
    [(_Trainee, "train_on_batch", 4, "training", 1), (Chain, "_run", -1, "frozen", 2)],
    ids=["in training", "in evaluation"],
)
def test_the_recipe_of_a_run_out_of_memory_repeats_it(small_run, tmp_path, owner, name, call, what, stage):
    if call < 0:
        with Exhausted(owner, name, []) as counting:
            small_run(tmp_path / "counted")
        call += counting.calls
    with Exhausted(owner, name, [call]):
        notes = small_run(tmp_path / "run")
    assert "out of memory" in notes
    (entry,) = read_recipe(tmp_path / "run" / "recipe.toml", recorded=True).training.splits
    assert (entry.what, entry.stage, entry.parts) == (what, stage, 2)
    small_run(tmp_path / "again", recipe=tmp_path / "run" / "recipe.toml")
    assert_same_bits(tmp_path / "run", tmp_path / "again")
