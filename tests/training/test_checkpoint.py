"""The checkpoint: what goes in comes out, and half a file is never taken for a whole one."""

import json
import threading
import time

import numpy as np
import pytest

from tlkit.errors import RunError
from tlkit.training import checkpoint as module
from tlkit.training.checkpoint import FILE, PREVIOUS, Checkpoint, TrainingState
from tlkit.training.history import COLUMNS, History
from tlkit.training.sealed import write_sealed

ROW = {"stage": 0, "epoch": 0, "val_loss": 1e-17, "val_accuracy": 1 / 3}
PLAIN = {key: value for key, value in vars(TrainingState()).items() if key not in module._ARRAYS}
NO_EPOCH = np.zeros((0, len(COLUMNS)))
FIGURES = [0, 0, 3, 0.1, 0.5, 1e-17, 1 / 3, 1e-3]  # in the order of COLUMNS


@pytest.fixture
def state():
    history = History()  # with room for more rows, as one in training has
    history.append(dict(zip(COLUMNS, FIGURES, strict=True)))
    return TrainingState(
        stage=1,
        epoch=2,
        step=3,
        loss_sum=0.1 + 0.2,
        score_sum=1 / 3,
        seen=7,
        best=ROW,
        best_figures=[np.array([0.5])],
        stale_epochs=4,
        history=history,
        stage_seconds=[1.5],
        variables=[np.arange(6, dtype="float32").reshape(2, 3), np.array(5, "uint32")],
        optimizer=[np.array(number) for number in range(12)],
        best_variables=[np.zeros((0, 2))],
    )


def make(tmp_path, identity=None, seconds=30, **more):
    return Checkpoint(tmp_path / "run" / "checkpoint", identity or {}, seconds, **more)


def saved(checkpoint, state):
    """Save a state; return the checkpoint."""
    checkpoint.save(state)
    return checkpoint


def wait_until_due(checkpoint):
    while not checkpoint.is_due():
        time.sleep(0.01)


def save_and_be_interrupted(checkpoint, state):
    with checkpoint:
        checkpoint.begin_saving(state)
        raise KeyboardInterrupt


def test_a_state_comes_back_as_it_was(state, tmp_path):
    loaded = saved(make(tmp_path, {"recipe": "x"}), state).load()
    tensors = ("variables", "optimizer", "best_variables", "best_figures")
    assert {k: v for k, v in vars(loaded).items() if k not in tensors} == {
        k: v for k, v in vars(state).items() if k not in tensors
    }
    for kind in tensors:
        for mine, theirs in zip(getattr(loaded, kind), getattr(state, kind), strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


def test_no_checkpoint_is_no_state(tmp_path):
    assert make(tmp_path).load() is None


def test_another_training_is_refused_with_what_differs_unless_that_is_allowed(state, tmp_path):
    saved(make(tmp_path, {"recipe": "x", "data": "1"}), state)
    with pytest.raises(RunError, match="of another training: data changed"):
        make(tmp_path, {"recipe": "x", "data": "2"}).load()
    allowed = make(tmp_path, {"recipe": "x", "data": "2"}, allowed={"data"})
    assert allowed.load().step == 3
    assert allowed.changed == ["data"]


def flip(data):
    damaged = bytearray(data)
    damaged[data.index(np.arange(6, dtype="float32").tobytes()) + 7] ^= 1
    return bytes(damaged)


DAMAGE = {
    "flipped": flip,
    "truncated": lambda data: data[:-10],
    "cut to its beginning": lambda data: data[:10],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "missing": None,
}


def damage(file, how):
    if how is None:
        file.unlink()
    else:
        file.write_bytes(how(file.read_bytes()))


@pytest.fixture
def two_generations(state, tmp_path):
    """The folder of a checkpoint that was written at step 3 and at step 4."""
    checkpoint = saved(make(tmp_path), state)
    state.step = 4
    saved(checkpoint, state)
    return tmp_path / "run" / "checkpoint"


@pytest.mark.parametrize("how", DAMAGE.values(), ids=DAMAGE)
def test_where_the_newer_is_damaged_the_older_is_used_and_that_is_said(how, two_generations, tmp_path):
    assert make(tmp_path).load().step == 4
    damage(two_generations / FILE, how)
    notes = []
    assert make(tmp_path).load(notes.append).step == 3
    [note] = notes
    assert ("missing" if how is None else "damaged") in note
    assert "the one before it is used" in note


@pytest.mark.parametrize("older", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("newer", [flip, None], ids=["flipped", "missing"])
def test_where_both_are_damaged_it_is_said_in_one_line(newer, older, two_generations, tmp_path):
    damage(two_generations / FILE, newer)
    damage(two_generations / PREVIOUS, older)
    if newer is older is None:
        assert make(tmp_path).load() is None
        return
    with pytest.raises(RunError, match=r"the checkpoint is damaged: state.npz is .* and previous.npz is ") as refused:
        make(tmp_path).load()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError()])
def test_one_that_can_not_be_read_now_is_not_called_damaged(error, two_generations, tmp_path, monkeypatch):
    """Else the older were used, or the user told to remove what is whole."""

    def refuse(path):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("tlkit.training.checkpoint.read_sealed", refuse)
        with pytest.raises(RunError, match=r"state\.npz: the checkpoint can't be read: .*Mend that and resume"):
            make(tmp_path).load()
    assert make(tmp_path).load().step == 4


def test_a_damaged_one_never_takes_the_place_of_the_whole_one(two_generations, state, tmp_path):
    """Also if the process is killed between the two renames of the next write."""
    damage(two_generations / FILE, flip)
    checkpoint = make(tmp_path)
    state.step = checkpoint.load().step + 2
    saved(checkpoint, state)
    (two_generations / FILE).unlink()
    assert make(tmp_path).load().step == 3


def test_every_flipped_bit_is_found_or_means_nothing(state, tmp_path):
    file = tmp_path / "run" / "checkpoint" / FILE
    saved(make(tmp_path), state)
    whole = file.read_bytes()
    random, found = np.random.default_rng(0), 0
    for place in random.choice(8 * len(whole), 150, replace=False).tolist():
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            loaded = make(tmp_path).load()
        except RunError:
            found += 1
        else:  # a time of day, say, that the archive has of each of its members
            assert vars(loaded).keys() == vars(state).keys()
            np.testing.assert_array_equal(loaded.variables[0], state.variables[0])
            np.testing.assert_array_equal(loaded.optimizer, state.optimizer)
            assert loaded.history == state.history
    assert found > 60


def forge(path, header, columns=COLUMNS, figures=None):
    """Write a file whose seal is right, with whatever in it."""
    if isinstance(header, dict):
        header |= {"columns of the history": columns}
    arrays = {} if figures is None else {"history": figures}
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_sealed(file, {"state": np.frombuffer(json.dumps(header).encode(), np.uint8)} | arrays)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": -1},
        {"stage": "0"},
        {"step": 1.5},
        {"begun": 1},
        {"best": {"stage": 0}},
        {"best": ROW},  # and no figures of it
        {"stage_seconds": "ab"},
    ],
    ids=str,
)
def test_a_sealed_file_with_something_else_in_it_is_refused(changes, tmp_path):
    forge(tmp_path / "run" / "checkpoint" / FILE, {"identity": {}, "state": PLAIN | changes}, figures=NO_EPOCH)
    with pytest.raises(RunError, match=r"the checkpoint is damaged: state\.npz is damaged"):
        make(tmp_path).load()


def test_a_forged_file_is_read_where_nothing_is_wrong_with_it(tmp_path):
    forge(tmp_path / "run" / "checkpoint" / FILE, {"identity": {}, "state": PLAIN}, figures=np.array([FIGURES]))
    assert make(tmp_path).load().history[0]["step"] == 3


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (COLUMNS, None),
        (COLUMNS, np.zeros(8)),
        (COLUMNS, np.zeros((2, 7))),
        (COLUMNS, np.zeros((2, 8), "float32")),
        (COLUMNS, np.full((1, 8), 0.5)),
        (COLUMNS, np.full((1, 8), np.nan)),
        (COLUMNS, np.full((1, 8), -1.0)),
        (COLUMNS, np.full((1, 8), 1e300)),
        (COLUMNS[:7], np.zeros((1, 7))),
        ((*COLUMNS, "loss"), np.zeros((1, 9))),
        ((*COLUMNS, {}), np.zeros((1, 9))),
        ((*COLUMNS, 1.5), np.zeros((1, 9))),
        ((*COLUMNS, "\ud800"), np.zeros((1, 9))),
        (None, NO_EPOCH),
        ("loss", np.zeros((1, 4))),
    ],
)
def test_a_sealed_file_with_another_history_is_refused(columns, figures, tmp_path):
    forge(tmp_path / "run" / "checkpoint" / FILE, {"identity": {}, "state": PLAIN}, columns, figures)
    with pytest.raises(RunError, match=r"state\.npz is damaged \(not a training's state: its history\)"):
        make(tmp_path).load()


@pytest.mark.parametrize("header", [[], 3, {}, {"identity": 1, "state": {}}, {"identity": {}, "state": [1]}], ids=str)
def test_a_sealed_file_without_a_state_is_refused(header, tmp_path):
    forge(tmp_path / "run" / "checkpoint" / FILE, header)
    with pytest.raises(RunError, match="the checkpoint is damaged"):
        make(tmp_path).load()


def test_another_versions_state_is_said_to_be_one(tmp_path):
    forge(tmp_path / "run" / "checkpoint" / FILE, {"identity": {}, "state": {"stage": 0}})
    with pytest.raises(RunError, match="another version of tlkit wrote this checkpoint"):
        make(tmp_path).load()


def test_a_failed_write_is_told_at_the_next_occasion_and_keeps_the_earlier_checkpoints(state, tmp_path, monkeypatch):
    checkpoint = saved(make(tmp_path, seconds=0), state)
    state.step = 99

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_sealed", full)
    checkpoint.begin_saving(state)
    with pytest.raises(OSError, match="No space left on device"):
        wait_until_due(checkpoint)
    assert checkpoint.load().step == 3
    assert [path.name for path in (tmp_path / "run" / "checkpoint").iterdir()] == [FILE]


def test_it_is_written_beside_the_training_as_it_was_when_saved(state, tmp_path, monkeypatch):
    """One at a time: while one is being written no other is due, and a second has to wait."""
    gate, begun, write = threading.Event(), [], module.write_sealed

    def slow(file, arrays):
        begun.append(threading.current_thread())
        gate.wait(10)
        write(file, arrays)

    monkeypatch.setattr(module, "write_sealed", slow)
    with make(tmp_path, seconds=0) as checkpoint:
        first = state.history.figures
        checkpoint.begin_saving(state)
        state.step, state.variables = 4, []
        state.history.append(state.history[0] | {"epoch": 1})
        assert np.shares_memory(state.history.figures, first)
        assert not checkpoint.is_due()
        assert checkpoint.load() is None
        gate.set()
        checkpoint.wait()
        assert begun[0] is not threading.current_thread()
        loaded = checkpoint.load()
        assert (loaded.step, len(loaded.history), len(loaded.variables)) == (3, 1, 2)


def make_writes_slow(monkeypatch, seconds):
    write = module.write_sealed

    def slow(file, arrays):
        time.sleep(seconds)
        write(file, arrays)

    monkeypatch.setattr(module, "write_sealed", slow)


def test_leaving_it_waits_for_what_is_being_written(state, tmp_path, monkeypatch):
    make_writes_slow(monkeypatch, 0.2)
    with pytest.raises(KeyboardInterrupt):
        save_and_be_interrupted(make(tmp_path), state)
    assert make(tmp_path).load().step == 3


def test_it_is_due_when_the_interval_is_over(tmp_path):
    assert make(tmp_path, seconds=0).is_due()
    assert not make(tmp_path, seconds=3600).is_due()


def test_writing_takes_a_small_share_of_the_time(state, tmp_path, monkeypatch):
    make_writes_slow(monkeypatch, 0.05)
    checkpoint = make(tmp_path, seconds=0)
    begun = time.monotonic()
    saved(checkpoint, state)
    wait_until_due(checkpoint)
    assert time.monotonic() - begun >= 20 * 0.05
