"""Figures for tasks from labels and predictions, each headline figure with its interval.

Only images that have a label count. What can't be said of them, such as the ranking of a label that all have, is None.
"""

from dataclasses import dataclass

import numpy as np

from tlkit.data.labels import labelled
from tlkit.errors import TlkitError
from tlkit.evaluation.bootstrap import average_precision_intervals, mean_interval

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-7
THRESHOLD = 0.5  # probability from which on a label is predicted
HEADLINES = {"single_label": "accuracy", "multilabel": "mean_average_precision", "regression": "mae"}


@dataclass(frozen=True)
class Result:
    """Figures of one evaluation.

    Attributes:
        split: What was evaluated: `"test"`, `"val"`, or `"data"` for data given to `evaluate`.
        metrics: An entry as in `metrics.json`: `n`, `loss`, `used_for`, and `tasks`.
    """

    split: str
    metrics: dict

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


def predicted_labels(probabilities, task):
    """Return what a model predicts as labels, as `Task` says: the likeliest class, or all from a probability of 0.5 on.

    Args:
        probabilities: float `(images, classes)`.
        task: The `Task`, of classes.
    """
    if task.kind == "single_label":
        return probabilities.argmax(axis=1)
    return (probabilities >= THRESHOLD).astype(np.int8)


def wilson_interval(correct, total, confidence=0.95):
    """Return the Wilson score interval of a proportion.

    Args:
        correct: Number of successes.
        total: Number of trials, at least 1.
        confidence: In (0, 1).

    Returns:
        `[low, high]`, in [0, 1].

    Reference:
        Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    from scipy.stats import binomtest

    interval = binomtest(int(correct), int(total)).proportion_ci(confidence, method="wilson")
    return [float(interval.low), float(interval.high)]


def calibration_error(labels, probabilities, bins=CALIBRATION_BINS):
    """Return the expected calibration error: the mean gap between confidence and accuracy, over equal-width bins.

    Args:
        labels: int `(images,)`.
        probabilities: float `(images, classes)`.
        bins: Number of bins of the top class's probability.

    Returns:
        Float in [0, 1].

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    which = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


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


def _single_label_figures(labels, probabilities, task):
    """Return accuracy with its 95 % Wilson interval, and what the classes look like one by one.

    `top5` is None below six classes, `macro_f1` the mean over the classes that occur, `ece` the calibration error.
    """
    from sklearn.metrics import precision_recall_fscore_support

    predicted = predicted_labels(probabilities, task)
    correct = int((predicted == labels).sum())
    figures = precision_recall_fscore_support(labels, predicted, labels=range(len(task.classes)), zero_division=0.0)
    per_class = {name: _row(*row) for name, *row in zip(task.classes, *figures, strict=True)}
    return {
        "accuracy": correct / len(labels),
        "accuracy_interval": wilson_interval(correct, len(labels)),
        "top5": _top_accuracy(labels, probabilities, 5) if len(task.classes) > 5 else None,
        "macro_f1": _macro_f1(per_class),
        "ece": calibration_error(labels, probabilities),
        "per_class": per_class,
    }


def _multilabel_figures(labels, probabilities, task):
    """Return mean average precision with its interval, and what the labels look like one by one.

    Average precision and ROC-AUC judge the ranking of the images, and are None for a label that all or none have. A
    constant prediction has the share of images with the label for average precision. F1 and its like, and
    `subset_accuracy`, the share of images with every label right, take labels from a probability of 0.5 on.
    """
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

    hits, predicted = labels == 1, predicted_labels(probabilities, task) == 1
    per_class = {}
    for name, *columns in zip(task.classes, hits.T, predicted.T, strict=True):
        figures = precision_recall_fscore_support(*columns, labels=[True], zero_division=0.0)
        per_class[name] = _row(*(figure[0] for figure in figures))
    varied = np.flatnonzero(hits.any(axis=0) & ~hits.all(axis=0)).tolist()
    intervals, of_mean = (
        average_precision_intervals(hits[:, varied], probabilities[:, varied]) if varied else ([], None)
    )
    interval_of = dict(zip(varied, intervals, strict=True))
    for k, row in enumerate(per_class.values()):
        of_label = (hits[:, k], probabilities[:, k])
        row |= {
            "average_precision": float(average_precision_score(*of_label)) if k in interval_of else None,
            "average_precision_interval": interval_of.get(k),
            "constant_average_precision": row["support"] / len(labels),
            "roc_auc": float(roc_auc_score(*of_label)) if k in interval_of else None,
        }
    rows = [per_class[task.classes[k]] for k in varied]
    return {
        "mean_average_precision": _mean(rows, "average_precision"),
        "mean_average_precision_interval": of_mean,
        "constant_mean_average_precision": _mean(rows, "constant_average_precision"),
        "macro_f1": _macro_f1(per_class),
        "subset_accuracy": float((predicted == hits).all(axis=1).mean()),
        "per_class": per_class,
    }


def _regression_figures(labels, predictions, task):
    """Return mean absolute error with its interval, root mean squared error and R squared (None for equal labels).

    `training_mean_mae` is the mean absolute error of a constant prediction: the mean of the training labels.
    """
    errors = predictions[:, 0].astype(np.float64) - labels
    spread = float(((labels - labels.mean()) ** 2).sum())
    return {
        "mae": float(np.abs(errors).mean()),
        "mae_interval": mean_interval(np.abs(errors)),
        "training_mean_mae": float(np.abs(labels - task.mean).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "r2": 1 - float((errors**2).sum()) / spread if spread else None,
    }


_FIGURES = {
    "single_label": _single_label_figures,
    "multilabel": _multilabel_figures,
    "regression": _regression_figures,
}


def _known(labels, probabilities):
    """Return both for the images that have a label."""
    known = labelled(labels)
    return np.asarray(labels)[known], np.asarray(probabilities)[known]


def _row(precision, recall, f1, support):
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}


def _macro_f1(per_class):
    return _mean([row for row in per_class.values() if row["support"]], "f1")


def _mean(rows, figure):
    return float(np.mean([row[figure] for row in rows])) if rows else None


def _top_accuracy(labels, probabilities, k):
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((top == labels[:, None]).any(axis=1).mean())


def _loss(labels, probabilities, task):
    if not len(labels):
        return 0.0
    if task.kind == "regression":
        return float((((probabilities[:, 0] - labels) / task.scale) ** 2).mean())
    if task.kind == "multilabel":
        of_true = np.where(labels == 1, probabilities, 1 - probabilities.astype(np.float64))
    else:
        of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_true, SMALLEST_PROBABILITY)).mean())
