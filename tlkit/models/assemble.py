"""Backbone and head to one model, and that model cut in two: what is frozen and what trains.

The layers of the parts are the layers of the model: training the suffix trains the model. A model can be cut at its
block ends, and after the pooling with which most heads begin: there is nothing in that to train, and what comes out of
it is some fifty times smaller.
"""

import itertools

import keras
import numpy as np
from keras import layers

from tlkit.errors import TlkitError

BATCH_NORMS = ("frozen", "train")
ACTIVATIONS = {"single_label": "softmax", "multilabel": "sigmoid"}
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
# What compute nothing in inference, on features that are flat already.
IDENTITIES = (
    layers.InputLayer,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.Flatten,
)


def assemble(backbone, head, tasks):
    """Put a head on a backbone.

    Args:
        backbone: `keras.Model` to a feature map.
        head: Function from the feature map (a KerasTensor) to logits `(batch, num_outputs)`, or, for several tasks,
            to a `dict` of them by the task's name.
        tasks: `dict` from name to `Task`.

    Returns:
        `keras.Model`, flat and uncompiled, with the backbone's name: image to predictions `(batch, num_outputs)`, or to
        a `dict` of them for several tasks. A task's predictions come from the layer that has its name: the softmax of
        its logits, for several labels their sigmoid, for a number its value, `logit * task.scale + task.mean`.

    Raises:
        TlkitError: If the head returns something else than logits of the right width, or a task has a layer's name.
    """
    logits = _check_logits(head(backbone.output), tasks)
    taken = {operation.name for operation in keras.Model(backbone.inputs[0], logits).operations}
    for name in tasks:
        if name in taken:
            raise TlkitError(
                f"A task can't be called {name!r}: {backbone.name} or its head has a layer of that name. "
                "Rename the task."
            )
    outputs = {name: output_layer(name, task)(logits[name]) for name, task in tasks.items()}
    outputs = outputs if len(tasks) > 1 else next(iter(outputs.values()))
    return keras.Model(backbone.inputs[0], outputs, name=backbone.name)


def output_layer(name, task):
    """Return the layer called `name` that turns a task's logits into its predictions."""
    if task.kind == "regression":
        return layers.Rescaling(scale=float(task.scale), offset=float(task.mean), name=name)
    return layers.Activation(ACTIVATIONS[task.kind], name=name)


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
                f"The head must return logits of shape (None, {task.num_outputs}) for task {name!r}, a {task.kind} "
                f"one. Received: {type(logits[name]).__name__} of shape {shape}."
            )
    return {name: logits[name] for name in tasks}


def logits_of(model, tasks):
    """Return `dict` from task to the KerasTensor of its logits `(batch, num_outputs)`.

    Raises:
        TlkitError: If the model does not end in one layer per task as `assemble` makes them, called like the task.
    """
    named = {operation.name: operation for operation in model.operations}
    for name, task in tasks.items():
        layer = named.get(name)
        if not _is_output(layer, task):
            received = "no layer of that name" if layer is None else _describe_output(layer)
            raise TlkitError(
                f"Model {model.name!r} must end in {_describe_output(output_layer(name, task))} called {name!r}, on "
                f"the logits of its {task.kind} task. Received: {received}."
            )
    return {name: model.get_layer(name).input for name in tasks}


def _is_output(layer, task):
    if task.kind == "regression":
        turned_back = isinstance(layer, layers.Rescaling) and np.array_equal(layer.scale, task.scale)
        return turned_back and np.array_equal(layer.offset, task.mean)
    return isinstance(layer, layers.Activation) and layer.activation is keras.activations.get(ACTIVATIONS[task.kind])


def _describe_output(layer):
    if isinstance(layer, layers.Activation):
        return f"Activation({keras.activations.serialize(layer.activation)!r})"
    if isinstance(layer, layers.Rescaling):
        return f"Rescaling(scale={layer.scale}, offset={layer.offset})"
    return type(layer).__name__


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


def probe_layers(suffix, tasks):
    """Find the layers that a linear probe of the features can be put into.

    Args:
        suffix: What `cut` with `unfreeze=0` returns.
        tasks: `dict` from name to `Task`.

    Returns:
        `dict` from task to its `keras.layers.Dense`, of kernel `(features, num_outputs)` and bias, to which in
        inference the features come as they are; None if any task has a head of another kind.
    """
    found = {name: _only_dense(keras.Model(suffix.inputs[0], suffix.output[name])) for name in tasks}
    if None in found.values() or len(set(map(id, found.values()))) < len(tasks):
        return None
    return found


def _only_dense(path):
    """Return the one dense layer of a model that computes nothing else, or None."""
    computing = [operation for operation in path.operations if not isinstance(operation, IDENTITIES)]
    if len(path.input_shape) != 2 or len(computing) != 1 or not isinstance(computing[0], layers.Dense):
        return None
    (dense,) = computing
    return dense if dense.use_bias and dense.activation is keras.activations.linear else None


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
        return False  # what turns logits into predictions has nothing to train
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


def variables_by_block(model, ends):
    """Return a model's variables, block by block.

    Args:
        model: `keras.Model` that `assemble` made, or one of that form.
        ends: Names of its block ends, first block first.

    Returns:
        List of lists of `keras.Variable`: the head's, then those of the last block, up to the first block's.
    """
    blocks, below = [], set()
    for end in ends:
        up_to = _layers_up_to(model, _end(model, end))
        blocks.append([layer for layer in up_to if id(layer) not in below])
        below = {id(layer) for layer in up_to}
    blocks.append([layer for layer in model.layers if id(layer) not in below])
    return [[variable for layer in block for variable in layer.variables] for block in reversed(blocks)]
