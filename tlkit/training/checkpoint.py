"""The training's whole state in one file: a kill at any moment costs at most the time since it was last written."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, get_type_hints

import numpy as np
from pydantic import Field, TypeAdapter

from tlkit.errors import RunError
from tlkit.run import CHECKPOINT_FILES, atomic_path, make_folder
from tlkit.training.history import History
from tlkit.training.sealed import DamagedError, read_sealed, write_sealed
from tlkit.training.variables import assign

FILE, PREVIOUS = CHECKPOINT_FILES

_STATE = "state"
_SHARE = 20  # of the time between two writes, one in so many parts goes into writing

Count = Annotated[int, Field(ge=0)]
Row = dict[str, bool | int | float | str]


@dataclass
class TrainingState:
    """Everything about a training that is not a tensor, and the tensors that its variables are set from.

    Attributes:
        stage, epoch, step: What comes next: stage and epoch from 0, and batches already trained on in that epoch.
        begun: Whether what comes before the first stage is done.
        loss_sum, score_sum, seen: Sums over the epoch so far, for the row it will add to the history.
        best: The row of what would ship now: of an epoch, of the probe, or None before there is either.
        probe: The row of the probe, or None without one.
        stage_best: The row of the stage's best epoch so far, which contends with `best` when the stage is over.
        stale_epochs: Epochs of this stage since its best, for early stopping.
        drops, stale_since_drop: How often the stage has met a plateau, and epochs without a better one since.
        kept_scores: Scores of the stage's best epochs, those in `kept`.
        log_variances: Learned weights of the tasks' losses; empty where they aren't learned.
        selection: One dict a candidate that has contended with the best one so far.
        history: One row an epoch.
        probe_seconds: Time spent on the probe.
        stage_seconds: Time spent in each stage so far; the seconds are what differs between equal runs.
        pass_seconds: Time spent on computing features that are kept.
        variables, optimizer, best_variables, stage_best_variables, kept: Arrays by position; names may differ between
            two processes.
        best_figures, stage_best_figures: Lists of one float64 array: the monitored figure of each validation image.
    """

    stage: Count = 0
    epoch: Count = 0
    step: Count = 0
    begun: bool = False
    loss_sum: float = 0.0
    score_sum: float = 0.0
    seen: Count = 0
    best: Row | None = None
    probe: Row | None = None
    stage_best: Row | None = None
    stale_epochs: Count = 0
    drops: Count = 0
    stale_since_drop: Count = 0
    kept_scores: list[float] = field(default_factory=list)
    log_variances: list[float] = field(default_factory=list)
    selection: list[Row] = field(default_factory=list)
    history: History = field(default_factory=History)
    probe_seconds: float = 0.0
    stage_seconds: list[float] = field(default_factory=list)
    pass_seconds: float = 0.0
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    best_variables: list[np.ndarray] = field(default_factory=list)
    best_figures: list[np.ndarray] = field(default_factory=list)
    stage_best_variables: list[np.ndarray] = field(default_factory=list)
    stage_best_figures: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)

    def begin_epoch_anew(self):
        """Forget what was done of the epoch that is under way, but for what it has changed in the weights."""
        self.step, self.loss_sum, self.score_sum, self.seen = 0, 0.0, 0.0, 0


_TENSORS = (
    "variables",
    "optimizer",
    "best_variables",
    "best_figures",
    "stage_best_variables",
    "stage_best_figures",
    "kept",
)
_HISTORY, _COLUMNS = "history", "columns of the history"
_ARRAYS = {*_TENSORS, _HISTORY}  # what is no part of the header

_OF_CANDIDATE = {"stage", "epoch", "val_loss", "val_accuracy"}


class Checkpoint:
    """Keep the last two of a training's `TrainingState`s in a folder, each written atomically and beside the training.

    As a context manager it returns, in whatever way, when nothing is being written any more.

    Args:
        folder: Where the files lie; made when first written.
        identity: JSON-able description of what is being trained; a checkpoint of anything else is refused.
        seconds: Stated interval between two writes. It is stretched so that writing takes at most 5 % of the time.
        resume_command: What a user whose run was stopped types to go on.
        allowed: Keys of `identity` that may differ.

    Attributes:
        changed: Those that did, once a state is loaded.
    """

    def __init__(self, folder, identity, seconds, resume_command="", allowed=()):
        self.path, self._previous = Path(folder) / FILE, Path(folder) / PREVIOUS
        self.identity, self._allowed, self.changed = identity, frozenset(allowed), []
        self.resume_command = resume_command
        self._seconds = seconds
        self._next_write = time.monotonic() + seconds
        self._newest_is_whole = True
        self._writer, self._pending = None, None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self._writer:
            self._writer.shutdown()
        if kind is None:
            self.wait()

    def is_due(self):
        """Tell whether the interval since the last write is over; raise what went wrong with that one, if anything."""
        if self._pending:
            if not self._pending.done():
                return False
            self.wait()
        return time.monotonic() >= self._next_write

    def save(self, state):
        """Write a state; the earlier ones stay whole until it is on the disk. It raises what `wait` does."""
        self.begin_saving(state)
        self.wait()

    def begin_saving(self, state):
        """Begin to write a state as it is now, beside whatever comes next; what goes wrong is raised later on.

        Args:
            state: `TrainingState`. It may change afterwards: its arrays are replaced and never written into.

        Raises:
            WriteError: If an earlier one couldn't be written.
        """
        self.wait()
        plain = {key: value for key, value in vars(state).items() if key not in _ARRAYS}
        header = json.dumps({"identity": self.identity, "state": plain, _COLUMNS: state.history.columns})
        arrays = {_STATE: np.frombuffer(header.encode(), dtype=np.uint8), _HISTORY: state.history.figures}
        for kind in _TENSORS:
            arrays |= {f"{kind}/{position}": array for position, array in enumerate(getattr(state, kind))}
        self._writer = self._writer or ThreadPoolExecutor(1, "checkpoint")
        self._pending = self._writer.submit(self._write, arrays)

    def wait(self):
        """Wait until what is being written is on the disk.

        Raises:
            WriteError: If the system refuses: no space, a quota, no permission, a read-only place.
        """
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def _write(self, arrays):
        started = time.monotonic()
        make_folder(self.path.parent)
        with atomic_path(self.path) as temporary:
            with temporary.open("wb") as file:
                write_sealed(file, arrays)
                file.flush()
                os.fsync(file.fileno())
            if self._newest_is_whole and self.path.exists():
                self.path.replace(self._previous)
        self._newest_is_whole = True
        self._next_write = started + max(self._seconds, _SHARE * (time.monotonic() - started))

    def load(self, note=None):
        """Return the newest state that is whole, or None where nothing has been saved.

        Args:
            note: Function that hears one line if that isn't the one that was saved last.

        Raises:
            RunError: If there are files and none is whole, if one can't be read, or if it was written by a different
                training.
        """
        problems = {}
        for path in (self.path, self._previous):
            try:
                state = self._read(path)
            except FileNotFoundError:
                problems[path] = "missing"
            except DamagedError as error:
                problems[path] = f"damaged ({error})"
            except (OSError, MemoryError) as error:
                why = getattr(error, "strerror", None) or "there is no memory for it"
                raise RunError(f"{path}: the checkpoint can't be read: {why}. Mend that and resume.") from None
            else:
                if problems:
                    self._newest_is_whole = False  # so that it doesn't take the place of the one that is
                    if note:
                        note(f"{self.path}: the last checkpoint is {problems[self.path]}; the one before it is used")
                return state
        if set(problems.values()) == {"missing"}:
            return None
        told = " and ".join(f"{path.name} is {problem}" for path, problem in problems.items())
        raise RunError(
            f"{self.path.parent}: the checkpoint is damaged: {told}. Remove that folder to train from the start."
        )

    def _read(self, path):
        arrays = read_sealed(path)
        try:
            header = json.loads(arrays.pop(_STATE).tobytes())
            identity, plain = dict(header["identity"]), dict(header["state"])
            tensors = {kind: _in_order(kind, arrays) for kind in _TENSORS}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DamagedError("not a training's state") from None
        self._refuse_another(path, identity)
        if plain.keys() != {one.name for one in fields(TrainingState)} - _ARRAYS or _COLUMNS not in header:
            raise RunError(f"{path}: another version of tlkit wrote this checkpoint. Start a new run.")
        try:
            history = History(header[_COLUMNS], arrays[_HISTORY])
        except (ValueError, KeyError, TypeError):
            raise DamagedError("not a training's state: its history") from None
        state = TrainingState(**plain, **tensors, history=history)
        _check(state)
        return state

    def _refuse_another(self, path, received):
        self.changed = [key for key in self.identity if received.get(key) != self.identity[key]]
        differing = [key for key in self.changed if key not in self._allowed]
        if differing:
            raise RunError(
                f"{path}: the checkpoint is of another training: {', '.join(differing)} changed. "
                "Put back what changed, or start a new run."
            )


def _in_order(kind, arrays):
    count = sum(name.startswith(f"{kind}/") for name in arrays)
    return [arrays[f"{kind}/{position}"] for position in range(count)]


def _check(state):
    """Raise `DamagedError` unless each part of a state is of its kind."""
    try:
        for name, kind in get_type_hints(TrainingState, include_extras=True).items():
            if name not in _ARRAYS:
                TypeAdapter(kind).validate_python(getattr(state, name), strict=True)
    except ValueError:
        raise DamagedError(f"not a training's state: `{name}`") from None
    candidates = (state.best, state.probe, state.stage_best)
    if any(row is not None and not row.keys() >= _OF_CANDIDATE for row in candidates):
        raise DamagedError("not a training's state: a row lacks its figures")
    contenders = ((state.best, state.best_figures), (state.stage_best, state.stage_best_figures))
    if any(row is not None and len(figures) != 1 for row, figures in contenders):
        raise DamagedError("not a training's state: a candidate lacks its figures")


def restore(variables, arrays):
    """Set variables from a state's arrays, in order.

    Raises:
        RunError: If the arrays are those of other variables.
    """
    refuse_unfit(variables, arrays)
    assign(variables, arrays)


def refuse_unfit(variables, arrays):
    """Raise `RunError` unless arrays have the number and the shapes of some variables."""
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise RunError(
            "the checkpoint's arrays are those of another model, or of other stages. Put back what changed, or start "
            "a new run."
        )
