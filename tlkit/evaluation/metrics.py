"""Figures for one task from labels and probabilities, each headline figure with its interval."""

from dataclasses import dataclass

import numpy as np

CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-7


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
    def accuracy(self):
        """Accuracy of the first task, in [0, 1]."""
        return next(iter(self.metrics["tasks"].values()))["accuracy"]

    @property
    def accuracy_interval(self):
        """Its 95 % Wilson interval, `[low, high]`."""
        return next(iter(self.metrics["tasks"].values()))["accuracy_interval"]


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


def task_metrics(labels, probabilities, task):
    """Return the figures of a single-label task.

    Args:
        labels: int `(images,)`, at least one.
        probabilities: float `(images, classes)`.
        task: The `Task`.

    Returns:
        Dict as in `metrics.json`: accuracy with its 95 % Wilson interval, top5 (None below six classes), macro F1
        over the classes that occur, ECE, and precision, recall, F1 and support per class.
    """
    from sklearn.metrics import precision_recall_fscore_support

    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    figures = precision_recall_fscore_support(
        labels, predicted, labels=range(len(task.classes)), zero_division=0.0, average=None
    )
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(task.classes, *figures, strict=True)
    }
    f1_of_present = [row["f1"] for row in per_class.values() if row["support"]]
    return {
        "kind": task.kind,
        "n_labelled": len(labels),
        "accuracy": correct / len(labels),
        "accuracy_interval": wilson_interval(correct, len(labels)),
        "top5": _top_accuracy(labels, probabilities, 5) if len(task.classes) > 5 else None,
        "macro_f1": float(np.mean(f1_of_present)),
        "ece": calibration_error(labels, probabilities),
        "per_class": per_class,
    }


def split_metrics(labels, probabilities, tasks, used_for):
    """Return a split's entry in `metrics.json`.

    Args:
        labels, probabilities: Dicts of task name to arrays, as for `task_metrics`.
        tasks: Dict of task name to `Task`.
        used_for: What the split was used to choose, such as `["epoch"]`; an empty list makes its figures honest.
    """
    return {
        "n": len(next(iter(labels.values()))),
        "loss": sum(_log_loss(labels[name], probabilities[name]) for name in tasks),
        "used_for": list(used_for),
        "tasks": {name: task_metrics(labels[name], probabilities[name], task) for name, task in tasks.items()},
    }


def _top_accuracy(labels, probabilities, k):
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((top == labels[:, None]).any(axis=1).mean())


def _log_loss(labels, probabilities):
    of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_true, SMALLEST_PROBABILITY)).mean())
