"""Images that are lost in the middle of a run, and losses that are no numbers: rows of the table in `README.md`."""

import errno
import os
import shutil

import numpy as np
import pytest
from doomed import assert_same_bits
from two_blocks import make_model, make_training, train

from tlkit.api import load_run
from tlkit.api.recording import evaluate_in_parts
from tlkit.data.files import read_file
from tlkit.data.index import Data
from tlkit.errors import LostImageError, Stopped
from tlkit.recipe_keys import Stage
from tlkit.training.checkpoint import Checkpoint
from tlkit.training.safe_point import NoNumberError
from tlkit.training.stage import StageTrainer

FILES = ("metrics.json", "history.csv", "predictions_test.csv", "selection.json", "recipe.toml")
BAD_STAGE = Stage(unfreeze=0, epochs=3, learning_rate=9.9, optimizer="sgd", schedule="constant")


@pytest.fixture
def photos(small_photos, tmp_path):
    """A copy of the photos that may be spoilt."""
    return shutil.copytree(small_photos, tmp_path / "photos")


def vanish(path, patch):
    path.unlink()


def change(path, patch):
    path.write_bytes(path.read_bytes() + b"more")


def refuse(path, patch):
    def refused(asked):
        if asked == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_file(asked)

    patch.setattr("tlkit.data.index.read_file", refused)


FAULTS = {  # what happens to an image, when it is read for the so manieth time, and what is said of it
    "vanishes in training": (vanish, 5, "has gone. Put it back, or start a new run without it."),
    "changes in training": (change, 40, "has changed since it was checked. Put it back, or start a new run."),
    "can't be read in evaluation": (refuse, -1, "can't be read: Input/output error. Mend that, or start a new run."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_image_that_is_lost_in_the_middle_of_a_run(small_run, undisturbed, photos, tmp_path, monkeypatch, fault):
    spoil, after, expected = FAULTS[fault]
    read, training, reads, content = Data.read, [True], [], {}

    def read_and_spoil(data, i, at_least=None):
        path = data.root / data.paths[i]
        reads.append(path)
        if len(reads) == after or (after < 0 and not training and not content):
            content[path] = path.read_bytes()
            spoil(path, patch)
        return read(data, i, at_least)

    with monkeypatch.context() as patch:
        patch.setattr(Data, "read", read_and_spoil)
        patch.setattr("tlkit.api.job.evaluate_in_parts", lambda *of: training.clear() or evaluate_in_parts(*of))
        with pytest.raises(LostImageError) as raised:
            small_run(tmp_path / "run", photos=photos)
    ((path, before),) = content.items()
    assert str(raised.value) == (
        f"{path}: {expected} What is done is kept; to go on: tlkit finetune --resume --out {tmp_path / 'run'}"
    )
    path.write_bytes(before)
    small_run(tmp_path / "run", photos=photos, resume=True)
    assert_same_bits(tmp_path / "run", undisturbed, FILES)


def spoil_weights(monkeypatch, at, loss=None):
    """After step `at` let a weight be no number, as after a step that was too long; the loss of that step may be."""
    train_step, steps = StageTrainer.train_step, []

    def spoilt(self, batch, step, *more):
        answer = train_step(self, batch, step, *more)
        steps.append(step)
        if len(steps) == at + 1:
            kernel = self.suffix.get_layer("logits").kernel
            kernel.assign(np.full(kernel.shape, np.nan, "float32"))
            return (answer[0] if loss is None else loss), answer[1]
        return answer

    monkeypatch.setattr(StageTrainer, "train_step", spoilt)


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf")], ids=["weights", "nan", "inf"])
def test_a_training_that_leaves_the_numbers_stops_at_its_last_good_state(loss, tmp_path, monkeypatch):
    spoil_weights(monkeypatch, at=4, loss=loss)
    monkeypatch.setattr(Checkpoint, "is_due", lambda checkpoint: loss is None)
    training, candidates = make_training(make_model(), [BAD_STAGE]), []

    def on_candidate(state, at_once=False):
        if training.candidate(state) is None:
            return
        with training.holding_best(state):
            candidates.append((training.candidate(state)["epoch"], at_once))
            assert all(np.isfinite(value).all() for value in training.model.get_weights())

    with pytest.raises(NoNumberError) as raised:
        train(training, tmp_path, on_candidate=on_candidate)
    what = "a weight is no number any more" if loss is None else f"the loss is {loss}"
    step = 2 if loss is None else 1
    assert str(raised.value) == (
        f"stage 0, epoch 1, step {step}, learning rate 9.9: {what}. The last good state and the best model so far stay "
        "in the run folder. Try a new run with a tenth of that stage's learning_rate, or with clip_norm = 1 for it; "
        "the run's recipe.toml names both."
    )
    assert candidates == [(0, False), (0, True)]
    saved = Checkpoint(tmp_path / "run" / "checkpoint", {"test": True}, 3600).load()
    assert (saved.epoch, saved.step) == ((1, 1) if loss is None else (0, 0))
    assert all(np.isfinite(array).all() for array in saved.variables)


def test_a_validation_loss_that_is_no_number_ends_the_run(tmp_path, monkeypatch):
    model = make_model()
    training = make_training(model, [BAD_STAGE])
    validation = training.features.validation

    def poison():
        model.get_layer("head_bn").moving_mean.assign(np.full(4, np.nan, "float32"))
        return validation()

    training.features.validation = poison
    with pytest.raises(NoNumberError, match=r"stage 0, epoch 0, step 3, learning rate 9.9: the validation loss is nan"):
        train(training, tmp_path)


def test_weights_that_are_no_numbers_from_the_start_are_not_the_rates_fault(tmp_path):
    model = make_model()
    model.get_layer("logits").kernel.assign(np.full((4, 3), np.nan, "float32"))
    with pytest.raises(NoNumberError, match=r"a weight is no number any more. No step has been done: look at the im"):
        train(make_training(model, [BAD_STAGE]), tmp_path)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_the_best_model_of_a_run_that_leaves_the_numbers_predicts(small_run, tmp_path, monkeypatch):
    spoil_weights(monkeypatch, at=6, loss=float("nan"))
    with pytest.raises(NoNumberError):
        small_run(tmp_path / "run")
    run = load_run(tmp_path / "run", unfinished=True)
    (answer,) = run.predict([np.zeros((20, 20, 3), np.uint8)])
    assert np.isfinite(list(answer.answers["label"].probabilities.values())).all()


def test_a_run_that_goes_on_at_the_short_batch_of_an_epoch_has_the_same_bits(small_run, undisturbed, tmp_path):
    """Its steps are traced first for the short batch, an undisturbed run's for a full one."""
    train_step, steps = StageTrainer.train_step, []

    def until_the_short_one(self, batch, step, *more):
        steps.append(len(batch.features))
        if len(steps) > 4 and steps[-1] < 8:  # in the second stage
            raise KeyboardInterrupt
        return train_step(self, batch, step, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StageTrainer, "train_step", until_the_short_one)
        with pytest.raises(Stopped):
            small_run(tmp_path / "run")
    small_run(tmp_path / "run", resume=True)
    assert_same_bits(tmp_path / "run", undisturbed, FILES)
