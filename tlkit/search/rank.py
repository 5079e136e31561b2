"""Which backbone's features suit the labels: the figures of each, their order, and what is not worth its cost."""

from dataclasses import dataclass, field

import numpy as np

from tlkit.data.labels import labelled
from tlkit.evaluation.compare import SIGNIFICANT, figure, holm, paired_difference
from tlkit.evaluation.metrics import headline_metric, split_metrics
from tlkit.search.evidence import log_evidence
from tlkit.search.probes import logistic_probe, ridge_probe
from tlkit.training.probe import encode_targets


@dataclass(frozen=True)
class Suitability:
    """How well a backbone's frozen features tell the labels, and what it costs.

    Attributes:
        backbone: Its name.
        figures: Dict of task to `(figure, interval)` of the cross-validated logistic probe (ridge, for numbers): the
            task's headline figure and its 95 % interval.
        loss: Its mean loss, summed over the tasks, as in `metrics.json`.
        ridge: Dict of task to the figure of cross-validated ridge regression.
        log_evidence: LogME, the mean over the tasks.
        image_seconds: Seconds that the backbone takes for an image here.
        parameters: Number of its parameters.
        seconds: Seconds that all of this took, the feature pass included.
        predictions: Dict of task to the probe's predictions `(n, outputs)`.
    """

    backbone: str
    figures: dict
    loss: float
    ridge: dict
    log_evidence: float
    image_seconds: float
    parameters: int
    seconds: float
    predictions: dict = field(repr=False)


@dataclass(frozen=True)
class Place:
    """A backbone's place in the ranking.

    Attributes:
        suitability: Its `Suitability`.
        on_front: Whether none of the others is both at least as good and at least as fast, and better in one of them.
        p: Of no difference to the first, corrected after Holm; the smallest over the tasks. None for the first.
        gain: How much better than the first it is, in the first task's figure: below 0 if it is worse. None for the
            first.
        gain_interval: Its paired 95 % interval.
    """

    suitability: Suitability
    on_front: bool
    p: float | None = None
    gain: float | None = None
    gain_interval: list | None = None

    @property
    def as_good(self):
        """Whether it can't be told from the first, or is the first."""
        return self.p is None or self.p >= SIGNIFICANT


def judge(features, labels, tasks, fold):
    """Return the figures of a backbone: all of a `Suitability` that follows from features and labels.

    Args:
        features: float32 `(n, width)`.
        labels: Dict of task to labels `(n, ...)`.
        tasks: Dict of name to `Task`.
        fold: int array `(n,)`.
    """
    predictions = {name: logistic_probe(features, labels[name], task, fold) for name, task in tasks.items()}
    metrics = split_metrics(labels, predictions, tasks, used_for=[])
    ridge = {name: ridge_probe(features, labels[name], task, fold) for name, task in tasks.items()}
    evidence = []
    for name, task in tasks.items():
        known = labelled(labels[name])
        evidence.append(log_evidence(features[known], encode_targets(labels[name][known], task)))
    return {
        "figures": {
            name: tuple(metrics["tasks"][name][key] for key in headline_metric(task.kind))
            for name, task in tasks.items()
        },
        "loss": metrics["loss"],
        "ridge": {name: figure(labels[name], ridge[name], task)[0] for name, task in tasks.items()},
        "log_evidence": float(np.mean(evidence)),
        "predictions": predictions,
    }


def rank(candidates, labels, tasks):
    """Put candidates into order, best first.

    One task: by its figure, and by the loss among equals. Several: by the loss, in which all of them count.

    Args:
        candidates: List of `Suitability`, of the same images.
        labels, tasks: As for `judge`.

    Returns:
        List of `Place`.
    """
    order = sorted(candidates, key=lambda one: one.loss)
    if len(tasks) == 1 and all(_figure(one) is not None for one in order):
        order.sort(key=lambda one: -_goodness(one, tasks))
    first, *others = order
    found = [
        {
            name: paired_difference(labels[name], first.predictions[name], one.predictions[name], task)
            for name, task in tasks.items()
        }
        for one in others
    ]
    known = [difference.p for differences in found for difference in differences.values() if difference.p is not None]
    corrected = iter(holm(known))
    places = [Place(first, _on_front(first, order, tasks))]
    for one, differences in zip(others, found, strict=True):
        own = [next(corrected) for difference in differences.values() if difference.p is not None]
        head = next(iter(differences.values()))
        places.append(Place(one, _on_front(one, order, tasks), min(own, default=1.0), head.gain, head.interval))
    return places


def _goodness(candidate, tasks):
    """Return what is high for a good candidate: the figure of the one task, else the loss turned around."""
    value = _figure(candidate)
    if len(tasks) > 1 or value is None:
        return -candidate.loss
    return -value if next(iter(tasks.values())).kind == "regression" else value


def _figure(candidate):
    """Return the first task's figure; None where nothing can be said, as of the ranking of a label that all have."""
    return next(iter(candidate.figures.values()))[0]


def _on_front(one, candidates, tasks):
    own = (_goodness(one, tasks), -one.image_seconds)
    for other in candidates:
        theirs = (_goodness(other, tasks), -other.image_seconds)
        if theirs != own and all(t >= o for t, o in zip(theirs, own, strict=True)):
            return False
    return True
