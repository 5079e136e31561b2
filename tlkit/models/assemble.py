"""Backbone and head to one model, and that model cut in two: what is frozen and what trains.

The layers of the parts are the layers of the model: training the suffix trains the model. A model can be cut at its
block ends, and after the pooling with which most heads begin: there is nothing in that to train, and what comes out of
it is some fifty times smaller.
"""

import itertools

import keras
from keras import layers

from tlkit.errors import TlkitError

BATCH_NORMS = ("frozen", "train")
# Operations that are no layers, such as those of `keras.ops`, are fixed, too.
FIXED_LAYERS = (
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.AveragePooling2D,
    layers.MaxPooling2D,
    layers.Concatenate,
    layers.Flatten,
    layers.ReLU,
)


def assemble(backbone, head, tasks):
    """Put a head on a backbone.

    Args:
        backbone: `keras.Model` to a feature map.
        head: Function from the feature map (a KerasTensor) to logits `(batch, num_outputs)`, or, for several tasks,
            to a `dict` of them by the task's name.
        tasks: `dict` from name to `Task`.

    Returns:
        `keras.Model`, flat and uncompiled, with the backbone's name: image to probabilities `(batch, num_outputs)`, or
        to a `dict` of them for several tasks. A task's probabilities come from the layer that has its name.

    Raises:
        TlkitError: If the head returns something else than logits of the right width.
    """
    taken = {operation.name for operation in backbone.operations}
    for name in tasks:
        if name in taken:
            raise TlkitError(
                f"A task can't be called {name!r}: {backbone.name} has a layer of that name. Rename the task."
            )
    logits = _check_logits(head(backbone.output), tasks)
    outputs = {name: layers.Activation("softmax", name=name)(logits[name]) for name in tasks}
    outputs = outputs if len(tasks) > 1 else next(iter(outputs.values()))
    return keras.Model(backbone.inputs[0], outputs, name=backbone.name)


def _check_logits(logits, tasks):
    """Return the logits as a `dict`, in the order of `tasks`."""
    if len(tasks) == 1 and not isinstance(logits, dict):
        logits = {next(iter(tasks)): logits}
    if not isinstance(logits, dict) or set(logits) != set(tasks):
        received = sorted(logits) if isinstance(logits, dict) else type(logits).__name__
        raise TlkitError(f"The head must return a dict of logits for {sorted(tasks)}. Received: {received}.")
    for name, task in tasks.items():
        shape = getattr(logits[name], "shape", None)
        if not keras.utils.is_keras_tensor(logits[name]) or tuple(shape) != (None, task.num_outputs):
            raise TlkitError(
                f"The head must return logits of shape (None, {task.num_outputs}) for task {name!r}, one per class. "
                f"Received: {type(logits[name]).__name__} of shape {shape}."
            )
    return {name: logits[name] for name in tasks}


def logits_of(model, tasks):
    """Return `dict` from task to the KerasTensor of its logits `(batch, num_outputs)`.

    Raises:
        TlkitError: If the model does not end in an Activation layer per task, called like the task.
    """
    named = {operation.name: operation for operation in model.operations}
    for name in tasks:
        if not isinstance(named.get(name), layers.Activation):
            raise TlkitError(
                f"Model {model.name!r} must end in an Activation layer called {name!r}, on that task's logits."
            )
    return {name: model.get_layer(name).input for name in tasks}


def cut(model, ends, unfreeze, tasks):
    """Cut a model at a block end into a frozen prefix and a suffix that trains.

    Args:
        model: `keras.Model` that `assemble` made, or one of that form.
        ends: Names of its block ends, first block first.
        unfreeze: Number of blocks in the suffix, counted from the head; 0 leaves it the head alone.
        tasks: `dict` from name to `Task`.

    Returns:
        `(prefix, suffix)`. Prefix: `keras.Model` from image to block end, or None where every block is unfrozen; it
        computes in inference mode even when called with `training=True`, because Dropout drops also where it is frozen.
        Suffix: `keras.Model` from block end (or image) to a `dict` of logits `(batch, num_outputs)`.

    Raises:
        TlkitError: If the block end does not separate the model's beginning from its end.
    """
    logits = logits_of(model, tasks)
    if unfreeze >= len(ends):
        return None, keras.Model(model.inputs[0], logits, name=f"{model.name}_suffix")
    end = _end(model, ends[-1 - unfreeze])
    if unfreeze == 0:
        end = _after_pooling(model, end, logits)
    try:
        suffix = keras.Model(end, logits, name=f"{model.name}_suffix")
    except ValueError as error:
        raise TlkitError(
            f"Layer {ends[-1 - unfreeze]!r} of {model.name} is no block end: something after it also depends on "
            "something before it. Name a layer that everything passes through."
        ) from error
    return _Frozen(model.inputs[0], end, name=f"{model.name}_prefix"), suffix


def segments(model, ends, tasks):
    """Take a model apart at every place where it can be cut.

    Args:
        model, ends, tasks: As for `cut`.

    Returns:
        List of `keras.Model`s that compute in inference mode: image to first block end, block end to block end, and
        from where `cut` cuts for `unfreeze=0` to the model's outputs. `cut` with `unfreeze=n` gives, as prefix, the
        first `cut_position(model, ends, n, tasks)` of them.
    """
    points = [model.inputs[0], *_cut_points(model, ends, tasks), model.output]
    return [_Frozen(start, end, name=f"{model.name}_{n}") for n, (start, end) in enumerate(itertools.pairwise(points))]


def cut_position(model, ends, unfreeze, tasks):
    """Return how many of the `segments` are frozen when `unfreeze` blocks train."""
    if unfreeze == 0:
        return len(_cut_points(model, ends, tasks))
    return max(0, len(ends) - unfreeze)


def _cut_points(model, ends, tasks):
    points = [_end(model, name) for name in ends]
    pooled = _after_pooling(model, points[-1], logits_of(model, tasks))
    return points if pooled is points[-1] else [*points, pooled]


def _after_pooling(model, end, logits):
    """Return the last tensor that all logits pass through and that only fixed functions of `end` lead to."""
    fixed, candidates = {id(end)}, [end]
    for operation in model.operations:
        if not _is_fixed(operation):
            continue
        if all(id(tensor) in fixed for tensor in keras.tree.flatten(operation.input)):
            fixed.add(id(operation.output))
            candidates.append(operation.output)
    return next(tensor for tensor in reversed(candidates) if _separates(tensor, logits))


def _is_fixed(operation):
    """Tell whether an operation has nothing to learn and computes the same in training and in inference."""
    if isinstance(operation, layers.InputLayer):
        return False
    return isinstance(operation, FIXED_LAYERS) or not isinstance(operation, layers.Layer)


def _separates(tensor, logits):
    if any(tensor is output for output in logits.values()):
        return False  # a softmax alone has nothing to train
    try:
        return bool(keras.Model(tensor, logits).weights)
    except ValueError:
        return False


class _Frozen(keras.Model):
    """A model that is always called in inference mode. Only ever computed with, never saved."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def freeze(model, ends, unfreeze, batch_norm="frozen"):
    """Set `trainable` on every layer, as the cut at the same place needs it; compile afterwards.

    Args:
        model: `keras.Model` that `assemble` made, or one of that form.
        ends: Names of its block ends, first block first.
        unfreeze: Number of blocks that train, counted from the head.
        batch_norm: `"frozen"` keeps the backbone's BatchNormalization in inference mode also where its block trains
            (in `fit`, only `trainable=False` does that); `"train"` lets it train with its block. The head's own always
            trains.

    Raises:
        TlkitError: If `batch_norm` is unknown.
    """
    if batch_norm not in BATCH_NORMS:
        raise TlkitError(f"`batch_norm` must be one of {', '.join(BATCH_NORMS)}. Received: {batch_norm!r}.")
    model.trainable = True
    frozen = () if unfreeze >= len(ends) else _layers_up_to(model, _end(model, ends[-1 - unfreeze]))
    backbone = _layers_up_to(model, _end(model, ends[-1]))
    frozen, backbone = set(map(id, frozen)), set(map(id, backbone))
    for layer in model.layers:
        for part in _with_sublayers(layer):
            held = batch_norm == "frozen" and id(layer) in backbone and isinstance(part, layers.BatchNormalization)
            part.trainable = id(layer) not in frozen and not held


def _with_sublayers(layer):
    """Yield a layer and, of a nested model, every layer in it, outermost first.

    Each has to be set by itself: on TensorFlow, setting `trainable` to what it is already does not reach the sublayers.
    """
    yield layer
    for sublayer in getattr(layer, "layers", ()):
        yield from _with_sublayers(sublayer)


def _end(model, name):
    """Return the output of the operation of that name."""
    for operation in model.operations:
        if operation.name == name:
            return operation.output
    raise TlkitError(f"Model {model.name!r} has no layer {name!r}.")


def _layers_up_to(model, end):
    return keras.Model(model.inputs[0], end).layers
