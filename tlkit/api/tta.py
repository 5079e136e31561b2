"""Test-time views for a run: what a set of them changes, and which set its validation images choose."""

from dataclasses import dataclass

import numpy as np

from tlkit import run as run_folder
from tlkit.data.policies import upends
from tlkit.data.tta import find_views, views_risk
from tlkit.evaluation.metrics import Result, split_metrics
from tlkit.evaluation.tta import choose_views, cross_fit, measure_views
from tlkit.recipe import read_recipe

NONE, AUTO = "none", "auto"
CANDIDATES = ("flip", "fivecrop", "tencrop", "multiscale")
UPENDED = ("dihedral",)  # candidates, too, for what was trained on images upside down


@dataclass(frozen=True)
class Images:
    """Labelled images of a data set.

    Attributes:
        name: What they are called: a split, or `"data"`.
        data: The `Data`.
        indices: int array: which of its images.
        labels: Dict of task name to their labels, in terms of the run's classes.
    """

    name: str
    data: object
    indices: np.ndarray
    labels: dict


def evaluate_views(run, images, validation, used_for, tta, average, listener):
    """Evaluate a run with test-time views, and measure what they change.

    Args:
        run: A `Run`.
        images: The `Images` to evaluate.
        validation: For `"auto"`, the `Images` that choose; None to choose and measure on `images`, crosswise.
        used_for: What `images` were used to choose before.
        tta: As for `tlkit.data.tta.find_views`, or `"auto"`.
        average: As for `tlkit.evaluation.tta.average`.
        listener: `Listener` for progress and notes.

    Returns:
        `Result`, with its `tta`.
    """
    if tta != AUTO:
        for line in risks(tta, run.tasks):
            listener.note(line)
        predicted = _predict(run, images, {tta}, average, listener)
        rows = _measure(tta, images, predicted, run.tasks)
        return _result(images, predicted[tta], run.tasks, used_for, average, tta, rows)
    names = candidates(run)
    if validation is None:
        return _choose_crosswise(run, images, names, used_for, average, listener)
    predicted = _predict(run, validation, names, average, listener)
    rows = [row for name in names for row in _measure(name, validation, predicted, run.tasks)]
    chosen, reason = choose_views(rows)
    listener.note(f"auto: {reason}")
    predicted = _predict(run, images, {chosen}, average, listener)
    if chosen != NONE:
        rows += _measure(chosen, images, predicted, run.tasks)
    return _result(images, predicted[chosen], run.tasks, used_for, average, chosen, rows, reason)


def _choose_crosswise(run, images, names, used_for, average, listener):
    """Evaluate each part of the images with the views that the others choose; what ships is what all of them choose."""
    predicted = _predict(run, images, names, average, listener)
    rows = [row for name in names for row in _measure(name, images, predicted, run.tasks)]
    chosen, reason = choose_views(rows)
    plain = predicted[NONE]
    sets = {name: (len(find_views(name)), predicted[name]) for name in names}
    crossed, by_part = cross_fit(images.name, images.labels, plain, sets, run.tasks)
    parts = ", ".join(f"{name} {by_part.count(name)} times" for name in dict.fromkeys(by_part))
    listener.note(f"auto: {reason}; the figures are of parts whose views the other parts chose: {parts}")
    views = len(find_views(chosen))
    rows += measure_views(AUTO, views, images.name, images.labels, plain, crossed, run.tasks)
    return _result(images, crossed, run.tasks, used_for, average, chosen, rows, reason)


def _result(images, probabilities, tasks, used_for, average, chosen, rows, reason=None):
    measured = {"average": average, "chosen": chosen, "rows": rows}
    if reason is not None:
        measured["reason"] = reason
    return Result(images.name, split_metrics(images.labels, probabilities, tasks, used_for), measured)


def _predict(run, images, names, average, listener):
    """Return what each set predicts, the evaluation view alone besides: dict of name to dict of task to outputs."""
    sets = {name: find_views(name) for name in (NONE, *names)}
    return run.predict_sets(images.data, images.indices, sets, average=average, listener=listener, what=images.name)


def _measure(name, images, predicted, tasks):
    views = len(find_views(name))
    return measure_views(name, views, images.name, images.labels, predicted[NONE], predicted[name], tasks)


def risks(tta, tasks):
    """Return what there is to fear of test-time views, a line per task that they may hurt."""
    lines = (views_risk(tta, task) for task in tasks.values())
    return [line for line in dict.fromkeys(lines) if line]


def candidates(run):
    """Return the sets among which a run's validation images may choose: fewer of them, and each has a fairer chance.

    Those that are likely to hurt are none; the eight symmetries are one if the run was trained on images upside down.
    """
    augment = read_recipe(run.path / run_folder.RECIPE, recorded=True).data.augment
    names = CANDIDATES + (UPENDED if upends(augment) else ())
    return [name for name in names if not risks(name, run.tasks)]


def measure_at_end(tta, predicted, labels, tasks):
    """Return the entry `"tta"` of `metrics.json`.

    Args:
        tta: The recipe's `evaluation.tta`.
        predicted: Dict of split to what `tlkit.evaluation.infer.predict_sets` returns for `"none"` and for `tta`.
        labels: Dict of split to dict of task name to labels.
        tasks: Dict of task name to `Task`.

    Returns:
        Dict of `average`, `rows` as from `tlkit.evaluation.tta.measure_views`, and `chosen`, by those of `"val"`.
    """
    views = len(find_views(tta))
    rows = [
        row
        for split, of in predicted.items()
        for row in measure_views(tta, views, split, labels[split], of[NONE], of[tta], tasks)
    ]
    chosen, reason = choose_views([row for row in rows if row["split"] == "val"])
    return {"average": "probabilities", "chosen": chosen, "rows": rows, "reason": reason}
