"""The checkpoint: what goes in comes out, and half a file is never taken for a whole one."""

import numpy as np
import pytest

from tlkit.errors import RunError
from tlkit.training.checkpoint import FILE, Checkpoint, TrainingState


@pytest.fixture
def state():
    return TrainingState(
        stage=1,
        epoch=2,
        step=3,
        loss_sum=0.1 + 0.2,
        score_sum=1 / 3,
        seen=7,
        best={"stage": 0, "val_loss": 1e-17},
        stale_epochs=4,
        history=[{"epoch": 0, "loss": 0.1}],
        stage_seconds=[1.5],
        variables=[np.arange(6, dtype="float32").reshape(2, 3), np.array(5, "uint32")],
        optimizer=[np.array(number) for number in range(12)],
        best_variables=[np.zeros((0, 2))],
    )


def test_a_state_comes_back_as_it_was(state, tmp_path):
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint", {"recipe": "x"}, 30)
    checkpoint.save(state)
    loaded = checkpoint.load()
    tensors = ("variables", "optimizer", "best_variables")
    assert {k: v for k, v in vars(loaded).items() if k not in tensors} == {
        k: v for k, v in vars(state).items() if k not in tensors
    }
    for kind in tensors:
        for mine, theirs in zip(getattr(loaded, kind), getattr(state, kind), strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


def test_no_checkpoint_is_no_state(tmp_path):
    assert Checkpoint(tmp_path / "run" / "checkpoint", {}, 30).load() is None


def test_another_training_is_refused_with_what_differs(state, tmp_path):
    Checkpoint(tmp_path / "run" / "checkpoint", {"recipe": "x", "data": "1"}, 30).save(state)
    with pytest.raises(RunError, match="of another training: data changed"):
        Checkpoint(tmp_path / "run" / "checkpoint", {"recipe": "x", "data": "2"}, 30).load()


@pytest.mark.parametrize("length", [0, 10, -10])
def test_a_truncated_file_is_refused(state, tmp_path, length):
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint", {}, 30)
    checkpoint.save(state)
    file = tmp_path / "run" / "checkpoint" / FILE
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(RunError, match="the checkpoint is damaged"):
        checkpoint.load()


def test_a_failed_write_keeps_the_earlier_checkpoint(state, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint", {}, 30)
    checkpoint.save(state)
    state.step = 99

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(state)
    assert checkpoint.load().step == 3
    assert [path.name for path in (tmp_path / "run" / "checkpoint").iterdir()] == [FILE]


def test_it_is_due_when_the_interval_is_over(tmp_path):
    assert Checkpoint(tmp_path / "run" / "checkpoint", {}, 0).is_due()
    assert not Checkpoint(tmp_path / "run" / "checkpoint", {}, 3600).is_due()
