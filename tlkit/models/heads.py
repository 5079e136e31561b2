"""Heads: functions from a feature map to logits.

A head is any function of that kind; `make_head` writes the usual ones. What Keras lacks is written with `keras.ops`, so
that a saved model needs nothing but Keras.
"""

import keras
from keras import layers, ops

from tlkit.errors import TlkitError, did_you_mean

GEM_POWER = 3.0  # what the paper's learned power starts from and stays near
GEM_FLOOR = 1e-6  # powers need positive features; some backbones (ConvNeXt, swish) have negative ones
LOGITS = ("linear", "cosine")
INITS = ("probe", "random", "zeros")
# Where the learned scale of cosines begins, as in Gidaris & Komodakis. With 1, cosines of 1 and -1 would give one of
# ten classes but 45 % of the probability.
COSINE_SCALE = 10.0
SMALLEST_SQUARE = 1e-12  # of a length; below it the gradient of a direction would be no number


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


def cosine_logits(features, num_classes, name):
    """Compare features with one learned vector per class: a learned scale times the cosine of the angle between them.

    The division by the vectors' lengths is part of the model, so cosines stay cosines whatever has changed the weights:
    a step, decay, averaging. Vectors and scale are what layers without bias make of a constant, 1.

    Args:
        features: KerasTensor `(batch, features)`.
        num_classes: Number of logits.
        name: Prefix of the layers' names.

    Returns:
        KerasTensor of logits `(batch, num_classes)`, each in [-scale, scale].

    Reference:
        Gidaris & Komodakis 2018, https://arxiv.org/abs/1804.09458: the scale is learned and begins at 10. Chen et al.
        2019, https://arxiv.org/abs/1904.04232 (Baseline++): for fine-tuning on few images.
    """
    one = ops.ones_like(features[:1, :1])
    vectors = layers.EinsumDense("ab,bcd->acd", (features.shape[-1], num_classes), name=f"{name}_vectors")(one)[0]
    begin = keras.initializers.Constant(COSINE_SCALE)
    scale = layers.EinsumDense("ab,b->ab", 1, kernel_initializer=begin, name=f"{name}_scale")(one)
    return scale * ops.matmul(_unit(features, axis=1), _unit(vectors, axis=0))


def _unit(x, axis):
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, SMALLEST_SQUARE))


POOLINGS = {"avg": average_pooling, "max": max_pooling, "avg+max": average_and_max_pooling, "gem": gem_pooling}


def make_head(
    tasks, *, pooling="avg", dropout=0.2, hidden=(), logits="linear", l1=0.0, l2=0.0, max_norm=0.0, init="random"
):
    """Make a head: pooling, hidden layers, dropout, one last layer per task.

    Args:
        tasks: `dict` from name to `Task`.
        pooling: `"avg"`, `"max"`, `"avg+max"` or `"gem"`.
        dropout: Fraction in [0, 1) dropped before every dense layer.
        hidden: Widths of the hidden (ReLU) layers, first one first.
        logits: `"linear"`: the last layers are dense. `"cosine"`: they are `cosine_logits`; those of regression tasks
            are dense all the same, since a number is no direction.
        l1: Weight of the sum of absolute kernel values of the dense layers in the loss, at least 0.
        l2: Weight of the sum of squared kernel values of the dense layers in the loss, at least 0.
        max_norm: Largest length of a dense unit's incoming weights, held after every step; 0 for any.
        init: How the last layers begin: `"random"`; `"zeros"`; or `"probe"`, which is random until training has fitted
            a probe (`tlkit.training.probe`).

    Returns:
        Function from a feature map `(batch, height, width, channels)` to logits `(batch, num_outputs)`, or to a `dict`
        of them where there are several tasks.

    Raises:
        TlkitError: If a value is out of its range, or a cosine is to begin at zero.

    Reference:
        Max-norm: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, section 5.1.
    """
    _check_choice("pooling", pooling, POOLINGS)
    _check_choice("logits", logits, LOGITS)
    _check_choice("init", init, INITS)
    _check_ranges(dropout, hidden, l1, l2, max_norm)
    if logits == "cosine" and init == "zeros":
        raise TlkitError('`init` can\'t be "zeros" where `logits` is "cosine": zero has no direction. Choose "random".')

    def dense(width, name, **settings):
        return layers.Dense(
            width,
            kernel_regularizer=keras.regularizers.L1L2(l1, l2) if l1 or l2 else None,
            kernel_constraint=keras.constraints.MaxNorm(max_norm) if max_norm else None,
            name=name,
            **settings,
        )

    def last(name, task, x):
        if logits == "cosine" and task.kind != "regression":
            return cosine_logits(x, task.num_outputs, name)
        begin = "zeros" if init == "zeros" else "glorot_uniform"
        return dense(task.num_outputs, f"{name}_logits", kernel_initializer=begin)(x)

    def head(features):
        x = POOLINGS[pooling](features)
        for number, width in enumerate(hidden, start=1):
            x = layers.Dropout(dropout, name=f"hidden{number}_dropout")(x) if dropout else x
            x = dense(width, f"hidden{number}", activation="relu")(x)
        x = layers.Dropout(dropout, name="head_dropout")(x) if dropout else x
        outputs = {name: last(name, task, x) for name, task in tasks.items()}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    return head


def _check_choice(name, value, known):
    if value not in known:
        raise TlkitError(
            f"`{name}` must be one of {', '.join(known)}. Received: {value!r}.{did_you_mean(value, known)}"
        )


def _check_ranges(dropout, hidden, l1, l2, max_norm):
    if not 0 <= dropout < 1:
        raise TlkitError(f"`dropout` must be in [0, 1). Received: {dropout}.")
    if any(width < 1 for width in hidden):
        raise TlkitError(f"`hidden` must hold widths of at least 1. Received: {list(hidden)}.")
    if min(l1, l2, max_norm) < 0:
        raise TlkitError(
            f"`l1`, `l2` and `max_norm` must be at least 0. Received: l1={l1}, l2={l2}, max_norm={max_norm}."
        )
