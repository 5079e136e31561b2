"""What a model gets wrong: which classes it takes for which, and the images on which it was surest and wrong."""

from dataclasses import dataclass

import numpy as np

from tlkit.data.labels import labelled
from tlkit.evaluation.metrics import predicted_labels


@dataclass(frozen=True)
class Mistake:
    """One image that a model got wrong.

    Attributes:
        row: Its position among the predicted images.
        task: Name of the task.
        output: Position of the output that was wrong: what an explanation explains.
        said, truth: The class or the number that was said, and the right one; for several labels, the label, and
            whether the image has it.
        probability: Of what was said; None for numbers.
        of_truth: Probability of the right class; None but for one label.
    """

    row: int
    task: str
    output: int
    said: object
    truth: object
    probability: float | None = None
    of_truth: float | None = None


def find_mistakes(predicted, name, task, most):
    """Return the most confident mistakes of a task, or its largest errors.

    Args:
        predicted: `tlkit.delivery.folder.Predicted`.
        name, task: The task.
        most: How many at most; an image counts once.

    Returns:
        `(count, mistakes)`: how many images are wrong in all (with a label), and a list of `Mistake`, the worst first.
    """
    labels, outputs = predicted.labels[name], predicted.outputs[name]
    known = np.flatnonzero(labelled(labels))
    return _FINDERS[task.kind](known, labels[known], outputs[known], name, task, most)


def _wrong_classes(known, labels, outputs, name, task, most):
    said, sure = outputs.argmax(axis=1), outputs.max(axis=1)
    wrong = np.flatnonzero(said != labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    return len(wrong), [
        Mistake(
            int(known[i]),
            name,
            int(said[i]),
            task.classes[said[i]],
            task.classes[labels[i]],
            float(sure[i]),
            float(outputs[i, labels[i]]),
        )
        for i in worst
    ]


def _wrong_labels(known, labels, outputs, name, task, most):
    gaps = np.abs(outputs - labels)
    wrong = predicted_labels(outputs, task) != labels
    gaps = np.where(wrong, gaps, -1)
    of_image = gaps.max(axis=1)
    worst = [i for i in np.argsort(-of_image, kind="stable")[:most] if of_image[i] >= 0]
    return int(wrong.any(axis=1).sum()), [
        Mistake(
            int(known[i]),
            name,
            int(k := gaps[i].argmax()),
            task.classes[k],
            bool(labels[i, k]),
            float(outputs[i, k]),
        )
        for i in worst
    ]


def _far_numbers(known, labels, outputs, name, _task, most):
    gaps = np.abs(outputs[:, 0] - labels)
    worst = np.argsort(-gaps, kind="stable")[:most]
    return len(labels), [Mistake(int(known[i]), name, 0, float(outputs[i, 0]), float(labels[i])) for i in worst]


_FINDERS = {"single_label": _wrong_classes, "multilabel": _wrong_labels, "regression": _far_numbers}


def count_confusion(predicted, name, task):
    """Return a single-label task's confusion matrix: int `(classes, classes)`, true class by predicted one."""
    labels = predicted.labels[name]
    known = labels >= 0
    cells = labels[known] * len(task.classes) + predicted.outputs[name][known].argmax(axis=1)
    return np.bincount(cells, minlength=len(task.classes) ** 2).reshape(len(task.classes), len(task.classes))


def confused_pairs(confusion, classes, most):
    """Return the pairs of classes that are mistaken most often.

    Args:
        confusion: int `(classes, classes)`, true class by predicted one.
        classes: Their names.
        most: How many pairs at most.

    Returns:
        List of dicts `truth`, `said`, `count`, `support` (images of the true class), the commonest first.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [
        {"truth": classes[i], "said": classes[j], "count": int(wrong[i, j]), "support": int(confusion[i].sum())}
        for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[i, j]
    ]
