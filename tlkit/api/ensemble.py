"""Several runs as one: the average of what they predict of the same images, on images that none of them trained on."""

from dataclasses import asdict

import numpy as np

from tlkit.api.compare import same_task
from tlkit.api.tta import risks
from tlkit.errors import RunError
from tlkit.evaluation.compare import figure, paired_difference, verdict
from tlkit.evaluation.metrics import Result, split_metrics
from tlkit.evaluation.predictions import read_splits
from tlkit.evaluation.tta import average as averaged


def check_members(runs):
    """Check that runs can be averaged: each once, and with the tasks and classes of the first, in any order.

    Args:
        runs: List of `Run`, the first one the one that is evaluated.

    Raises:
        RunError: If not.
    """
    first, *others = runs
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise RunError(f"{first.path}: expected each run of an ensemble once. Received: the same folder twice")
    for run in others:
        for name, task in first.tasks.items():
            if name not in run.tasks:
                raise RunError(
                    f"{run.path}: it has no task {name!r}, as {first.path} has, only {', '.join(run.tasks)}."
                )
            same_task(name, task, run, first)


def held_out_from_all(runs, data, indices, split, listener):
    """Return those of some images that no run was trained on, or validated with; the others are left out with a note.

    Args:
        runs: List of `Run`.
        data: `Data`.
        indices: int array: which of its images are asked for.
        split: What they are: `"val"` images are there to validate with, and stay.
        listener: `Listener` for the note.

    Raises:
        RunError: If none is left.
    """
    uses = ("train",) if split == "val" else ("train", "val")
    used = {row["sha256"] for run in runs for row in read_splits(run.path) if row["split"] in uses}
    kept = np.array([i for i in indices if data.sha256[i] not in used], np.int64)
    if not len(kept):
        raise RunError(
            f"{runs[0].path}: each of the {len(indices)} images was used to fit a run of the ensemble. Average "
            "runs of one split (`--set data.split_seed=0` keeps it), or give other --data."
        )
    if left_out := len(indices) - len(kept):
        listener.note(f"{left_out} of the {len(indices)} images are left out: a run of the ensemble was fitted on them")
    return kept


def evaluate_ensemble(runs, images, used, tta, average, listener):
    """Return the `Result` of the average of several runs, and how it differs from the first of them alone.

    Args:
        runs: List of `Run`, checked.
        images: `tlkit.api.tta.Images`, their labels in terms of the first run's classes.
        used: What they were used to choose.
        tta, average: Test-time views, as for `tlkit.data.tta.find_views`, and how each run averages them; what the
            runs say is averaged likewise.
        listener: `Listener` for progress and notes.
    """
    tasks = runs[0].tasks
    for line in risks(tta, tasks):
        listener.note(line)
    settings, members = {"tta": tta, "average": average, "listener": listener}, []
    for number, run in enumerate(runs, start=1):
        what = f"{images.name}, run {number}"
        members.append(in_order_of(run.probabilities(images.data, images.indices, **settings, what=what), run, tasks))
    together = average_members(members, tasks, average)
    compared = {}
    for name, task in tasks.items():
        difference = paired_difference(images.labels[name], members[0][name], together[name], task)
        compared[name] = {
            "members": [figure(images.labels[name], member[name], task)[0] for member in members],
            **asdict(difference),
            "verdict": verdict(difference, difference.p),
        }
    entry = {"runs": [str(run.path) for run in runs], "tasks": compared}
    return Result(images.name, split_metrics(images.labels, together, tasks, used), ensemble=entry)


def in_order_of(probabilities, run, tasks):
    """Return a run's predictions with the columns in the order of another's classes.

    Args:
        probabilities: Dict of task name to float `(images, outputs)`.
        run: The `Run` that made them.
        tasks: Dict of name to `Task`, of the same classes.
    """
    ordered = {}
    for name, task in tasks.items():
        theirs = run.tasks[name].classes
        ordered[name] = probabilities[name][:, [theirs.index(label) for label in task.classes] or slice(None)]
    return ordered


def average_members(members, tasks, how="probabilities"):
    """Return the average of several runs' predictions.

    Args:
        members: List of dicts of task name to float32 `(images, outputs)`: probabilities of classes, or numbers.
        tasks: Dict of name to `Task`.
        how: As for `tlkit.evaluation.tta.average`.

    Returns:
        Such a dict.

    Reference:
        Krizhevsky et al. 2012, https://papers.nips.cc/paper/4824, section 6.
    """
    return {
        name: averaged(np.stack([member[name] for member in members]), task.kind, how) for name, task in tasks.items()
    }
