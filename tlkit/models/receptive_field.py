"""What part of the image a position of a feature map depends on, followed along the graph.

A side of a feature map is a `Span`: position 0 depends on the pixels `first` to `last`, position i on those
`i * stride` further on. A window of k positions widens it, a stride spreads it, and where branches meet, the whole is
as wide as both together. That is exact for convolution and pooling with any padding (what weights of zero leave out
aside), and goes on outside the image, where the padding is.

Reference:
    Araujo, Norris & Sim 2019, https://distill.pub/2019/computing-receptive-fields
"""

import math
from typing import NamedTuple

from keras import layers


class Span(NamedTuple):
    """One side of a feature map, in pixels of the image.

    Attributes:
        first: First pixel that position 0 depends on; negative in the padding.
        last: Last pixel that it depends on.
        stride: Pixels from one position to the next.
    """

    first: float
    last: float
    stride: float

    @property
    def pixels(self):
        """Number of pixels that a position depends on; infinite for the whole side."""
        return self.last - self.first + 1

    def window(self, size, stride=1, before=0):
        """Return the span after a window of `size` positions that moves by `stride` and starts `before` position 0."""
        if self.stride == math.inf:
            return self
        first = self.first - before * self.stride
        last = self.last + (size - 1 - before) * self.stride
        return Span(first, last, self.stride * stride)


WHOLE = Span(-math.inf, math.inf, math.inf)


class View(NamedTuple):
    """What the positions of a tensor depend on.

    Attributes:
        spans: The vertical and the horizontal `Span`.
        axes: The axes of the tensor that they lie along: `(1, 2)` in a feature map, twice the same where a reshape made
            one axis of both, empty where position is lost.
    """

    spans: tuple[Span, Span]
    axes: tuple[int, ...]


PIXELS = View((Span(0, 0, 1), Span(0, 0, 1)), (1, 2))
IMAGE = View((WHOLE, WHOLE), ())

WINDOWS = (
    layers.AveragePooling2D,
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.MaxPooling2D,
    layers.SeparableConv2D,
)
POOLING_1D = (layers.AveragePooling1D, layers.MaxPooling1D)
# What computes a position from the same position of its inputs, or where the lengths of the axes say what it does.
_BY_POSITION = """
    Activation Add AlphaDropout Average BatchNormalization Concatenate CustomScaleLayer Dense Dropout ELU Flatten
    GaussianDropout GaussianNoise GlobalAveragePooling2D GlobalMaxPooling2D Identity LayerScale LeakyReLU Maximum
    Minimum Multiply Normalization PReLU ReLU Rescaling SpatialDropout2D StochasticDepth Subtract
    Abs Absolute BroadcastTo Clip Cos Divide Elu Erf Exp Expm1 Gelu HardSigmoid HardSwish LeakyRelu Log Log1p Negative
    OnesLike Power Reciprocal Relu Relu6 Rsqrt Sigmoid Sign Silu Sin Softplus Split Sqrt Square Tanh TrueDivide
"""
BY_POSITION = frozenset(_BY_POSITION.split())
# What mixes all that lies along its `axis`, and may remove it.
_ALONG_AXIS = """
    Argmax LayerNormalization LogSoftmax Logsumexp Max Mean Min Normalize Prod RMSNormalization Softmax Std Sum
    UnitNormalization Var
"""
ALONG_AXIS = frozenset(_ALONG_AXIS.split())


def view_after(operation, inputs, shape):
    """Return what the positions of an operation's output depend on.

    Args:
        operation: A layer, or an operation of `keras.ops`, that was called once.
        inputs: List of `(shape, view)` of its input tensors, batch first.
        shape: Shape of its (first) output.

    Returns:
        `View`; None if an input's isn't known, or the operation isn't.
    """
    if any(view is None for _, view in inputs):
        return None
    kind = type(operation).__name__
    if isinstance(operation, layers.GroupNormalization) or not any(view.axes for _, view in inputs):
        return IMAGE
    if isinstance(operation, WINDOWS):
        return _windowed(operation, *inputs[0])
    if isinstance(operation, POOLING_1D):
        return _by_position(inputs, shape) if 1 not in inputs[0][1].axes else IMAGE
    if kind in _MOVING:
        return _MOVING[kind](operation, *inputs[0], shape)
    if kind in ALONG_AXIS:
        return _along_axis(operation, *inputs[0], shape)
    if kind in ("Einsum", "EinsumDense"):
        return _by_position(inputs, shape) if _keeps_labels(operation, inputs[0][1].axes) else IMAGE
    if kind == "Matmul":
        return _by_position(inputs, shape) if len(inputs) == 1 and len(shape) - 1 not in inputs[0][1].axes else IMAGE
    return _by_position(inputs, shape) if kind in BY_POSITION else None


def _by_position(inputs, shape):
    """Join the inputs; a side whose length changed, or that is lost, has come to depend on all of it."""
    axes, *others = {view.axes for _, view in inputs if view.axes}
    if others or max(axes) >= len(shape):
        return IMAGE
    spans = tuple(
        _join([view.spans[side] if view.axes and of[axis] == shape[axis] else WHOLE for of, view in inputs])
        for side, axis in enumerate(axes)
    )
    return View(spans, axes)


def _join(spans):
    strides = [span.stride for span in spans if span.stride < math.inf]
    return Span(
        min(span.first for span in spans), max(span.last for span in spans), max(strides) if strides else math.inf
    )


def _windowed(layer, shape, view):
    if layer.data_format != "channels_last":
        return None
    sizes = layer.pool_size if hasattr(layer, "pool_size") else layer.kernel_size
    dilations = getattr(layer, "dilation_rate", (1, 1))
    spans = []
    for side, span in enumerate(view.spans):
        size, stride = (sizes[side] - 1) * dilations[side] + 1, layer.strides[side]
        before = _padding(shape[1 + side], size, stride) if layer.padding == "same" else 0
        spans.append(span.window(size, stride, before))
    return View(tuple(spans), view.axes)


def _padding(length, size, stride):
    """Return how many positions `padding="same"` puts before the first."""
    return max((math.ceil(length / stride) - 1) * stride + size - length, 0) // 2


def _shifted(view, before):
    """Return the view after `before[side]` positions were put before the first, or, if negative, cut off."""
    spans = (span.window(1, 1, positions) for span, positions in zip(view.spans, before, strict=True))
    return View(tuple(spans), view.axes)


def _pad(layer, _shape, view, _after):
    return _shifted(view, [before for before, _ in layer.padding])


def _crop(layer, _shape, view, _after):
    return _shifted(view, [-before for before, _ in layer.cropping])


def _pad_op(operation, shape, view, _after):
    widths = operation.pad_width
    if len(widths) != len(shape):
        return None
    if len(set(view.axes)) == 1:
        return view if tuple(widths[view.axes[0]]) == (0, 0) else IMAGE
    return _shifted(view, [widths[axis][0] for axis in view.axes])


def _get_item(operation, shape, view, after):
    """Follow slices such as `x[:, ::2, 1:]` and `x[..., 8:]`."""
    key = call_arguments(operation)[1]
    key = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in key:
        at = key.index(Ellipsis)
        key[at : at + 1] = [slice(None)] * (len(shape) - len(key) + 1)
    key += [slice(None)] * (len(shape) - len(key))
    if len(after) != len(shape) or not all(isinstance(part, slice) for part in key):
        return None
    if len(set(view.axes)) == 1:
        return view if shape[view.axes[0]] == after[view.axes[0]] else IMAGE
    ranges = [key[axis].indices(shape[axis]) for axis in view.axes]
    if any(step < 1 for _, _, step in ranges):
        return None
    spans = (span.window(1, step, -start) for span, (start, _, step) in zip(view.spans, ranges, strict=True))
    return View(tuple(spans), view.axes)


def _transpose(operation, shape, view, _after):
    order = list(operation.axes or reversed(range(len(shape))))
    return View(view.spans, tuple(order.index(axis) for axis in view.axes))


def _reshape(_operation, shape, view, after):
    """Follow reshapes that keep both sides, make one axis of them, or two again."""
    after = tuple(after)
    if view.axes == (1, 2):
        if after[1:3] == tuple(shape[1:3]) and len(after) > 3:
            return view
        return View(view.spans, (1, 1)) if len(after) == 3 and after[1] == shape[1] * shape[2] else IMAGE
    if view.axes == (1, 1) and len(after) == 4 and after[1] * after[2] == shape[1]:
        return View(view.spans, (1, 2))
    return view if view.axes == (1, 1) and len(after) == 3 and after[1] == shape[1] else IMAGE


def _flip(operation, shape, view, _after):
    return view if _axes(operation, len(shape)).isdisjoint(view.axes) else None


def _along_axis(operation, shape, view, after):
    axes = _axes(operation, len(shape))
    moved = len(after) != len(shape) and min(axes) < max(view.axes)
    return IMAGE if moved or not axes.isdisjoint(view.axes) else view


_MOVING = {
    "Cropping2D": _crop,
    "Flip": _flip,
    "GetItem": _get_item,
    "Pad": _pad_op,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ZeroPadding2D": _pad,
}


def _axes(operation, rank):
    axes = operation.axis
    return {axis % rank for axis in ([axes] if isinstance(axes, int) else range(rank) if axes is None else axes)}


def _keeps_labels(operation, axes):
    """Tell whether an einsum leaves the axes of its first operand where they are, and only those."""
    equation = operation.equation if isinstance(operation, layers.EinsumDense) else operation.subscripts
    operands, _, result = equation.replace(" ", "").partition("->")
    first = operands.partition(",")[0]
    return "." not in equation and all(first[axis] == result[axis : axis + 1] for axis in axes)


def call_arguments(operation):
    """Return the positional arguments of an operation's only call: tensors, and constants."""
    (node,) = operation._inbound_nodes
    return node.arguments.args
