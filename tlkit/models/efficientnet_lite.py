"""EfficientNet-Lite 0, 1 and 2: EfficientNets without squeeze-and-excitation and with ReLU6, made to be quantized.

Two things differ from the rule by which EfficientNets grow: stem and head keep their widths (32 and 1280), and the
first and the last stage keep their depth. Layers are named as in Keras' EfficientNets.

Reference:
    Tan & Le 2019, https://arxiv.org/abs/1905.11946, table 1 and equation 3 (the net and its scaling);
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite (what Lite changes).
"""

import math
from typing import NamedTuple

import keras
from keras import layers

from tlkit.errors import WeightsError


class Stage(NamedTuple):
    """A row of the paper's table 1."""

    kernel_size: int
    repeats: int
    filters: int
    expansion: int
    strides: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)
DROP_PATH = 0.2  # of the last residual branch; earlier ones are dropped less often, in proportion to their depth


def efficientnet_lite0(**options):
    """Build EfficientNet-Lite0; see `efficientnet_lite` for the options."""
    return efficientnet_lite(width=1.0, depth=1.0, dropout=0.2, **options)


def efficientnet_lite1(**options):
    """Build EfficientNet-Lite1; see `efficientnet_lite` for the options."""
    return efficientnet_lite(width=1.0, depth=1.1, dropout=0.2, **options)


def efficientnet_lite2(**options):
    """Build EfficientNet-Lite2; see `efficientnet_lite` for the options."""
    return efficientnet_lite(width=1.1, depth=1.2, dropout=0.3, **options)


def efficientnet_lite(*, width, depth, dropout, input_tensor, include_top):
    """Build an EfficientNet-Lite on `input_tensor`.

    Args:
        width: Factor on the numbers of filters, those of stem and head excepted.
        depth: Factor on the numbers of repeats, those of the first and last stage excepted.
        dropout: Fraction in [0, 1) dropped before the classifier.
        input_tensor: KerasTensor `(batch, height, width, 3)`, scaled as `(x - 127) / 128`.
        include_top: Whether the 1000-class ImageNet classifier is part of it.

    Returns:
        `keras.Model`: to the feature map `(batch, height / 32, width / 32, 1280)`, or to probabilities `(batch, 1000)`.
    """
    x = _conv(input_tensor, 32, 3, strides=2, name="stem_conv")
    x = _norm(x, "stem_bn")
    x = layers.ReLU(6.0, name="stem_activation")(x)
    plan = list(_plan(width, depth))
    for position, (block, stage) in enumerate(plan):
        x = _block(x, stage, drop=DROP_PATH * position / len(plan), name=block)
    x = _conv(x, 1280, 1, name="top_conv")
    x = _norm(x, "top_bn")
    x = layers.ReLU(6.0, name="top_activation")(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(dropout, name="top_dropout")(x)
        x = layers.Dense(1000, activation="softmax", name="predictions")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _plan(width, depth):
    """Yield `(block name, stage)` for every block of the scaled net."""
    for number, stage in enumerate(STAGES, start=1):
        repeats = stage.repeats if number in (1, len(STAGES)) else math.ceil(stage.repeats * depth)
        for repeat in range(repeats):
            strides = stage.strides if repeat == 0 else 1
            letter = chr(ord("a") + repeat)
            yield f"block{number}{letter}", stage._replace(filters=_round(stage.filters * width), strides=strides)


def _round(filters, divisor=8):
    """Round to a multiple of `divisor`, never losing more than a tenth."""
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * filters else rounded + divisor


def _block(x, stage, drop, name):
    """Inverted bottleneck: widen, filter each channel by itself, narrow; with a shortcut where the shapes agree."""
    shortcut = x
    if stage.expansion != 1:
        x = _conv(x, x.shape[-1] * stage.expansion, 1, name=f"{name}_expand_conv")
        x = _norm(x, f"{name}_expand_bn")
        x = layers.ReLU(6.0, name=f"{name}_expand_activation")(x)
    x = layers.DepthwiseConv2D(stage.kernel_size, stage.strides, padding="same", use_bias=False, name=f"{name}_dwconv")(
        x
    )
    x = _norm(x, f"{name}_bn")
    x = layers.ReLU(6.0, name=f"{name}_activation")(x)
    x = _conv(x, stage.filters, 1, name=f"{name}_project_conv")
    x = _norm(x, f"{name}_project_bn")
    if stage.strides == 1 and shortcut.shape[-1] == stage.filters:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)  # whole branches, per image
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _conv(x, filters, kernel_size, name, strides=1):
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal"),
        name=name,
    )(x)


def _norm(x, name):
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def load_pytorch(model, arrays, where):
    """Put the arrays of the PyTorch port into an EfficientNet-Lite, with or without its top.

    Both list their layers from the image to the classifier, so the n-th module with weights is the n-th layer with
    weights; every shape is checked.

    Args:
        model: `keras.Model` that `efficientnet_lite` built.
        arrays: `dict` from `"module.weight"`-like names to arrays, in the file's order.
        where: What to call the file in an error.

    Raises:
        WeightsError: If the arrays are of another net.
    """
    modules = {}
    for key, array in arrays.items():
        module, _, part = key.rpartition(".")
        modules.setdefault(module, {})[part] = array
    weighted = [layer for layer in model.layers if layer.weights]
    if len(modules) - len(weighted) not in (0, 1):  # one more: the classifier, where the model has none
        raise WeightsError(f"{where}: holds {len(modules)} layers with weights; {model.name} has {len(weighted)}.")
    for layer, parts in zip(weighted, modules.values(), strict=False):
        values = _keras_layout(layer, parts)
        received, expected = [value.shape for value in values], [tuple(weight.shape) for weight in layer.weights]
        if received != expected:
            raise WeightsError(f"{where}: layer {layer.name} of {model.name} needs {expected}. Received: {received}.")
        layer.set_weights(values)


def _keras_layout(layer, parts):
    """Order and transpose a PyTorch module's arrays as a Keras layer holds them."""
    if "running_mean" in parts:
        return [parts["weight"], parts["bias"], parts["running_mean"], parts["running_var"]]
    kernel = parts["weight"]
    if isinstance(layer, layers.Dense):
        return [kernel.T, parts["bias"]]
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [kernel.transpose(axes)]
