"""What a stage of training takes in memory, predicted from the graph alone: nothing runs.

Measured: see the table "Memory" of `tests/benchmarks/README.md`, which `tests/benchmarks/footprint.py` prints.
"""

import math
from dataclasses import dataclass

import keras

from tlkit.models.assemble import cut
from tlkit.training.stage import unfrozen_blocks

FLOAT = 4  # bytes
SLOTS = {"adam": 2, "adamw": 2, "sgd": 1, "rmsprop": 1}  # of an optimizer, as multiples of what trains


@dataclass(frozen=True)
class Footprint:
    """Bytes that a stage takes beyond what its model takes once it is built.

    Attributes:
        fixed: Of what doesn't depend on how many images are computed at once.
        per_image: Of each image that is computed at once in training.
        accumulated: Of the gradients that are added up where a batch is computed in parts.
        frozen: Of frozen layers while they compute a whole batch, before the stage or beside it.
    """

    fixed: int
    per_image: int
    accumulated: int
    frozen: int

    def bytes(self, batch_size, parts=1):
        """Return the most that is taken at once with batches in so many parts."""
        training = math.ceil(batch_size / parts) * self.per_image + (self.accumulated if parts > 1 else 0)
        return self.fixed + max(training, self.frozen)


def footprint(model, stage, *, ends, tasks, batch_size, craft):
    """Return the `Footprint` of a stage.

    Args:
        model: What `tlkit.models.assemble.assemble` returns.
        stage: The `Stage`.
        ends: Names of the model's block ends.
        tasks: Dict of task name to `Task`.
        batch_size: Images of a batch.
        craft: `Craft`.
    """
    prefix, suffix = cut(model, ends, unfrozen_blocks(stage, ends), tasks)
    weights, trained = _bytes_of(suffix.variables), _bytes_of(suffix.variables)
    frozen = _bytes_of(prefix.variables) if prefix else 0
    print(
        "W",
        weights,
        "frozen",
        frozen,
        "acts",
        activations(suffix),
        "largest",
        largest(prefix) if prefix else 0,
        largest(suffix),
    )
    return


def _bytes_of(variables):
    return FLOAT * sum(math.prod(variable.shape) for variable in variables)


def activations(model):
    """Return the bytes of what all operations of a model put out for one image."""
    return FLOAT * sum(_values(operation.output) for operation in model.operations)


def largest(model):
    """Return the bytes of the largest input and output of one operation for one image."""
    return FLOAT * max(_values(operation.input) + _values(operation.output) for operation in model.operations)


def _values(tensors):
    return sum(math.prod(tensor.shape[1:]) for tensor in keras.tree.flatten(tensors))
