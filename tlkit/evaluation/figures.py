"""The figures of each kind of task, over images that all have a label."""

import numpy as np

from tlkit.evaluation.bootstrap import (
    average_precision_intervals,
    macro_f1_interval,
    mean_interval,
    r2_interval,
    wilson_interval,
)
from tlkit.evaluation.reliability import probability_figures

THRESHOLD = 0.5  # probability from which on a label is predicted
LARGEST_CONFUSION = 200  # classes; a larger matrix would be most of the file


def predicted_labels(probabilities, task):
    """Return what a model predicts as labels, as `Task` says: the likeliest class, or all from a probability of 0.5 on.

    Args:
        probabilities: float `(images, classes)`.
        task: The `Task`, of classes.
    """
    if task.kind == "single_label":
        return probabilities.argmax(axis=1)
    return (probabilities >= THRESHOLD).astype(np.int8)


def single_label_figures(labels, probabilities, task):
    """Return accuracy with its 95 % Wilson interval, what the probabilities are worth, and the classes one by one.

    `top5` is None below six classes; `macro_f1` and `roc_auc` (one class against the rest) are means over the classes
    that occur; `confusion` has a row per true class and a column per predicted one, and is None for very many.

    Args:
        labels: int `(images,)`.
        probabilities: float `(images, classes)`.
        task: The `Task`.
    """
    from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

    every, occurring = range(len(task.classes)), np.unique(labels)
    predicted = predicted_labels(probabilities, task)
    correct = int((predicted == labels).sum())
    figures = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0.0)
    per_class = {name: _row(*row) for name, *row in zip(task.classes, *figures, strict=True)}
    small = len(task.classes) <= LARGEST_CONFUSION
    return {
        "accuracy": correct / len(labels),
        "accuracy_interval": wilson_interval(correct, len(labels)),
        **_top5(labels, probabilities, every),
        "macro_f1": _macro_f1(per_class),
        "macro_f1_interval": macro_f1_interval(labels[:, None] == occurring, predicted[:, None] == occurring),
        "weighted_f1": float(f1_score(labels, predicted, labels=every, average="weighted", zero_division=0.0)),
        "roc_auc": _roc_auc(labels, probabilities, occurring),
        **probability_figures(labels, probabilities, task),
        "confusion": confusion_matrix(labels, predicted, labels=every).tolist() if small else None,
        "per_class": per_class,
    }


def multilabel_figures(labels, probabilities, task):
    """Return mean average precision with its interval, what the probabilities are worth, and the labels one by one.

    Average precision and ROC-AUC judge the ranking of the images, and are None for a label that all or none have. A
    constant prediction has the share of images with the label for average precision. F1 and its like, and
    `subset_accuracy`, the share of images with every label right, take labels from a probability of 0.5 on.

    Args:
        labels: int `(images, classes)` of 0 and 1.
        probabilities: float `(images, classes)`.
        task: The `Task`.
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
        "mean_roc_auc": _mean(rows, "roc_auc"),
        "macro_f1": _macro_f1(per_class),
        "macro_f1_interval": macro_f1_interval(hits, predicted),
        "weighted_f1": _weighted_f1(hits, predicted),
        "subset_accuracy": float((predicted == hits).all(axis=1).mean()),
        **probability_figures(labels, probabilities, task),
        "per_class": per_class,
    }


def regression_figures(labels, predictions, task):
    """Return mean absolute error, root mean squared error and R squared (None for equal labels), with intervals.

    `training_mean_mae` is the mean absolute error of a constant prediction: the mean of the training labels.

    Args:
        labels: float `(images,)`.
        predictions: float `(images, 1)`.
        task: The `Task`.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    predicted = predictions[:, 0].astype(np.float64)
    errors, varied = predicted - labels, bool(np.ptp(labels) > 0)
    return {
        "mae": float(mean_absolute_error(labels, predicted)),
        "mae_interval": mean_interval(np.abs(errors)),
        "training_mean_mae": float(np.abs(labels - task.mean).mean()),
        "rmse": float(root_mean_squared_error(labels, predicted)),
        "rmse_interval": [float(np.sqrt(bound)) for bound in mean_interval(errors**2)],
        "r2": float(r2_score(labels, predicted)) if varied else None,
        "r2_interval": r2_interval(labels, errors) if varied else None,
    }


def _top5(labels, probabilities, every):
    """Return `top5` and `top5_interval`."""
    from sklearn.metrics import top_k_accuracy_score

    if len(every) <= 5:
        return {"top5": None, "top5_interval": None}
    found = top_k_accuracy_score(labels, probabilities, k=5, labels=every, normalize=False)
    return {"top5": float(found / len(labels)), "top5_interval": wilson_interval(round(found), len(labels))}


def _roc_auc(labels, probabilities, occurring):
    """Return the area under each occurring class's ROC curve against the rest, averaged; None for a single class."""
    from sklearn.metrics import roc_auc_score

    if len(occurring) < 2:
        return None
    columns = np.ascontiguousarray(probabilities.T)  # one call for all classes takes three times as long
    return float(np.mean([roc_auc_score(labels == k, columns[k]) for k in occurring]))


def _row(precision, recall, f1, support):
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}


def _macro_f1(per_class):
    return _mean([row for row in per_class.values() if row["support"]], "f1")


def _weighted_f1(hits, predicted):
    """Return the mean F1 of the labels, each as often as images have it; None if no image has any."""
    from sklearn.metrics import f1_score

    return float(f1_score(hits, predicted, average="weighted", zero_division=0.0)) if hits.any() else None


def _mean(rows, figure):
    return float(np.mean([row[figure] for row in rows])) if rows else None
