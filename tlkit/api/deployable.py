"""The model of a run that isn't over: whenever it is killed, the best so far predicts."""

import time

from tlkit import run as run_folder
from tlkit.data.resize import INTERPOLATION

SHARE = 20  # of the time between two writes, one in so many parts goes into writing


class Deployable:
    """Writes `model.keras` and `inputs.json` whenever something better would ship, but takes little time for it.

    Called with `at_once=True`, it writes whatever is not written yet.

    Args:
        job: The `Job`, its run folder made.
        training: Its `tlkit.training.fit.Training`.
    """

    def __init__(self, job, training):
        self._job, self._training = job, training
        self._written, self._not_before = None, 0.0

    def __call__(self, state, at_once=False):
        row, started = self._training.candidate(state), time.monotonic()
        if row is None or row == self._written or (started < self._not_before and not at_once):
            return
        with self._training.holding_best(state):
            write_model(self._job)
        now = time.monotonic()
        self._written, self._not_before = row, now + SHARE * (now - started)


def write_model(job):
    """Write a job's model as it is now, and what it takes to predict with it, into its run folder."""
    run_folder.write_json(job.path / run_folder.INPUTS, describe_inputs(job))
    with run_folder.atomic_path(job.path / run_folder.MODEL) as temporary:
        job.model.save(temporary)


def describe_inputs(job, conformal=None):
    """Return what `inputs.json` says: how images become the model's input, and what its outputs mean.

    Args:
        job: The `Job`.
        conformal: Dict of task to `alpha` and `threshold`, where it has conformal sets.
    """
    recipe, data = job.recipe, job.data
    return {
        "block_ends": list(job.ends),
        "image_size": recipe.data.image_size,
        "fit": recipe.data.fit,
        "interpolation": INTERPOLATION,
        "channels": "RGB",
        "range": [0, 255],
        "batch_size": recipe.data.batch_size,
        "tasks": {name: _describe_task(task, (conformal or {}).get(name)) for name, task in data.tasks.items()},
    }


def _describe_task(task, sets):
    threshold = {"conformal": {key: sets[key] for key in ("alpha", "threshold")}} if sets else {}
    scale = {"mean": task.mean, "scale": task.scale} if task.kind == "regression" else {}
    return {"kind": task.kind, "classes": list(task.classes), **scale, **threshold}
