"""Temperature scaling: one number a task that makes probabilities as cautious as validation says they should be.

Logits divided by a temperature T keep their order, so no answer changes, only how sure it is. Validation sets are
small, and a temperature fitted on 40 images may well do harm. So the fit is drawn towards T = 1, and it is kept only if
it helps on images that it was not fitted on.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from tlkit.data.labels import labelled
from tlkit.evaluation.reliability import probability_figures, reliability

# How many images with labels as the model itself expects them are added to those of validation. The minimum of the sum
# is at T = 1 without any image, and where one class is told without fail the temperature still stays finite.
PRIOR_IMAGES = 40
# On fewer images the rule below does more harm than good: with 20 and 25 of the validation images of five folds of 341
# photos it cost 0.003 of log loss on average, with 30 less than 0.001, with 40 nothing.
FEWEST_IMAGES = 30
FOLDS = 10
# By how many standard errors of the paired difference the cross-fitted log loss must fall: the rule of Breiman et al.
# 1984 ("Classification and Regression Trees", section 3.4.3). Both numbers were chosen on forty runs on two data sets,
# of which the table "Calibration" of `tests/benchmarks/README.md` tells.
STANDARD_ERRORS = 1.0
HOTTEST = 20.0  # bound of the temperature, and of its inverse
SMALLEST = float(np.finfo(np.float32).tiny)
NEAREST_TO_ONE = float(1 - np.finfo(np.float32).epsneg)


@dataclass(frozen=True)
class Scaling:
    """What temperature scaling came to for one task.

    Attributes:
        temperature: What was fitted, None where nothing could be.
        kept: Whether it is applied.
        n: Labelled images that it was fitted on.
        before: Their mean log loss as it was.
        cross_fitted: Their mean log loss if each is scaled by a temperature fitted on the others.
        standard_error: Of the difference of the two.
        reason: Why it isn't kept; empty where it is.
    """

    temperature: float | None
    kept: bool
    n: int = 0
    before: float | None = None
    cross_fitted: float | None = None
    standard_error: float | None = None
    reason: str = ""

    @property
    def applied(self):
        """The temperature that the model has; 1.0 where it has none."""
        return self.temperature if self.kept else 1.0

    def describe(self, name):
        """Return the outcome for the task called `name` in one line."""
        what = "calibration" if name == "label" else f"calibration of {name}"
        if self.temperature is None:
            return f"{what}: none, {self.reason}"
        verdict = "kept" if self.kept else f"left out: {self.reason}"
        return (
            f"{what}: temperature {self.temperature:.2f} on {self.n} validation images; log loss {self.before:.3f} to "
            f"{self.cross_fitted:.3f} there, cross-fitted; {verdict}"
        )


def choose_temperature(labels, probabilities, task):
    """Fit a temperature, and decide by cross-fitting whether it is worth having.

    It is kept if the log loss of images that it was not fitted on, in ten folds, falls by at least one standard error
    of the difference. The folds are by position, so equal data give equal bits.

    Args:
        labels: As `Task` says; missing ones count for nothing.
        probabilities: float `(images, classes)` of the model as it was trained.
        task: The `Task`.

    Returns:
        `Scaling`.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    if task.kind == "regression":
        return Scaling(None, False, reason="numbers have no probability")
    known = labelled(labels)
    labels, logits = np.asarray(labels)[known], logits_from(np.asarray(probabilities)[known], task)
    n = len(labels)
    if n < FEWEST_IMAGES:
        return Scaling(None, False, n, reason=f"it takes {FEWEST_IMAGES} labelled validation images, and there are {n}")
    temperature = fit_temperature(labels, logits, task)
    before, after = log_losses(labels, logits, task), np.empty(n)
    fold = np.arange(n) % FOLDS
    for number in range(FOLDS):
        inside, outside = fold == number, fold != number
        of_others = fit_temperature(labels[outside], logits[outside], task, near=temperature)
        after[inside] = log_losses(labels[inside], logits[inside] / of_others, task)
    gain, error = float((before - after).mean()), float((before - after).std(ddof=1) / np.sqrt(n))
    kept = gain > 0 and gain >= STANDARD_ERRORS * error
    reason = "" if kept else "the gain may be chance" if gain > 0 else "it gains nothing"
    return Scaling(temperature, kept, n, float(before.mean()), float(after.mean()), error, reason)


def fit_temperature(labels, logits, task, prior_images=PRIOR_IMAGES, near=None):
    """Return the temperature of least log loss, drawn towards 1.

    The mean log loss is convex in 1 / T, so the minimum is where its derivative is zero: where the logit that the
    scaled probabilities expect is the mean logit of what is true. To the labels, `prior_images` images are added whose
    labels are as the unscaled model expects them; they alone would give 1.

    Args:
        labels: int `(images,)`, or `(images, classes)` of 0 and 1; none missing.
        logits: float `(images, classes)`.
        task: The `Task`, of classes.
        prior_images: How many images are added; 0 for the plain fit.
        near: A temperature near which it is looked for first: that is faster.

    Returns:
        Float in [1 / 20, 20].

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2; the pull towards 1 is ours.
    """
    share = len(labels) / (len(labels) + prior_images)
    target = share * _true_logits(labels, logits, task).mean() + (1 - share) * _expected(logits, 1.0, task).mean()

    @cache
    def slope(inverse):
        return float(_expected(logits, inverse, task).mean() - target)

    if near is not None and slope(0.8 / near) < 0 < slope(1.25 / near):
        return 1 / _root(slope, 0.8 / near, 1.25 / near)
    if slope(1 / HOTTEST) >= 0:
        return HOTTEST
    if slope(HOTTEST) <= 0:
        return 1 / HOTTEST
    return 1 / _root(slope, 1 / HOTTEST, HOTTEST)


def _root(slope, low, high):
    from scipy.optimize import brentq

    return brentq(slope, low, high, xtol=1e-7, rtol=1e-7)


def logits_from(probabilities, task):
    """Return logits that give these probabilities: for one label up to a constant for each image.

    Args:
        probabilities: float `(images, classes)`; zeros are taken for the smallest float32.
        task: The `Task`, of classes.
    """
    probabilities = np.clip(np.asarray(probabilities, np.float64), SMALLEST, None)
    if task.kind == "single_label":
        return np.log(probabilities)
    probabilities = np.minimum(probabilities, NEAREST_TO_ONE)
    return np.log(probabilities) - np.log1p(-probabilities)


def scaled(probabilities, temperature, task):
    """Return the probabilities of the same logits divided by a temperature; its inverse turns that back.

    Args:
        probabilities: float `(images, classes)`.
        temperature: Above 0.
        task: The `Task`, of classes.

    Returns:
        float32 `(images, classes)`.
    """
    from scipy.special import expit, softmax

    if temperature == 1:
        return np.asarray(probabilities, np.float32)
    logits = logits_from(probabilities, task) / temperature
    return (softmax(logits, axis=1) if task.kind == "single_label" else expit(logits)).astype(np.float32)


def log_losses(labels, logits, task):
    """Return the log loss of each image, float64 `(images,)`: the mean over the labels where there are several."""
    from scipy.special import logsumexp

    if task.kind == "single_label":
        return logsumexp(logits, axis=1) - _true_logits(labels, logits, task)
    return np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean(axis=1)


def before_and_after(labels, probabilities, scaling, task):
    """Return the figures of probabilities that have been scaled, and what they would be had they not.

    Args:
        labels: As `Task` says; missing ones count for nothing.
        probabilities: float `(images, classes)`, scaled.
        scaling: The `Scaling` that was applied.
        task: The `Task`, of classes.

    Returns:
        Dict of `before` and `after`, each with `log_loss`, `brier`, `ece` and `reliability`; None without any label.
    """
    known = labelled(labels)
    if not known.any():
        return None
    labels, after = np.asarray(labels)[known], np.asarray(probabilities)[known]
    versions = {"before": scaled(after, 1 / scaling.applied, task), "after": after}
    return {
        when: probability_figures(labels, of, task) | {"reliability": reliability(labels, of, task)}
        for when, of in versions.items()
    }


def _true_logits(labels, logits, task):
    """Return the logit of what is true of each image; of several labels the mean, 0 for one that it has not."""
    if task.kind == "single_label":
        return logits[np.arange(len(labels)), labels]
    return np.where(labels == 1, logits, 0).mean(axis=1)


def _expected(logits, inverse, task):
    """Return the logit that the probabilities at that inverse temperature expect of each image."""
    from scipy.special import expit

    if task.kind == "single_label":
        weights = np.exp(inverse * (logits - logits.max(axis=1, keepdims=True)))
        return np.einsum("ij,ij->i", weights, logits) / weights.sum(axis=1)
    return (expit(inverse * logits) * logits).mean(axis=1)
