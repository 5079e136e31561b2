"""Figures for tasks from labels and predictions, each headline figure with its interval.

Only images that have a label count. What can't be said of them, such as the ranking of a label that all have, is None.
"""

from dataclasses import dataclass

import numpy as np

from tlkit.data.labels import labelled
from tlkit.errors import TlkitError
from tlkit.evaluation.figures import (
    THRESHOLD,
    multilabel_figures,
    predicted_labels,
    regression_figures,
    single_label_figures,
    wilson_interval,
)
from tlkit.evaluation.reliability import log_loss

__all__ = [
    "THRESHOLD",
    "Result",
    "headline_metric",
    "predicted_labels",
    "split_metrics",
    "task_metrics",
    "wilson_interval",
]

HEADLINES = {"single_label": "accuracy", "multilabel": "mean_average_precision", "regression": "mae"}


@dataclass(frozen=True)
class Result:
    """Figures of one evaluation.

    Attributes:
        split: What was evaluated: `"test"`, `"val"`, or `"data"` for data given to `evaluate`.
        metrics: An entry as in `metrics.json`: `n`, `loss`, `used_for`, and `tasks`.
        tta: What test-time views changed, as `tta` in `metrics.json`; None where there was but the evaluation view.
        ensemble: Where several runs were averaged: `runs`, and for each of `tasks` the figures of the `members` and the
            paired difference of the average to the first run; else None.
    """

    split: str
    metrics: dict
    tta: dict | None = None
    ensemble: dict | None = None

    @property
    def value(self):
        """The first task's headline figure: accuracy, mean average precision, or mean absolute error."""
        return self._first[headline_metric(self._first["kind"])[0]]

    @property
    def interval(self):
        """Its 95 % interval, `[low, high]`."""
        return self._first[headline_metric(self._first["kind"])[1]]

    @property
    def accuracy(self):
        """Accuracy of the first task, in [0, 1].

        Raises:
            TlkitError: If that is no single-label task.
        """
        self._need_accuracy()
        return self.value

    @property
    def accuracy_interval(self):
        """Its 95 % Wilson interval, `[low, high]`."""
        self._need_accuracy()
        return self.interval

    @property
    def _first(self):
        return next(iter(self.metrics["tasks"].values()))

    def _need_accuracy(self):
        kind = self._first["kind"]
        if kind != "single_label":
            name = next(iter(self.metrics["tasks"]))
            raise TlkitError(
                f"the first task, {name!r}, is {kind} and has no accuracy: `value` is its {headline_metric(kind)[0]}"
            )


def headline_metric(kind):
    """Return the names of the figure that a kind of task is judged by, and of its interval."""
    return HEADLINES[kind], f"{HEADLINES[kind]}_interval"


def split_metrics(labels, probabilities, tasks, used_for):
    """Return a split's entry in `metrics.json`.

    Its loss is the sum over the tasks of the mean log loss of single labels, the mean log loss of several labels over
    images and labels, or the mean squared error in units of the task's scale.

    Args:
        labels, probabilities: Dicts of task name to arrays, as for `task_metrics`.
        tasks: Dict of task name to `Task`.
        used_for: What the split was used to choose, such as `["epoch"]`; an empty list makes its figures honest.
    """
    return {
        "n": len(next(iter(labels.values()))),
        "loss": sum(_loss(*_known(labels[name], probabilities[name]), task) for name, task in tasks.items()),
        "used_for": list(used_for),
        "tasks": {name: task_metrics(labels[name], probabilities[name], task) for name, task in tasks.items()},
    }


def task_metrics(labels, probabilities, task):
    """Return the figures of a task over the images that have a label.

    Args:
        labels: `(images,)`, or `(images, classes)` for several labels, as `Task` says.
        probabilities: float `(images, classes)`; for regression the predicted numbers `(images, 1)`.
        task: The `Task`.

    Returns:
        Dict as in `metrics.json`: `kind`, `n_labelled`, and the figures of that kind; without any label its headline
        figure and interval are None and the only ones.
    """
    known, predicted = _known(labels, probabilities)
    entry = {"kind": task.kind, "n_labelled": len(known)}
    if not len(known):
        return entry | dict.fromkeys(headline_metric(task.kind))
    return entry | _FIGURES[task.kind](known, predicted, task)


_FIGURES = {
    "single_label": single_label_figures,
    "multilabel": multilabel_figures,
    "regression": regression_figures,
}


def _known(labels, probabilities):
    """Return both for the images that have a label."""
    known = labelled(labels)
    return np.asarray(labels)[known], np.asarray(probabilities)[known]


def _loss(labels, probabilities, task):
    if not len(labels):
        return 0.0
    if task.kind == "regression":
        return float((((probabilities[:, 0] - labels) / task.scale) ** 2).mean())
    return log_loss(labels, probabilities, task)
