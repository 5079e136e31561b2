"""What is explained, found in a model: the logit of a class, the feature map of a layer."""

import keras
import numpy as np

from tlkit.errors import TlkitError, did_you_mean
from tlkit.models.assemble import logits_of


def logits_tensor(model, tasks, task_name):
    """Return the KerasTensor of a task's logits `(batch, num_outputs)`.

    Raises:
        TlkitError: If there is no such task, or the model does not end in logits as `assemble` makes them.
    """
    if task_name not in tasks:
        raise TlkitError(
            f"task: expected one of {', '.join(tasks)}. Received: {task_name!r}.{did_you_mean(task_name, tasks)}"
        )
    return logits_of(model, {task_name: tasks[task_name]})[task_name]


def feature_map(model, ends, layer=None):
    """Return the KerasTensor of a layer's feature map `(batch, height, width, channels)`.

    Args:
        model: `keras.Model`.
        ends: Names of its block ends, first block first.
        layer: Name of a layer; None for the last block end.

    Raises:
        TlkitError: If there is no such layer, or what it computes is no feature map.
    """
    name = ends[-1] if layer is None else layer
    found = {operation.name: operation for operation in model.operations}
    if name not in found:
        raise TlkitError(
            f"layer: {model.name} has none called {name!r}.{did_you_mean(name, found)} "
            f"Its block ends are {', '.join(ends)}."
        )
    tensor = found[name].output
    if len(getattr(tensor, "shape", ())) != 4:
        shape = getattr(tensor, "shape", "several tensors")
        raise TlkitError(
            f"layer: {name!r} must give a feature map (batch, height, width, channels). Received: {shape}. "
            f"Block ends do: {', '.join(ends)}."
        )
    return tensor


# Activations that let through what is positive and hold back, more or less, what is not.
GATES = ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "hard_silu", "mish")
GATE_OPERATIONS = ("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Gelu", "Silu", "HardSilu", "Mish")
GATE_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)


def is_gate(operation):
    """Tell whether an operation is such an activation and nothing else."""
    if isinstance(operation, keras.layers.Activation):
        return is_gate_function(operation.activation)
    return isinstance(operation, GATE_LAYERS) or type(operation).__name__ in GATE_OPERATIONS


def is_gate_function(function):
    """Tell whether a function, such as a layer's `activation`, is one of them."""
    return any(function is keras.activations.get(name) for name in GATES)


def before_gate(model, tensor):
    """Return what goes into the activation that a feature map comes from, or the map itself where it is from no other.

    There nothing is cut off: neither is a channel silent, nor do all strong ones stop at ReLU6's 6.
    """
    for operation in model.operations:
        if operation.output is tensor and is_gate(operation):
            return operation.input
    return tensor


def as_batch(images, model):
    """Return images as the model takes them, float32 `(n, height, width, 3)`, checked for their size."""
    images = np.asarray(images)
    if images.shape[1:] != model.input_shape[1:]:
        raise TlkitError(f"images: expected {('n', *model.input_shape[1:])}. Received: {images.shape}")
    return images.astype(np.float32)


def log_odds(logits, index, kind):
    """Return how sure a model is of a class, as a figure that does not saturate as its probability does.

    Args:
        logits: float array `(n, num_outputs)` of a task.
        index: Position of the class.
        kind: The task's kind.

    Returns:
        float64 `(n,)`: the logarithm of p / (1 - p); for regression the logit itself.
    """
    logits = np.asarray(logits, np.float64)
    own = logits[:, index]
    if kind != "single_label" or logits.shape[1] == 1:
        return own
    others = np.delete(logits, index, axis=1)
    highest = others.max(axis=1)
    return own - highest - np.log(np.exp(others - highest[:, None]).sum(axis=1))
