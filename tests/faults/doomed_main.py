"""The command line of tlkit, killed for good at the moment that KILL_AT names: `step/3` at the third step it begins.

Run by `kill_harness.py` as a program; without KILL_AT it is the command line as it is.
"""

import io
import os
import signal
import sys
from pathlib import Path

from tlkit.cli import main


class Moment:
    """The n-th time that something comes about in this process."""

    def __init__(self, number):
        self._left = number

    def __call__(self):
        self._left -= 1
        if self._left == 0:
            kill()

    def comes(self):
        """Tell whether this is that time, for who does something before it is over."""
        self._left -= 1
        return self._left == 0


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner, name, moment):
    """Kill when a method is called."""
    original = getattr(owner, name)

    def doomed(*arguments, **more):
        moment()
        return original(*arguments, **more)

    setattr(owner, name, doomed)


def after(owner, name, moment):
    """Kill when a method has done what it does."""
    original = getattr(owner, name)

    def doomed(*arguments, **more):
        answer = original(*arguments, **more)
        moment()
        return answer

    setattr(owner, name, doomed)


def in_training_step(moment):
    from tlkit.training.stage import StageTrainer

    before(StageTrainer, "train_step", moment)


def in_validation(moment):
    from tlkit.training.stage import StageTrainer

    after(StageTrainer, "evaluate", moment)


def between_stages(moment):
    from tlkit.training.fit import Training

    after(Training, "_finish_stage", moment)


def in_feature_pass(moment):
    from tlkit.models.chain import Chain

    after(Chain, "run", moment)


def in_shard(moment):
    """The rows of a shard are written, and not the digest that makes them count."""
    from tlkit.training.rows_file import RowsFile

    original, calls = RowsFile._write_digest, []

    def doomed(*arguments):
        calls.append(1)
        if len(calls) % 2 == 0:
            moment()
        return original(*arguments)

    RowsFile._write_digest = doomed


def in_save(moment):
    """Half of a checkpoint is written."""
    from tlkit.training import checkpoint

    original = checkpoint.write_sealed

    def doomed(file, arrays):
        if moment.comes():
            whole = io.BytesIO()
            original(whole, arrays)
            file.write(whole.getvalue()[: whole.tell() // 2])
            file.flush()
            kill()
        return original(file, arrays)

    checkpoint.write_sealed = doomed


def in_rotation(moment):
    """The newer checkpoint has become the older one, and the newest has not its name yet."""
    original = Path.replace

    def doomed(self, target):
        answer = original(self, target)
        if Path(target).name == "previous.npz":
            moment()
        return answer

    Path.replace = doomed


def before_renaming(moment):
    """A file of the run, or the folder itself, is written and has not its name yet."""
    before(Path, "replace", moment)


def in_evaluation(moment):
    from tlkit.cli.screen import Screen

    before(Screen, "images_predicted", moment)


def at_completion(moment):
    """All is written, and one of the two checkpoints is removed."""
    original = Path.unlink

    def doomed(self, missing_ok=False):
        original(self, missing_ok)
        if self.name == "previous.npz":
            moment()

    Path.unlink = doomed


# Each with the most that its number is drawn from, and how far on in a run it is.
MOMENTS = {
    "step": (in_training_step, 30, 1),
    "validation": (in_validation, 4, 1),
    "between stages": (between_stages, 2, 2),
    "feature pass": (in_feature_pass, 12, 0),
    "shard": (in_shard, 3, 0),
    "save": (in_save, 3, 1),
    "rotation": (in_rotation, 3, 1),
    "renaming": (before_renaming, 16, 1),
    "evaluation": (in_evaluation, 6, 3),
    "completion": (at_completion, 1, 4),
}

if __name__ == "__main__":
    if chosen := os.environ.pop("KILL_AT", None):
        name, number = chosen.split("/")
        MOMENTS[name][0](Moment(int(number)))
    sys.argv[0] = "tlkit"
    main()
