"""The run folder: which files it has, written so that a reader never sees half of one."""

import contextlib
import csv
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from importlib import metadata
from pathlib import Path

from tlkit.errors import RunError, TlkitError, WriteError, did_you_mean
from tlkit.files import LARGEST_TEXT, read_plain

RECIPE = "recipe.toml"
ENVIRONMENT = "environment.json"
DATA = "data.json"
SPLITS = "splits.csv"
PLAN = "plan.json"
SEARCH = "search.json"
HISTORY = "history.csv"
SELECTION = "selection.json"
MODEL = "model.keras"
INPUTS = "inputs.json"
CHECKPOINT = "checkpoint"
CHECKPOINT_FILES = ("state.npz", "previous.npz")  # the newest, and the one before it
METRICS = "metrics.json"
TIMING = "timing.json"
TENSORBOARD = "tensorboard"
REPORT = "report.html"
FOLDS = "folds"

CHANGES = ("recipe", "data", "versions")  # what may be allowed to have changed where a run goes on
MOST_FILES = 100_000  # in a run folder: that of a search has a few for each trial

RECORDED_PACKAGES = ("tlkit", "tensorflow", "keras", "numpy", "grain", "opencv-python-headless", "albumentations")


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`.

    Args:
        path: The file to write or replace. On an exception it is left as it was, and nothing else is left behind.

    Raises:
        WriteError: If the system refuses.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(path, error) from None


@contextlib.contextmanager
def replacing(path):
    """Do what `atomic_path` says; an `OSError` passes through as it is."""
    path = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".tmp{path.suffix}", dir=path.parent)
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _fsync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # a place that has become read-only; whoever resumes clears it away
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write UTF-8 text atomically, with `\\n` line ends on every system."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def write_json(path, value):
    """Write `value` atomically as JSON; equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path, header, rows):
    """Write a header and rows atomically as CSV."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def make_folder(path):
    """Make a folder and its parents, where they are missing.

    Raises:
        WriteError: If the system refuses.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None


def remove(path):
    """Remove a file, if it is there.

    Raises:
        WriteError: If the system refuses.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None


def read_json(path):
    """Return the value in a JSON file of a run.

    Raises:
        RunError: If the file is missing or is not JSON.
    """
    try:
        value = json.loads(read_plain(path, LARGEST_TEXT, RunError))
    except FileNotFoundError:
        raise RunError(f"{path}: this file of the run is missing. Is the run complete? Try --resume.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise RunError(f"{path}: expected JSON written by tlkit. Received: {error}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected JSON written by tlkit. Received: no object")
    return value


def read_text(path):
    """Return the text in a file of a run.

    Raises:
        OSError: If it can't be read.
        RunError: If it is no plain file, or no text.
    """
    try:
        return read_plain(path, LARGEST_TEXT, RunError).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: expected the file that tlkit wrote. Received: {error}") from None


@contextlib.contextmanager
def reading(path):
    """Say in one line that the files of the run in `path` aren't as tlkit writes them, whoever trips over that.

    Raises:
        RunError: Instead of what a value that is missing, of another type or out of range leads to.
    """
    try:
        yield
    except TlkitError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, csv.Error) as error:
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise RunError(
            f"{path}: the files of this run aren't as tlkit wrote them, or are of another version "
            f"({type(error).__name__}: {reason})."
        ) from error


def refuse_links(path):
    """Refuse a folder that holds anything but plain files and folders: a link in it could lead to anybody's files.

    Raises:
        RunError: If it does, or can't be read.
    """
    waiting, left = [path], MOST_FILES
    try:
        while waiting and left:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left = max(0, left - 1)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        what = "a symbolic link" if entry.is_symlink() else "neither a file nor a folder"
                        raise RunError(
                            f"{entry.path}: is {what}. A run folder holds plain files: copy it with `cp -rL`."
                        )
    except OSError as error:
        raise RunError(f"{path}: can't read the run folder: {error.strerror}.") from None
    if not left:
        raise RunError(f"{path}: holds more than {MOST_FILES} files. Expected a run folder.")


def find_run(path):
    """Return the folder of a run, checked to be one.

    Raises:
        RunError: If there is no such folder, or it isn't a run's.
    """
    path = Path(path)
    if not path.is_dir():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RunError(f"{path}: no such run folder.{did_you_mean(path.name, siblings)}")
    if not (path / RECIPE).is_file():
        raise RunError(f"{path}: not a run folder: it has no {RECIPE}. Give the folder that `tlkit finetune` named.")
    refuse_links(path)
    return path


def find_complete_run(path):
    """Return the folder of a run that has its model and metrics.

    Raises:
        RunError: If it isn't a run, or isn't complete.
    """
    path = find_run(path)
    if not is_complete(path):
        raise RunError(f"{path}: this run is not complete. `tlkit finetune --resume --out {path}` continues it.")
    return path


def find_run_that_predicts(path):
    """Return the folder of a run that has a model: a complete one, or one that has written its best so far.

    Raises:
        RunError: If it isn't a run, or has no model yet.
    """
    path = find_run(path)
    return path if (path / MODEL).is_file() and (path / INPUTS).is_file() else find_complete_run(path)


def is_complete(path):
    """Tell whether the run in the folder `path` has finished."""
    path = Path(path)
    written = (path / METRICS).is_file() and (path / MODEL).is_file()
    return written and not any((path / CHECKPOINT / name).exists() for name in CHECKPOINT_FILES)


def remove_checkpoint(path):
    """Remove the checkpoint of the run in the folder `path`: from then on it is complete.

    Raises:
        WriteError: If the system refuses.
    """
    folder = Path(path) / CHECKPOINT
    for name in reversed(CHECKPOINT_FILES):  # the newest last: a kill in between leaves what the run can go on from
        remove(folder / name)
    shutil.rmtree(folder, ignore_errors=True)


def new_run_path(backbone, data_name, out=None):
    """Return where a new run will lie: `out`, or `runs/<date-time>-<backbone>-<data>`; nothing is created.

    Raises:
        RunError: If `out` exists and holds anything.
    """
    if out is None:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        stem = f"{stamp}-{backbone}-{data_name}"
        candidates = [Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in range(1, 1000)]
        return next(path for path in candidates if not path.exists())
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise RunError(f"--out {out}: expected a folder. Received a file.")
    if out.is_dir() and any(out.iterdir()):
        what = "holds a run: add --resume to continue it, or" if (out / RECIPE).is_file() else "is not empty:"
        raise RunError(f"--out {out}: the folder {what} choose another folder.")
    return out


@contextlib.contextmanager
def made_whole(path):
    """Yield a folder that becomes `path` at the end, so that a folder of ours exists whole or not at all.

    Raises:
        RunError: If it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".starting-", dir=path.parent, ignore_cleanup_errors=True) as temporary:
            begun = Path(temporary) / path.name
            begun.mkdir()
            yield begun
            begun.replace(path)
    except OSError as error:
        why = f"can't write the run folder: {error.strerror or error}"
        raise RunError(f"{path}: {why}. Mend that, or choose another with --out.") from None


def describe_environment(seed, threads):
    """Return what `environment.json` records: versions, machine, threads, seed, git revision, command."""
    return {
        "command": f"{_program()} {shlex.join(sys.argv[1:])}",
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "platform": platform.platform(),
        "processor": {"architecture": platform.machine(), "features": processor_features()},
        "threads": threads,
        "git_revision": _git_revision(),
    }


def usable_cpus():
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _program():
    name = Path(sys.argv[0]).name
    return "python -m tlkit" if name == "__main__.py" else name


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor_features():
    """Return the vector instructions that decide which kernels run, hence the last bits of a result."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return sorted(flag for flag in flags if flag.startswith(("avx", "amx", "fma", "sse4", "asimd", "sve")))


def _git_revision():
    """Return the commit of the folder the user works in, or None outside git."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _fsync_folder(folder):
    """Make a rename survive a power cut; not every system can open a folder, and there it is not needed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
