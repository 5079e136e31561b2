"""What a disk refuses. Each test is a row of the table in `tests/faults/README.md`."""

import errno
import itertools
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from doomed import assert_same_bits
from faults import CODES, FailingDisk, Notes, temporaries

from tlkit import run as run_folder
from tlkit.api.report import report_job
from tlkit.errors import RunError, WriteError

COMPARED = ("metrics.json", "history.csv", "predictions_test.csv", "selection.json", "recipe.toml")


def write_json(file, what):
    run_folder.write_json(file, {what: True})


def write_csv(file, what):
    run_folder.write_csv(file, ["what"], ([what, number] for number in range(3)))


@pytest.mark.parametrize("write", [write_json, write_csv])
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
def test_whatever_call_is_refused_a_file_is_the_old_one_or_the_new_one(tmp_path, code, write):
    file, refused, content = tmp_path / "metrics.json", set(), {}
    for what in ("new", "old"):
        write(file, what)
        content[what] = file.read_bytes()
    for fail_at in itertools.count():
        write(file, "old")
        with FailingDisk(tmp_path, fail_at, code, once=True) as disk:
            try:
                write(file, "new")
                raised = None
            except WriteError as error:
                raised = error
        assert file.read_bytes() == content["old" if raised else "new"]
        assert temporaries(tmp_path) == []
        if not disk.refused:
            break
        if raised:
            refused.add(disk.refused[0][0])
            assert str(raised).startswith(f"{file}: can't be written: {os.strerror(code)}. ")
            assert (raised.errno, raised.strerror) == (code, os.strerror(code))
    assert refused == {"open", "write", "fsync", "chmod", "replace"}


def test_a_temporary_file_that_cannot_be_removed_hides_no_error(tmp_path):
    run_folder.write_json(tmp_path / "metrics.json", {"old": True})
    with FailingDisk(tmp_path, 2, errno.EROFS), pytest.raises(WriteError, match="Read-only file system"):
        run_folder.write_json(tmp_path / "metrics.json", {"new": True})
    assert run_folder.read_json(tmp_path / "metrics.json") == {"old": True}


def disturb(small_run, disk, fail_at, code):
    """Start a run on a disk that refuses all from some call on; return the error, or None if none came."""
    with FailingDisk(disk, fail_at, code) as failing:
        try:
            small_run(disk / "run")
        except RunError as error:
            return error, failing
    return None, failing


def check_recovery(small_run, disk, fail_at, code, undisturbed):
    """Fill the disk in the middle of a run, free it, go on, and compare; return what was refused first."""
    error, failing = disturb(small_run, disk, fail_at, code)
    if error is None:
        assert all(name.startswith("events.") or name == "tensorboard" for _, name in failing.refused)
        return None
    line, run = str(error), disk / "run"
    assert os.strerror(code) in line
    assert "\n" not in line
    if code not in (errno.EROFS, errno.EACCES):  # then nothing can be removed either, and whoever resumes does it
        assert temporaries(disk) == []
    if run.exists():
        assert f"tlkit finetune --resume --out {run}" in line
    else:
        assert "can't write the run folder" in line
    small_run(run, resume=True)
    assert_same_bits(run, undisturbed, COMPARED)
    assert temporaries(run) == []
    assert not (run / run_folder.CHECKPOINT).exists()
    return failing.refused[0]


def count_calls(small_run, disk):
    return len(disturb(small_run, disk, None, errno.ENOSPC)[1].calls)


def test_a_disk_that_refuses_from_the_middle_of_a_run_on(small_run, undisturbed, tmp_path):
    calls = count_calls(small_run, tmp_path / "whole")
    for fail_at, code in ((calls // 3, errno.ENOSPC), (calls - 12, errno.EROFS)):
        assert check_recovery(small_run, tmp_path / str(fail_at), fail_at, code, undisturbed)


@pytest.mark.slow
def test_a_disk_that_refuses_from_any_write_of_a_run_on(small_run, undisturbed, tmp_path):
    """From the first call of each kind on each file on, with each of the codes in turn."""
    _, whole = disturb(small_run, tmp_path / "whole", None, errno.ENOSPC)
    kinds = [(call, name.lstrip(".").partition("-")[0]) for call, name in whole.calls]  # of temporary files the stem
    firsts, files = sorted(map(kinds.index, set(kinds))), set()
    for fail_at, code in zip(firsts, itertools.cycle(CODES)):
        if refused := check_recovery(small_run, tmp_path / str(fail_at), fail_at, code, undisturbed):
            files.add(refused[1])
    expected = ["recipe.toml", "data.json", "splits.csv", "environment.json", "inputs.json", "model.keras"]
    expected += ["history.csv", "state.npz", "selection.json", "predictions_test.csv", "predictions_val.csv"]
    expected += ["timing.json", "metrics.json"]
    for name in expected:  # a temporary file's name begins with that of the file
        assert any(file.lstrip(".").startswith(Path(name).stem) for file in files), name


def test_a_folder_that_cannot_be_made_leaves_nothing(small_run, tmp_path):
    (tmp_path / "disk").mkdir()
    with FailingDisk(tmp_path / "disk", 0, errno.EROFS), pytest.raises(RunError, match="Read-only file system"):
        small_run(tmp_path / "disk" / "run")
    assert list((tmp_path / "disk").iterdir()) == []


def test_curves_for_tensorboard_that_cannot_be_written_cost_nothing_else(small_run, undisturbed, tmp_path, monkeypatch):
    import tensorflow as tf

    def refuse(*_args, **_kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "events.out: No space left on device")

    monkeypatch.setattr(tf.summary, "create_file_writer", refuse)
    notes = small_run(tmp_path / "run")
    assert [line for line in notes.lines if "TensorBoard" in line] == [
        f"{tmp_path / 'run' / 'tensorboard'}: no curves for TensorBoard from here on: events.out: No space left on "
        "device. history.csv has the figures"
    ]
    assert_same_bits(tmp_path / "run", undisturbed, COMPARED)


def test_a_report_that_cannot_be_written_costs_nothing_else(tmp_path):
    notes = Notes()
    job = SimpleNamespace(path=tmp_path, resume_path=tmp_path, data=None, listener=notes, model=None)
    report_job(job)
    assert "no report" in notes
    assert "The run is complete all the same" in notes
    assert list(tmp_path.iterdir()) == []
