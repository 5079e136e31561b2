"""The training's whole state in one file: a kill at any moment costs at most the time since it was last written."""

import json
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tlkit.errors import RunError
from tlkit.run import CHECKPOINT_FILE as FILE
from tlkit.run import atomic_path, make_folder

_STATE = "state"


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
        history: One dict an epoch.
        probe_seconds: Time spent on the probe.
        stage_seconds: Time spent in each stage so far; the seconds are what differs between equal runs.
        pass_seconds: Time spent on computing features that are kept.
        variables, optimizer, best_variables, stage_best_variables, kept: Arrays by position; names may differ between
            two processes.
        best_figures, stage_best_figures: Lists of one float64 array: the monitored figure of each validation image.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    begun: bool = False
    loss_sum: float = 0.0
    score_sum: float = 0.0
    seen: int = 0
    best: dict | None = None
    probe: dict | None = None
    stage_best: dict | None = None
    stale_epochs: int = 0
    drops: int = 0
    stale_since_drop: int = 0
    kept_scores: list[float] = field(default_factory=list)
    log_variances: list[float] = field(default_factory=list)
    selection: list[dict] = field(default_factory=list)
    history: list[dict] = field(default_factory=list)
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


_TENSORS = (
    "variables",
    "optimizer",
    "best_variables",
    "best_figures",
    "stage_best_variables",
    "stage_best_figures",
    "kept",
)


class Checkpoint:
    """Keep a `TrainingState` in a folder, written atomically.

    Args:
        folder: Where the file lies; made when first written.
        identity: JSON-able description of what is being trained; a checkpoint of anything else is refused.
        seconds: Stated interval between two writes. It is stretched so that writing takes at most 5 % of the time.
        resume_command: What a user whose run was stopped types to go on.
    """

    def __init__(self, folder, identity, seconds, resume_command=""):
        self.path = Path(folder) / FILE
        self.identity = identity
        self.resume_command = resume_command
        self._seconds = seconds
        self._next_write = time.monotonic() + seconds

    def is_due(self):
        """Tell whether the interval since the last write is over."""
        return time.monotonic() >= self._next_write

    def save(self, state):
        """Write the state; the earlier file stays whole until the new one is on the disk."""
        started = time.monotonic()
        make_folder(self.path.parent)
        plain = {key: value for key, value in vars(state).items() if key not in _TENSORS}
        header = json.dumps({"identity": self.identity, "state": plain})
        arrays = {_STATE: np.frombuffer(header.encode(), dtype=np.uint8)}
        for kind in _TENSORS:
            arrays |= {f"{kind}/{position}": array for position, array in enumerate(getattr(state, kind))}
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        now = time.monotonic()
        self._next_write = now + max(self._seconds, 20 * (now - started))

    def load(self):
        """Return the saved state, or None where nothing has been saved.

        Raises:
            RunError: If the file is damaged, or was written by a different training.
        """
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                header = json.loads(arrays[_STATE].tobytes())
                tensors = {name: arrays[name] for name in arrays.files if name != _STATE}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{self.path}: the checkpoint is damaged ({error}). Remove the folder to start over."
            ) from None
        self._refuse_another(header["identity"])
        try:
            return TrainingState(**header["state"], **{kind: _in_order(kind, tensors) for kind in _TENSORS})
        except TypeError:
            raise RunError(f"{self.path}: another version of tlkit wrote this checkpoint. Start a new run.") from None

    def _refuse_another(self, received):
        differing = [key for key in self.identity if received.get(key) != self.identity[key]]
        if differing:
            raise RunError(
                f"{self.path}: the checkpoint is of another training: {', '.join(differing)} changed. "
                "Put back what changed, or start a new run."
            )


def _in_order(kind, tensors):
    count = sum(name.startswith(f"{kind}/") for name in tensors)
    return [tensors[f"{kind}/{position}"] for position in range(count)]
