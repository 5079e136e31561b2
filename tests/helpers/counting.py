"""What the tests of the classic nets count in a model."""

import math

from keras import layers


def trainable_parameters(model):
    """Return the number of trainable values; `model.count_params()` has BatchNorm's moving averages, too."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def depth(model):
    """Return the number of convolutions and dense layers, projections in shortcuts aside."""
    weighty = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.Dense)]
    return sum("shortcut" not in layer.name for layer in weighty)


def multiply_accumulates(model):
    """Return those of the convolutions and dense layers, for one image."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D | layers.Dense):
            total += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    return total
