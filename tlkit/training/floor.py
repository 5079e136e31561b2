"""The floor: a linear probe of the frozen features, which is where the head begins and what training has to beat."""

import math

import numpy as np

from tlkit.models.assemble import probe_layers
from tlkit.training.probe import MAX_VALUES, fit_probe


def fit_floor(suffix, tasks, features, numbers, class_weights):
    """Fit a linear model of each task on the features at a stage's cut, and put them into the head.

    Args:
        suffix: `keras.Model` from the cut to a dict of logits.
        tasks: Dict of task name to `Task`.
        features: `tlkit.training.features.Features`, at that cut.
        numbers: The training views of which features are taken.
        class_weights: Dict of single-label task to float `(classes,)`.

    Returns:
        Dict of task to `tlkit.training.probe.Probe`; None where the head isn't linear.
    """
    layers = probe_layers(suffix, tasks)
    if layers is None:
        return None
    most = MAX_VALUES // math.prod(suffix.input_shape[1:])
    rows, labels = _joined((batch.features, batch.labels) for batch in features.in_order(numbers, most))
    val_rows, val_labels = _joined(features.validation())
    probes = {}
    for name, task in tasks.items():
        weights = class_weights.get(name)
        probe = fit_probe(rows, labels[name], task, val_rows, val_labels[name], class_weights=weights)
        constraint = layers[name].kernel_constraint
        layers[name].kernel.assign(constraint(probe.kernel) if constraint else probe.kernel)
        layers[name].bias.assign(probe.bias)
        probes[name] = probe
    return probes


def _joined(batches):
    rows, labels = zip(*batches, strict=True)
    flat = np.concatenate([batch.reshape(len(batch), -1) for batch in rows])
    return flat, {name: np.concatenate([of_batch[name] for of_batch in labels]) for name in labels[0]}
