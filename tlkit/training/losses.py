"""Losses and figures over the logits of all tasks: for training in the graph, for validation in float64."""

import numpy as np
from keras import ops
from scipy.special import log_expit, log_softmax

# Of an auxiliary classifier's loss: Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 5.
AUXILIARY_WEIGHT = 0.3
SURE = 1e-6  # a power below 1 of less has a gradient without bounds


class Objective:
    """What training makes small: the weighted sum of the tasks' losses.

    Args:
        tasks: Dict of task name to `Task`.
        weights: Dict of task name to the weight of its loss, 1 where none is given; or `"uncertainty"`: weights
            `exp(-s)` are learned with the rest, `s` being the logarithm of the task's variance.
        focal_gamma: Exponent of the focal loss; 0 for plain cross-entropy.

    Reference:
        Uncertainty: Kendall, Gal & Cipolla 2018, https://arxiv.org/abs/1705.07115, equation 7. Focal loss: Lin et al.
        2017, https://arxiv.org/abs/1708.02002, equation 4.
    """

    def __init__(self, tasks, weights=None, focal_gamma=0.0):
        self.tasks, self.focal_gamma = tasks, focal_gamma
        self.learns_weights = weights == "uncertainty"
        self.weights = {name: 1.0 if self.learns_weights else (weights or {}).get(name, 1.0) for name in tasks}

    def total(self, logits, targets, log_variances=None):
        """Return the scalar that training makes small.

        Args:
            logits: Dict of task to tensor `(batch, num_outputs)`.
            targets: What `Targets.encode` returns.
            log_variances: Tensor `(tasks,)`, for learned weights.
        """
        losses = self.by_task(logits, targets)
        if not self.learns_weights:
            return sum(self.weights[name] * loss for name, loss in losses.items())
        halves = [0.5 if task.kind == "regression" else 1.0 for task in self.tasks.values()]
        total = 0.0
        for place, (name, half) in enumerate(zip(self.tasks, halves, strict=True)):
            weighted = half * ops.exp(-log_variances[place]) * losses[name] + 0.5 * log_variances[place]
            total = total + weighted * _any_labelled(targets[name])
        return total

    def by_task(self, logits, targets):
        """Return dict of task to its loss: the mean over the labelled images of the batch, 0 where there are none."""
        losses = {}
        for name, task in self.tasks.items():
            target = targets[name]
            per_image = self._per_image(task, ops.cast(logits[name], "float32"), target)
            losses[name] = ops.sum(per_image) / _labelled(target)
        return losses

    def _per_image(self, task, logits, target):
        if task.kind == "regression":
            return target["known"] * ops.square(logits - target["value"])[:, 0]
        if task.kind == "single_label":
            log_p = ops.log_softmax(logits, axis=-1)
            return -ops.sum(target["positive"] * self._focus(log_p) * log_p, axis=-1)
        log_p, log_q = -ops.softplus(-logits), -ops.softplus(logits)
        present = target["positive"] * self._focus(log_p) * log_p
        absent = target["negative"] * self._focus(log_q) * log_q
        return -ops.mean(present + absent, axis=-1)

    def _focus(self, log_p):
        if not self.focal_gamma:
            return 1.0
        return ops.maximum(1.0 - ops.exp(log_p), SURE) ** self.focal_gamma

    def score(self, logits, targets):
        """Return the mean over the tasks of the share of right answers; for numbers, of explained variance."""
        scores = []
        for name, task in self.tasks.items():
            target, z = targets[name], ops.cast(logits[name], "float32")
            if task.kind == "regression":
                right = 1.0 - ops.square(z - target["value"])[:, 0]
            elif task.kind == "single_label":
                right = ops.cast(ops.argmax(z, -1) == ops.argmax(target["positive"], -1), "float32")
            else:
                right = ops.mean(ops.cast((z > 0) == (target["positive"] > target["negative"]), "float32"), axis=-1)
            scores.append(ops.sum(target["known"] * right) / _labelled(target))
        return sum(scores) / len(scores)


def _labelled(target):
    """Return the weight of a batch's labelled images, at least 1; in a part of one, what `targets.in_parts` says."""
    return target["labelled"] if "labelled" in target else ops.maximum(ops.sum(target["known"]), 1.0)


def _any_labelled(target):
    return target["any"] if "any" in target else ops.cast(ops.any(target["known"] > 0), "float32")


class Validation:
    """Figures of one pass over the validation images.

    Attributes:
        losses: float64 `(images,)`; their mean is the weighted sum of the tasks' mean losses. A missing label counts
            for nothing: the others of its task count the more.
        scores: float64 `(images,)`, likewise the mean of the tasks' accuracies; for a task of numbers the explained
            variance, 1 minus the mean squared error of standardized numbers.
        by_task: Dict of task to `(loss, score)`.

    Args:
        tasks: Dict of task name to `Task`.
        logits: Dict of task to array `(images, num_outputs)`.
        labels: Dict of task to labels, encoded as `Task` says.
        weights: Dict of task to the weight of its loss.
    """

    def __init__(self, tasks, logits, labels, weights):
        self.by_task, self.losses, self.scores = {}, 0.0, 0.0
        for name, task in tasks.items():
            loss, score, known = _figures(task, np.asarray(logits[name], np.float64), labels[name])
            share = len(known) / max(1, known.sum())
            loss, score = np.where(known, loss, 0.0) * share, np.where(known, score, 0.0) * share
            self.by_task[name] = float(loss.mean()), float(score.mean())
            self.losses = self.losses + weights[name] * loss
            self.scores = self.scores + score / len(tasks)

    @property
    def loss(self):
        """The weighted sum of the tasks' mean losses."""
        return float(self.losses.mean())

    @property
    def score(self):
        """The mean of the tasks' accuracies."""
        return float(self.scores.mean())


def _figures(task, logits, labels):
    """Return loss, accuracy and whether the label is known, of each image."""
    if task.kind == "single_label":
        known = labels >= 0
        log_p = log_softmax(logits, axis=-1)
        return -log_p[np.arange(len(labels)), np.maximum(labels, 0)], log_p.argmax(axis=-1) == labels, known
    if task.kind == "multilabel":
        known = (labels >= 0).all(axis=1)
        of_label = log_expit(np.where(labels > 0, logits, -logits))
        return -of_label.mean(axis=1), ((logits > 0) == (labels > 0)).mean(axis=1), known
    known = np.isfinite(labels)
    errors = (logits[:, 0] - (np.where(known, labels, task.mean) - task.mean) / task.scale) ** 2
    return errors, 1.0 - errors, known


def kernel_penalty(variables, l1, l2):
    """Return the L1 and L2 penalty of the kernels among some variables: those with at least two axes."""
    kernels = [variable for variable in variables if len(variable.shape) >= 2]
    penalty = 0.0
    for kernel in kernels:
        penalty = penalty + l1 * ops.sum(ops.abs(kernel)) if l1 else penalty
        penalty = penalty + l2 * ops.sum(ops.square(kernel)) if l2 else penalty
    return penalty


class Anchor:
    """The L2-SP penalty: half the squared distance of some variables from given values.

    Args:
        variables: List of `keras.Variable`.
        values: Their arrays, in the same order.
        weight: Of the penalty.

    Reference:
        Li, Grandvalet & Davoine 2018, https://arxiv.org/abs/1802.01483, equation 3.
    """

    def __init__(self, variables, values, weight):
        self._weight = weight
        self._values = {id(variable): value for variable, value in zip(variables, values, strict=True)}

    def penalty(self, variables):
        """Return the penalty of those among some variables that are drawn anywhere."""
        drawn = [variable for variable in variables if id(variable) in self._values]
        return 0.5 * self._weight * sum(ops.sum(ops.square(v - self._values[id(v)])) for v in drawn)
