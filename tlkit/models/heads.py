"""Heads: functions from a feature map to logits.

A head is any function of that kind; `make_head` writes the usual ones. What Keras lacks is written with `keras.ops`, so
that a saved model needs nothing but Keras.
"""

import keras
from keras import layers, ops

from tlkit.errors import TlkitError, did_you_mean

GEM_POWER = 3.0  # what the paper's learned power starts from and stays near
GEM_FLOOR = 1e-6  # powers need positive features; some backbones (ConvNeXt, swish) have negative ones


def average_pooling(features):
    """Average each channel over the image."""
    return layers.GlobalAveragePooling2D(name="pool_avg")(features)


def max_pooling(features):
    """Take each channel's largest value over the image."""
    return layers.GlobalMaxPooling2D(name="pool_max")(features)


def average_and_max_pooling(features):
    """Put both next to each other: `(batch, 2 * channels)`."""
    return layers.Concatenate(name="pool")([average_pooling(features), max_pooling(features)])


def gem_pooling(features):
    """Pool by the generalized mean of a fixed power: between the average (1) and the maximum (infinity).

    Reference:
        Radenović, Tolias & Chum 2017, https://arxiv.org/abs/1711.02512, equation 3.
    """
    powered = ops.power(ops.maximum(features, GEM_FLOOR), GEM_POWER)
    return ops.power(ops.mean(powered, axis=(1, 2)), 1.0 / GEM_POWER)


POOLINGS = {"avg": average_pooling, "max": max_pooling, "avg+max": average_and_max_pooling, "gem": gem_pooling}


def make_head(tasks, *, pooling="avg", dropout=0.2, hidden=(), l1=0.0, l2=0.0):
    """Make a head: pooling, hidden layers, dropout, one dense layer per task.

    Args:
        tasks: `dict` from name to `Task`.
        pooling: `"avg"`, `"max"`, `"avg+max"` or `"gem"`.
        dropout: Fraction in [0, 1) dropped before every dense layer.
        hidden: Widths of the hidden (ReLU) layers, first one first.
        l1: Weight of the sum of absolute kernel values in the loss, at least 0.
        l2: Weight of the sum of squared kernel values in the loss, at least 0.

    Returns:
        Function from a feature map `(batch, height, width, channels)` to logits `(batch, num_outputs)`, or to a `dict`
        of them where there are several tasks.

    Raises:
        TlkitError: If a value is out of its range.
    """
    _check(pooling, dropout, hidden, l1, l2)

    def dense(width, name, activation=None):
        regularizer = keras.regularizers.L1L2(l1, l2) if l1 or l2 else None
        return layers.Dense(width, activation=activation, kernel_regularizer=regularizer, name=name)

    def head(features):
        x = POOLINGS[pooling](features)
        for number, width in enumerate(hidden, start=1):
            x = layers.Dropout(dropout, name=f"hidden{number}_dropout")(x) if dropout else x
            x = dense(width, f"hidden{number}", "relu")(x)
        x = layers.Dropout(dropout, name="head_dropout")(x) if dropout else x
        logits = {name: dense(task.num_outputs, f"{name}_logits")(x) for name, task in tasks.items()}
        return logits if len(logits) > 1 else next(iter(logits.values()))

    return head


def _check(pooling, dropout, hidden, l1, l2):
    if pooling not in POOLINGS:
        raise TlkitError(
            f"`pooling` must be one of {', '.join(POOLINGS)}. Received: {pooling!r}.{did_you_mean(pooling, POOLINGS)}"
        )
    if not 0 <= dropout < 1:
        raise TlkitError(f"`dropout` must be in [0, 1). Received: {dropout}.")
    if any(width < 1 for width in hidden):
        raise TlkitError(f"`hidden` must hold widths of at least 1. Received: {list(hidden)}.")
    if l1 < 0 or l2 < 0:
        raise TlkitError(f"`l1` and `l2` must be at least 0. Received: l1={l1}, l2={l2}.")
