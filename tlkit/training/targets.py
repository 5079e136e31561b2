"""What a net is trained towards: labels as dense arrays in which missing ones weigh nothing and images can be mixed."""

import numpy as np


class Targets:
    """Turn labels into targets.

    All that is linear in the loss (label smoothing, class weights, missing labels, mixing) is done here, in the
    targets; a loss needs to know nothing of it.

    Args:
        tasks: Dict of task name to `Task`.
        label_smoothing: Share in [0, 1) of the target that is spread over all classes evenly; of a multi-label task's
            targets, drawn towards one half.
        class_weights: Dict of single-label task to float `(classes,)`: the weight of images of each class.

    Reference:
        Label smoothing: Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7.
    """

    def __init__(self, tasks, label_smoothing=0.0, class_weights=None):
        self._tasks, self._smoothing, self._weights = tasks, label_smoothing, class_weights or {}

    def encode(self, labels, partners=None, shares=None):
        """Return the targets of a batch.

        Args:
            labels: Dict of task to its labels, encoded as `Task` says.
            partners: int `(batch,)`: which image of the batch each is mixed with; None where nothing is mixed.
            shares: float `(batch,)`: how much of each is itself.

        Returns:
            Dict of task to a dict of float32 arrays: `known` `(batch,)`, the weight with which the image counts as
            labelled; for classes `positive` and, for several labels, `negative`, both `(batch, classes)`: how much
            the loss weighs the class's presence and absence; for numbers `value` `(batch, 1)`, standardized.
        """
        encoded = {}
        for name, task in self._tasks.items():
            encode = {"single_label": self._single, "multilabel": self._multi, "regression": self._number}[task.kind]
            target = encode(name, task, labels[name])
            if partners is not None:
                target = _mix(target, partners, np.asarray(shares, np.float32))
            encoded[name] = {key: np.asarray(value, np.float32) for key, value in target.items()}
        return encoded

    def _single(self, name, task, labels):
        classes, known = len(task.classes), labels >= 0
        positive = np.eye(classes, dtype=np.float32)[np.maximum(labels, 0)]
        positive = (1 - self._smoothing) * positive + self._smoothing / classes
        if name in self._weights:
            positive = positive * self._weights[name][np.maximum(labels, 0)][:, None]
        return {"known": known, "positive": positive * known[:, None]}

    def _multi(self, name, task, labels):
        known = (labels >= 0).all(axis=1)
        present = (1 - self._smoothing) * np.maximum(labels, 0) + self._smoothing / 2
        return {"known": known, "positive": present * known[:, None], "negative": (1 - present) * known[:, None]}

    def _number(self, name, task, labels):
        known = np.isfinite(labels)
        value = (np.where(known, labels, task.mean) - task.mean) / task.scale
        return {"known": known, "value": value[:, None]}


def in_parts(targets, rows):
    """Cut the targets of a batch into those of its parts, such that the mean of the parts' losses is the batch's loss.

    Args:
        targets: What `Targets.encode` returns.
        rows: Images of a part; the last one may have fewer.

    Returns:
        List of dicts like `targets`; besides, float32 `labelled`, by which a part's sums are divided, and `any`, 1
        where an image of the batch counts as labelled, else 0.
    """
    size = len(next(iter(targets.values()))["known"])
    starts, parts = range(0, size, rows), []
    whole = {name: target["known"].sum(dtype=np.float32) for name, target in targets.items()}
    for start in starts:
        part = {
            name: {key: values[start : start + rows] for key, values in target.items()}
            for name, target in targets.items()
        }
        for name, known in whole.items():
            part[name]["labelled"] = np.asarray(max(known, 1.0) / len(starts), np.float32)
            part[name]["any"] = np.asarray(known > 0, np.float32)
        parts.append(part)
    return parts


def _mix(target, partners, shares):
    """Mix every image's target with its partner's; a number mixed with an unknown one is unknown."""

    def mixed(values):
        share = shares.reshape(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[partners]

    if "value" in target:
        known = target["known"] & (target["known"][partners] | (shares == 1))
        return {"known": known, "value": mixed(target["value"])}
    return {key: mixed(np.asarray(values, np.float32)) for key, values in target.items()}
