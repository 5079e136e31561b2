"""What a stage of training takes in memory, predicted from the graph alone: nothing runs.

It is meant for a CPU, where the system kills whoever takes too much; a GPU says so, and is listened to.
"""

import math
from dataclasses import dataclass

import keras
from keras import layers

from tlkit.models.assemble import cut
from tlkit.training.stage import unfrozen_blocks

FLOAT = 4  # bytes
SLOTS = {"adam": 2, "adamw": 2, "sgd": 1, "rmsprop": 1}  # of an optimizer, as multiples of what trains
GRAPH = 2**20  # of an operation of the model, once its steps are traced
IN_FLIGHT = 3  # copies of an operation's inputs and outputs that are there besides what is kept, while it computes
COPIES = 3  # of what a stage may change: where it may go back to, the best so far, the stage's best
FOLDED = 2  # copies of frozen weights in the graph that they are constants of
# Whose outputs, or inputs, its gradient doesn't need.
PASSING = (
    layers.Add,
    layers.AveragePooling2D,
    layers.Concatenate,
    layers.Flatten,
    layers.GlobalAveragePooling2D,
    layers.InputLayer,
    layers.Rescaling,
    layers.Reshape,
    layers.Subtract,
    layers.ZeroPadding2D,
)


@dataclass(frozen=True)
class Footprint:
    """Bytes that a stage takes beyond what its model takes once it is built.

    Attributes:
        fixed: Of what doesn't depend on how many images are computed at once.
        per_image: Of each image that is computed at once in training.
        accumulated: Of the gradients that are added up where a batch is computed in parts.
        per_frozen_image: Of each image that is computed at once by frozen layers.
    """

    fixed: int
    per_image: int
    accumulated: int
    per_frozen_image: int

    def bytes(self, rows, frozen_rows, batch_size):
        """Return the most that is taken at once, with so many images computed at once."""
        training = rows * self.per_image + (self.accumulated if rows < batch_size else 0)
        return self.fixed + max(training, frozen_rows * self.per_frozen_image)


def footprint(model, stage, *, ends, tasks, craft):
    """Return the `Footprint` of a stage.

    Args:
        model: What `tlkit.models.assemble.assemble` returns.
        stage: The `Stage`.
        ends: Names of the model's block ends.
        tasks: Dict of task name to `Task`.
        craft: `Craft`.
    """
    prefix, suffix = cut(model, ends, unfrozen_blocks(stage, ends), tasks)
    norms = craft.batch_norm == "train"
    kernels = _bytes_of(suffix.variables)
    states = SLOTS[stage.optimizer] + (stage.accumulate > 1)
    copies = COPIES + craft.average_best + bool(craft.ema) * 2 + bool(craft.l2_sp)
    fixed = GRAPH * len(model.operations) + kernels * (1 + 2 * states + copies)
    fixed += FOLDED * _bytes_of(prefix.variables) if prefix else 0
    scale = (_side(stage, model) / model.input_shape[1]) ** 2
    share = 0.5 if craft.precision == "bfloat16" else 1.0
    per_image = scale * share * (_kept(suffix, norms) + IN_FLIGHT * _largest(suffix)) + _values(model.inputs) * FLOAT
    frozen = IN_FLIGHT * _largest(prefix) if prefix else 0
    return Footprint(fixed, int(per_image), kernels, frozen)


def _side(stage, model):
    return model.input_shape[1] if stage.image_size == "full" else stage.image_size


def _bytes_of(variables):
    return FLOAT * sum(math.prod(variable.shape) for variable in variables)


def _kept(model, norms):
    """Return the bytes of what is kept of one image until its gradient is known.

    A layer with weights keeps its inputs, an activation its outputs, and a normalization its inputs only if it trains.
    Whatever is kept for two is kept once.
    """
    kept = {}
    for operation in model.operations:
        if isinstance(operation, PASSING):
            continue
        if isinstance(operation, layers.BatchNormalization):
            tensors = operation.input if norms else []
        elif getattr(operation, "trainable_variables", ()) or isinstance(operation, layers.Multiply):
            tensors = operation.input
        else:
            tensors = operation.output
        kept |= {id(tensor): tensor for tensor in keras.tree.flatten(tensors)}
    return FLOAT * _values(list(kept.values()))


def _largest(model):
    """Return the bytes of the inputs and outputs of the operation that has most of them, for one image."""
    return FLOAT * max(_values([operation.input, operation.output]) for operation in model.operations)


def _values(tensors):
    return sum(math.prod(tensor.shape[1:]) for tensor in keras.tree.flatten(tensors))
