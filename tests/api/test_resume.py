"""A run that was killed or stopped, wherever it was, ends with the bits of one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from doomed import DOOMED, assert_same_bits

from tlkit.lock import Lock

STAGES = "[{unfreeze=0, epochs=4, learning_rate=1e-2}, {unfreeze=2, epochs=10, learning_rate=1e-3}]"


def start(data, out, *more, program=("-m", "tlkit")):
    """Start the command in a process of its own, with checkpoints as often as there are steps."""
    settings = [f"stages={STAGES}", "data.image_size=32", "data.batch_size=8", "training.checkpoint_seconds=0"]
    command = [sys.executable, *program, "finetune", "--data", str(data), "--out", str(out)]
    for setting in settings:
        command += ["--set", setting]
    return subprocess.Popen([*command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process):
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors
    return errors


@pytest.fixture(scope="module")
def undisturbed(photo_folder, tmp_path_factory):
    """Data, and a run on it that nobody disturbed, with the seconds that it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = photo_folder(folder / "photos", per_class=20)
    started = time.monotonic()
    finish(start(data, folder / "run"))
    return data, folder / "run", time.monotonic() - started


def wait_for_steps(process, out, steps):
    """Wait until the checkpoint says that `steps` of the 56 steps are done."""
    file, done = out / "checkpoint" / "state.npz", 0
    while process.poll() is None and done < steps:
        time.sleep(0.005)
        if file.exists():
            with np.load(file) as arrays:
                state, epochs = json.loads(arrays["state"].tobytes())["state"], len(arrays["history"])
            done = 4 * epochs + state["step"]


def kill_after(steps, data, out):
    process = start(data, out, program=("-c", DOOMED, str(steps)))
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == -signal.SIGKILL, errors


@pytest.mark.parametrize(
    "steps", [pytest.param(1, marks=pytest.mark.slow), 18, pytest.param(30, marks=pytest.mark.slow)]
)
def test_killed_in_training(undisturbed, tmp_path, steps):
    data, expected, _ = undisturbed
    kill_after(steps, data, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()
    errors = finish(start(data, tmp_path / "run", "--resume"))
    assert "resumed at step" in errors or steps == 1  # the first checkpoint may not have been on the disk
    assert_same_bits(tmp_path / "run", expected)


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(5))
def test_killed_at_random_moments(undisturbed, tmp_path, kill):
    """From before the folder exists to after the last file is written."""
    data, expected, seconds = undisturbed
    moment = (kill + random.random()) / 5 * seconds
    process = start(data, tmp_path / "run")
    time.sleep(moment)
    process.kill()
    process.communicate()
    if process.returncode == 0:
        pytest.skip(f"the run was over before its {moment:.1f} s were")
    assert process.returncode == -signal.SIGKILL
    finish(start(data, tmp_path / "run", "--resume"))
    assert_same_bits(tmp_path / "run", expected)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_stopped_by_a_signal(undisturbed, tmp_path, number, status):
    data, expected, _ = undisturbed
    process = start(data, tmp_path / "run", "--set", "training.checkpoint_seconds=3600")
    while process.poll() is None and not list((tmp_path / "run").glob("history.csv")):
        time.sleep(0.01)  # one epoch is over, and nothing but the signal makes it save
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == status, errors
    assert "--resume" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert (tmp_path / "run" / "checkpoint" / "state.npz").exists()
    finish(start(data, tmp_path / "run", "--resume", "--set", "training.checkpoint_seconds=3600"))
    assert_same_bits(tmp_path / "run", expected)


def test_a_run_resumes_from_its_folder_alone(undisturbed, tmp_path):
    data, expected, _ = undisturbed
    kill_after(5, data, tmp_path / "run")
    command = [sys.executable, "-m", "tlkit", "finetune", "--resume", "--out", str(tmp_path / "run")]
    subprocess.run(command, check=True, capture_output=True)
    assert_same_bits(tmp_path / "run", expected)


@pytest.mark.slow
def test_folds_resume_where_they_were_killed(photo_folder, tmp_path):
    data = photo_folder(tmp_path / "photos", per_class=8)
    shorter = ["--folds", "2", "--set", "stages=[{unfreeze=1, epochs=2, learning_rate=1e-2}]"]
    finish(start(data, tmp_path / "whole", *shorter))
    for number in range(2):
        process = start(data, tmp_path / "run", *shorter, *(["--resume"] if number else []))
        wait_for_steps(process, tmp_path / "run" / "folds" / str(number), 1)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=120)[1]
        assert f"tlkit finetune --resume --out {tmp_path / 'run'}" in errors.splitlines()[-1]
    command = [sys.executable, "-m", "tlkit", "finetune", "--resume", "--out", str(tmp_path / "run")]
    resumed = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"{tmp_path / 'run' / 'folds' / '0'} is complete" in resumed.stderr
    assert_same_bits(tmp_path / "run", tmp_path / "whole")


def test_the_same_command_twice_gives_the_same_bits(undisturbed, tmp_path):
    data, expected, _ = undisturbed
    finish(start(data, tmp_path / "run"))
    assert_same_bits(tmp_path / "run", expected)
    environments = [json.loads((path / "environment.json").read_text()) for path in (tmp_path / "run", expected)]
    assert environments[0]["threads"] == environments[1]["threads"]


def test_kept_features_are_resumed_without(photo_folder, tmp_path, monkeypatch):
    """Killed in the passes or after them, with features on disk, and resumed without any: the same bits."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    data = photo_folder(tmp_path / "photos", per_class=20)
    # At 32 pixels the last blocks see one position an image, and some processors round rows of a batch differently.
    views = ("--set", "data.views=2", "--set", "data.image_size=64")
    finish(start(data, tmp_path / "whole", *views, "--cache", "disk"))
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "other_cache"))
    process = start(data, tmp_path / "run", *views, "--cache", "disk")
    while process.poll() is None and not list((tmp_path / "other_cache").rglob("*.npy")):
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert not (tmp_path / "run" / "metrics.json").exists()
    finish(start(data, tmp_path / "run", *views, "--cache", "off", "--resume"))
    assert_same_bits(tmp_path / "run", tmp_path / "whole")


def test_resuming_a_complete_run_changes_nothing(undisturbed):
    data, run, _ = undisturbed
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    assert "nothing to resume" in finish(start(data, run, "--resume"))
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def damage(file):
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_the_work_since_the_one_before(undisturbed, tmp_path):
    data, expected, _ = undisturbed
    kill_after(30, data, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoint"
    damage(folder / "state.npz")
    assert (folder / "previous.npz").exists()
    assert "state.npz: the last checkpoint is damaged" in finish(start(data, tmp_path / "run", "--resume"))
    assert_same_bits(tmp_path / "run", expected)


@pytest.fixture
def killed(undisturbed, tmp_path):
    """Data, and the folder of a run on it that was killed in its second stage."""
    kill_after(20, undisturbed[0], tmp_path / "run")
    return undisturbed[0], tmp_path / "run"


def refused(process):
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 2, errors
    return errors.splitlines()[-1]


def test_damaged_checkpoints_are_named(killed):
    data, run = killed
    for file in (run / "checkpoint").iterdir():
        damage(file)
    assert "the checkpoint is damaged: state.npz is damaged" in refused(start(data, run, "--resume"))


def test_a_run_that_another_process_works_on_is_refused_and_can_be_read(killed):
    data, run = killed
    lock = Lock(run / ".lock", "this run")
    line = refused(start(data, run, "--resume"))
    assert f"{run}: another process ({os.getpid()}) works on this run" in line
    lock.release()
    finish(start(data, run, "--resume"))
    assert not (run / ".lock").exists()
    lock = Lock(run / ".lock", "this run")  # a run that is over needs none
    assert "nothing to resume" in finish(start(data, run, "--resume"))


def test_other_versions_are_refused_or_allowed_by_name_and_recorded(killed):
    data, run = killed
    file = run / "environment.json"
    before = json.loads(file.read_text())
    before["packages"]["keras"], before["threads"] = "3.0.0", 64
    file.write_text(json.dumps(before))
    line = refused(start(data, run, "--resume"))
    assert "packages.keras (3.0.0 before, " in line
    assert "threads (64 before, " in line
    assert "--allow-changed versions" in line
    finish(start(data, run, "--resume", "--allow-changed", "versions"))
    after = json.loads(file.read_text())
    [change] = after["changes"]
    assert (change["what"], change["stage"]) == ("versions", 1)
    assert change["changed"]["threads"] == [64, after["threads"]]
    assert after["packages"]["keras"] != "3.0.0"
    assert after["started"] == before["started"]


def test_another_recipe_is_refused_or_allowed_by_name_and_recorded(killed):
    """The stage that was under way is cut short; the model, which the state is of, can't be another."""
    data, run = killed
    shorter = ("--set", f"stages={STAGES.replace('epochs=10', 'epochs=6')}")
    line = refused(start(data, run, "--resume", *shorter))
    assert "this run's recipe differs in stages.1.epochs (10 before, 6 now)" in line
    assert "--allow-changed recipe" in line
    allowed = ("--resume", "--allow-changed", "recipe")
    wider = ("--set", f"stages={STAGES.replace('unfreeze=2', 'unfreeze=3')}")
    assert "arrays are those of another model" in refused(start(data, run, *allowed, *wider))
    kill = start(data, run, *allowed, *shorter, program=("-c", DOOMED, "4"))
    kill.communicate(timeout=300)
    assert kill.returncode == -signal.SIGKILL
    command = [sys.executable, "-m", "tlkit", "finetune", "--resume", "--out", str(run)]
    subprocess.run(command, check=True, capture_output=True)  # once allowed, it needn't be again
    [change] = json.loads((run / "environment.json").read_text())["changes"]
    assert change["what"] == "recipe"
    assert change["changed"]["stages.1.epochs"] == [10, 6]
    assert len((run / "history.csv").read_text().splitlines()) == 1 + 4 + 6
