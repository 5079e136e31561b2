"""The linear probe: a regularized linear model of frozen features. No Keras here.

It costs next to nothing once the features are there, and on scarce data it is hard to beat. So it is where a head
begins, and the floor that training is held against.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, log_softmax, logit
from threadpoolctl import threadpool_limits

from tlkit.errors import NoLabelError

# Weights of the penalty, from a kernel that hardly leaves zero to one that is hardly held back, by half decades.
STRENGTHS = tuple(10 ** (-half / 2) for half in range(13))
PATIENCE = 3  # strengths in a row that validate no better, after which no weaker one is tried
# Of the training features: 26,214 images of 1,280. On one core 22 s for 10 classes, 65 s for 100.
MAX_VALUES = 2**25
CHUNK = 4096  # rows that are float64 at a time
LEAST_VARIANCE = 1e-9  # share of the features' variance below which a direction is but rounding
BIAS_STRENGTH = 1e-5  # of the penalty on the bias, for one image: keeps that of a class without images finite
PRECISION = 1e-7  # of the mean loss, below which an iteration gains too little to go on
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class Probe:
    """A linear model: `logits = features @ kernel + bias`.

    Attributes:
        kernel: float32 `(features, num_outputs)`.
        bias: float32 `(num_outputs,)`.
        strength: Weight of the penalty that validated best.
        val_loss: Mean loss of the labelled validation images: cross-entropy in nats, for several labels their mean, or
            squared error of standardized numbers. NaN where no image is labelled; then `strength` is the largest.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    val_loss: float


def fit_probe(features, labels, task, val_features, val_labels, *, class_weights=None, strengths=STRENGTHS):
    """Fit a linear model to features, with the penalty that validates best.

    Classes: logistic regression, multinomial or one for each label, by L-BFGS, every fit from where the one with the
    stronger penalty ended. Numbers: ridge regression in closed form. One thread computes, so that equal input gives
    equal bits on one machine, whatever its threads; numpy's and scipy's would stand in each other's way, besides.

    Args:
        features: float32 `(images, features)`. Where they are more than `MAX_VALUES` values, some images stand for all:
            always the same ones, spread evenly over the labels.
        labels: Their labels, encoded as `Task` says; an image without one, or with one of several missing, is left out.
        task: `Task`.
        val_features, val_labels: Likewise, of the images that choose the penalty.
        class_weights: float `(classes,)`: the weight of images of each class of a single-label task; None for 1.
        strengths: Weights of half the sum of squared kernel values, to be added to the mean loss; the kernel is the
            one for features that are centred and divided by the root mean square of their lengths, so that a strength
            means the same for any backbone.

    Returns:
        `Probe`. Of strengths that validate alike, the largest.

    Raises:
        NoLabelError: If no training image has a label.

    Reference:
        Kornblith, Shlens & Le 2018, https://arxiv.org/abs/1805.08974, appendix: logistic regression by L-BFGS on fixed
        features, its L2 penalty chosen on validation images from a logarithmic grid, with warm starts.
    """
    known, val_known = _known(labels, task), _known(val_labels, task)
    if not known.any():
        raise NoLabelError(
            f"A probe needs labelled images: none of {len(labels)} for training has a label for a {task.kind} task. "
            "Label some, or leave the task out."
        )
    chosen = _spread(np.flatnonzero(known), labels, MAX_VALUES // features.shape[1])
    weights = np.ones(len(chosen)) if class_weights is None else np.asarray(class_weights, float)[labels[chosen]]
    with threadpool_limits(1, "blas"):
        basis = _Basis(features[chosen])
        scores, val_scores = basis.scores(features[chosen]), basis.scores(val_features[val_known])
        targets, val_targets = encode_targets(labels[chosen], task), encode_targets(val_labels[val_known], task)
        path = _Path(task, scores, targets, weights, basis.variances)
        best, stale = None, 0
        for strength in sorted(strengths, reverse=True):
            kernel, bias = path.fit(strength)
            val_loss = _mean_loss(task, _logits(val_scores, kernel, bias), val_targets)
            if best is None or val_loss < best[0] - PRECISION:
                best, stale = (val_loss, strength, kernel, bias), 0
            else:
                stale += 1
            if stale == PATIENCE:
                break
        val_loss, strength, kernel, bias = best
        return Probe(*basis.unfold(kernel, bias), strength, val_loss)


def _known(labels, task):
    """Return which images have all their labels: bool `(images,)`."""
    if task.kind == "regression":
        return np.isfinite(labels)
    return labels >= 0 if task.kind == "single_label" else (labels >= 0).all(axis=1)


def encode_targets(labels, task):
    """Return what the outputs are compared with: float64 `(images, num_outputs)`."""
    if task.kind == "single_label":
        return np.eye(len(task.classes))[labels]
    return labels.astype(np.float64) if task.kind == "multilabel" else ((labels - task.mean) / task.scale)[:, None]


def _spread(images, labels, most):
    """Return at most so many of some images, in order: every k-th along their labels, by chance among equal ones."""
    if len(images) <= most:
        return images
    shuffled = np.random.default_rng(0).permutation(images)
    if labels.ndim == 1:
        shuffled = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return np.sort(shuffled[np.arange(most) * len(shuffled) // most])


class _Basis:
    """The principal axes of features, after centring and division by the root mean square of their lengths.

    Along them the features don't correlate: ridge regression becomes a division, and L-BFGS can be told how steep the
    loss is along each. And there are never more of them than images.

    Attributes:
        variances: Along each axis, float64 `(axes,)`; they sum to 1.
    """

    def __init__(self, features):
        count, width = features.shape
        self._mean = features.mean(axis=0, dtype=np.float64)
        if width > count:
            centred = features - self._mean
            products = centred @ centred.T
        else:
            products = sum(centred.T @ centred for centred in self._centred(features))
        length = float(np.sqrt(np.trace(products) / count)) or 1.0
        variances, vectors = np.linalg.eigh(products / (count * length**2))
        kept = variances > LEAST_VARIANCE
        self.variances, vectors = variances[kept], vectors[:, kept]
        if width > count:
            vectors = centred.T @ vectors / (length * np.sqrt(count * self.variances))
        self._axes = vectors / length

    def _centred(self, features):
        """Yield centred features, float64, some rows at a time."""
        for start in range(0, len(features), CHUNK):
            yield features[start : start + CHUNK] - self._mean

    def scores(self, features):
        """Return features in these coordinates: float32 `(images, axes)`."""
        scores = [(centred @ self._axes).astype(np.float32) for centred in self._centred(features)]
        return np.concatenate([np.zeros((0, len(self.variances)), np.float32), *scores])

    def unfold(self, kernel, bias):
        """Return kernel and bias for the features as they were, float32."""
        kernel = self._axes @ kernel
        return kernel.astype(np.float32), (bias - self._mean @ kernel).astype(np.float32)


class _Path:
    """Fits of one set of images, every one from where the one before it ended.

    Args:
        task: `Task`.
        scores: float32 `(images, axes)`, see `_Basis`.
        targets: float64 `(images, num_outputs)`.
        weights: float64 `(images,)`.
        variances: float64 `(axes,)`.
    """

    def __init__(self, task, scores, targets, weights, variances):
        self._task, self._scores, self._targets, self._variances = task, scores, targets, variances
        self._shares = (weights / weights.sum())[:, None]
        self._bias_strength = BIAS_STRENGTH / len(scores)
        self._found = np.zeros((len(variances) + 1, targets.shape[1]))  # the kernel's rows, then the bias
        if task.kind != "regression":
            least = 10 * self._bias_strength  # about what the penalty leaves a class without images
            shares = np.clip((self._shares * targets).sum(axis=0), least, 1 - least)
            self._found[-1] = np.log(shares) if task.kind == "single_label" else logit(shares)

    def fit(self, strength):
        """Return kernel `(axes, num_outputs)` and bias `(num_outputs,)`, float64, for a penalty of that weight."""
        if self._task.kind == "regression":
            return self._ridge(strength)
        self._found = self._minimize(np.append(np.full(len(self._variances), strength), self._bias_strength)[:, None])
        return self._found[:-1], self._found[-1]

    def _ridge(self, strength):
        bias = (self._shares * self._targets).sum(axis=0)
        products = self._scores.T @ (self._shares * (self._targets - bias)).astype(np.float32)
        return products / (self._variances[:, None] + strength / 2), bias

    def _minimize(self, strengths):
        """Minimize the penalized loss, in steps that are long where the loss is flat."""
        _, _, p = self._loss(self._found)
        steepness = (self._shares * p * (1 - p)).sum(axis=0)
        unit = 1 / np.sqrt(np.append(self._variances, 1.0)[:, None] * steepness + strengths)

        def penalized(flat):
            point = unit * flat.reshape(unit.shape)
            loss, gradient, _ = self._loss(point)
            penalty = 0.5 * float((strengths * point**2).sum())
            return loss + penalty, (unit * (gradient + strengths * point)).ravel()

        start = (self._found / unit).ravel()
        options = {"ftol": PRECISION, "gtol": 0, "maxiter": MAX_ITERATIONS}
        return unit * minimize(penalized, start, method="L-BFGS-B", jac=True, options=options).x.reshape(unit.shape)

    def _loss(self, point):
        """Return mean loss, its gradient, and the probabilities `(images, num_outputs)`."""
        losses, p = LOSSES[self._task.kind](_logits(self._scores, point[:-1], point[-1]), self._targets)
        errors = self._shares * (p - self._targets)
        gradient = np.vstack([self._scores.T @ errors.astype(np.float32), errors.sum(axis=0)])
        return float(losses @ self._shares[:, 0]), gradient, p


def _logits(scores, kernel, bias):
    return (scores @ kernel.astype(np.float32)).astype(np.float64) + bias


def _cross_entropy(logits, targets):
    log_p = log_softmax(logits, axis=1)
    return -(targets * log_p).sum(axis=1), np.exp(log_p)


def _cross_entropies(logits, targets):
    return -log_expit(np.where(targets > 0, logits, -logits)).sum(axis=1), expit(logits)


def _squared_error(logits, targets):
    return ((logits - targets) ** 2).sum(axis=1), logits


# By kind of task: functions of logits and targets to the loss of each image and to probabilities (or numbers).
LOSSES = {"single_label": _cross_entropy, "multilabel": _cross_entropies, "regression": _squared_error}


def _mean_loss(task, logits, targets):
    if not len(logits):
        return np.nan
    loss = float(LOSSES[task.kind](logits, targets)[0].mean())
    return loss / len(task.classes) if task.kind == "multilabel" else loss
