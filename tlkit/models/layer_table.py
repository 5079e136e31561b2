"""The table that a lecturer draws of a net: per layer output, memory, parameters, operations, receptive field.

It is computed from the graph alone; nothing runs. A multiply-accumulate is one product added to a sum. Those of
convolutions, dense layers and products of matrices are counted, for one image; adding biases, pooling, normalization
and activations count none, as in the papers.
"""

import math
from typing import NamedTuple

import keras
from keras import layers

from tlkit.errors import TlkitError
from tlkit.models.receptive_field import (
    ALONG_AXIS,
    BY_POSITION,
    IMAGE,
    PIXELS,
    POOLING_1D,
    View,
    call_arguments,
    view_after,
)

BYTES = 4  # of a float32
WHOLE_IMAGE = "image"

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
# Known to multiply nothing by weights but element by element, beside what `receptive_field` follows.
_UNCOUNTED = """
    AveragePooling1D AveragePooling2D AveragePooling3D Cropping1D Cropping2D ExpandDims Flip GetItem
    GlobalAveragePooling1D GlobalMaxPooling1D GroupNormalization InputLayer MaxPooling1D MaxPooling2D MaxPooling3D
    Moveaxis Pad Permute Repeat RepeatVector Reshape Squeeze Stack Swapaxes Tile Transpose UpSampling1D UpSampling2D
    ZeroPadding1D ZeroPadding2D
"""
UNCOUNTED = BY_POSITION | ALONG_AXIS | frozenset(_UNCOUNTED.split())
FORM = {"ExpandDims", "Flip", "Reshape", "Squeeze", "Transpose"}
LABELS = {
    "BatchNormalization": "BN",
    "Concatenate": "CONCAT",
    "Cropping2D": "CROP",
    "GetItem": "SLICE",
    "GlobalAveragePooling2D": "AVGPOOL",
    "GlobalMaxPooling2D": "MAXPOOL",
    "InputLayer": "INPUT",
    "LayerNormalization": "LN",
    "LayerScale": "SCALE",
    "Normalization": "SCALING",
    "Rescaling": "SCALING",
    "TrueDivide": "DIVIDE",
    "ZeroPadding2D": "PAD",
}


class Row(NamedTuple):
    """One layer, or one operation of `keras.ops`.

    Attributes:
        name: Its name in the graph.
        kind: Name of its class.
        label: What a lecturer writes, such as `CONV3-64`.
        shape: Shape of its output for one image; of the first of several equal ones.
        outputs: Number of its outputs.
        activations: Number of values that it puts out.
        in_place: Whether it is counted with the tensor that it changes (activations, normalization, changes of form,
            parts, all but the last of a chain of `keras.ops`), not as a tensor of its own.
        weights: Number of its parameters that multiply inputs: its kernels.
        biases: Number of all others: biases, and the scales, offsets and statistics of normalization.
        macs: Multiply-accumulates for one image.
        field: `(height, width)` of what one position depends on, in pixels of the image, or `"image"` where that is all
            of it; None if unknown.
        stride: `(vertical, horizontal)` pixels from one position to the next; None for the whole image, or if unknown.
        inputs: Names of the layers that its inputs come from.
    """

    name: str
    kind: str
    label: str
    shape: tuple[int, ...]
    outputs: int
    activations: int
    in_place: bool
    weights: int
    biases: int
    macs: int
    field: tuple[int, int] | str | None
    stride: tuple[int, int] | None
    inputs: tuple[str, ...]

    @property
    def bytes(self):
        """Memory of its output as float32; 0 where it is in place."""
        return 0 if self.in_place else BYTES * self.activations


class LayerTable(NamedTuple):
    """The layers of a net, and what they come to.

    Attributes:
        name: The model's.
        rows: Tuple of `Row`, from the image on.
        notes: Tuple of sentences on what could not be counted or followed.
    """

    name: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def weights(self):
        """Number of parameters in kernels."""
        return sum(row.weights for row in self.rows)

    @property
    def biases(self):
        """Number of all other parameters."""
        return sum(row.biases for row in self.rows)

    @property
    def parameters(self):
        """Number of all parameters."""
        return self.weights + self.biases

    @property
    def macs(self):
        """Multiply-accumulates for one image."""
        return sum(row.macs for row in self.rows)

    @property
    def activations(self):
        """Number of values of one image's tensors, the image's own included, in-place rows excluded."""
        return sum(row.activations for row in self.rows if not row.in_place)

    @property
    def bytes(self):
        """Memory of the activations as float32."""
        return BYTES * self.activations

    def folded(self):
        """Return the table that a lecturer would draw.

        In-place rows are added to the row whose output they change, and equal layers on parts of one tensor, such as
        the 32 convolutions of a grouped one, become one row.
        """
        parts = {row.name for row in self.rows if row.kind in ("GetItem", "Split")}
        folded, target = {}, {}
        for row in self.rows:
            last = next(reversed(folded.values()), None)
            source = row.inputs[0] if row.inputs else None
            row_on = row._replace(inputs=tuple(dict.fromkeys(target[name] for name in row.inputs)))
            if row.in_place and source is not None:
                into = target[source]
                folded[into] = _add(folded[into], row)
            elif source in parts and _same(row_on, last):
                into = last.name
                more = {"outputs": last.outputs + 1, "activations": last.activations + row.activations}
                folded[into] = _add(last, row)._replace(**more)
            else:
                into = row.name
                folded[into] = row_on
            target[row.name] = into
        return self._replace(rows=tuple(folded.values()))


def _add(into, row):
    more = {"weights": into.weights + row.weights, "biases": into.biases + row.biases, "macs": into.macs + row.macs}
    return into._replace(**more)


def _same(row, other):
    return (row.kind, row.label, row.shape, row.inputs) == (other.kind, other.label, other.shape, other.inputs)


def layer_table(model):
    """Return the `LayerTable` of a model, every layer a row.

    Args:
        model: Functional `keras.Model` whose input has a fixed size and whose layers are called once each; models
            within it are entered.

    Raises:
        TlkitError: If it is of another form.
    """
    if not hasattr(model, "operations"):
        raise TlkitError(f"Model {model.name!r} has no graph to read. Expected a functional keras.Model.")
    known, rows, notes = {}, [], []
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            raise TlkitError(f"Model {model.name!r} takes images of any size: {tensor.shape}. Build it for one size.")
    _walk(model, known, rows, notes, prefix="")
    return LayerTable(model.name, tuple(_mark_chains(rows, model)), tuple(notes))


class _Tensor(NamedTuple):
    shape: tuple
    view: View | None
    source: str


def _walk(model, known, rows, notes, prefix):
    calls = _calls(model)
    operations = model.layers if isinstance(model, keras.Sequential) else model.operations
    for operation in operations:
        name = prefix + operation.name
        if isinstance(operation, layers.InputLayer):
            if id(operation.output) not in known:  # that of a model within the model is known as its caller's tensor
                view = PIXELS if len(operation.output.shape) == 4 else IMAGE
                known[id(operation.output)] = _Tensor(tuple(operation.output.shape), view, name)
                rows.append(_row(operation, name, [], [tuple(operation.output.shape)], view, notes))
            continue
        node = calls[id(operation)]
        inputs, outputs = node.input_tensors, node.output_tensors
        if isinstance(operation, keras.Model):
            _enter(operation, inputs, outputs, known, rows, notes, name + "/")
            continue
        sources = [known[id(tensor)] for tensor in inputs]
        view = view_after(operation, [(source.shape, source.view) for source in sources], tuple(outputs[0].shape))
        if view is None and all(source.view for source in sources):
            kind = type(operation).__name__
            notes.append(f"{name} ({kind}): its receptive field is not known, nor any after it.")
        rows.append(_row(operation, name, sources, [tuple(tensor.shape) for tensor in outputs], view, notes))
        for tensor in outputs:
            known[id(tensor)] = _Tensor(tuple(tensor.shape), view, name)


def _calls(model):
    """Return a dict from the id of each operation to the node of its one call that the graph consists of.

    An operation may have been called elsewhere, too; that does not matter here.
    """
    calls, waiting, inputs = {}, list(model.outputs), set(map(id, model.inputs))
    while waiting:
        tensor = waiting.pop()
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if calls.get(id(operation)) is node:
            continue
        if calls.setdefault(id(operation), node) is not node:
            raise TlkitError(
                f"Model {model.name!r} calls its layer {operation.name!r} more than once. The table needs each called "
                "once."
            )
        if id(tensor) not in inputs:
            waiting.extend(node.input_tensors)
    return calls


def _enter(model, inputs, outputs, known, rows, notes, prefix):
    """Walk through a model within the model."""
    for inner, outer in zip(model.inputs, inputs, strict=True):
        known[id(inner)] = known[id(outer)]
    _walk(model, known, rows, notes, prefix)
    for inner, outer in zip(model.outputs, outputs, strict=True):
        known[id(outer)] = known[id(inner)]


def _row(operation, name, sources, shapes, view, notes):
    kind = type(operation).__name__
    macs = multiply_accumulates(operation, [source.shape for source in sources], shapes[0])
    if macs is None:
        notes.append(f"{name} ({kind}): its multiply-accumulates are not known, and not counted.")
    weights, biases = _parameters(operation)
    field, stride = _seen(view)
    activations = sum(math.prod(shape[1:]) for shape in shapes)
    return Row(
        name=name,
        kind=kind,
        label=_label(operation),
        shape=shapes[0][1:],
        outputs=len(shapes),
        activations=activations,
        in_place=_is_in_place(operation, sources, activations),
        weights=weights,
        biases=biases,
        macs=macs or 0,
        field=field,
        stride=stride,
        inputs=tuple(source.source for source in sources),
    )


def multiply_accumulates(operation, inputs, output):
    """Return an operation's multiply-accumulates for one image, or None if it is of a kind that isn't known.

    Args:
        operation: A layer, or an operation of `keras.ops`.
        inputs: List of the shapes of its input tensors, batch first.
        output: Shape of its (first) output, batch first.
    """
    kind = type(operation).__name__
    if isinstance(operation, CONVOLUTIONS):
        return _positions(operation, output) * math.prod(operation.kernel.shape)
    if isinstance(operation, SEPARABLE):
        kernels = (operation.depthwise_kernel, operation.pointwise_kernel)
        return _positions(operation, output) * sum(math.prod(kernel.shape) for kernel in kernels)
    if isinstance(operation, layers.Conv1DTranspose | layers.Conv2DTranspose | layers.Conv3DTranspose):
        return _positions(operation, inputs[0]) * math.prod(operation.kernel.shape)
    if isinstance(operation, layers.Dense):
        return math.prod(output[1:-1]) * math.prod(operation.kernel.shape)
    if isinstance(operation, layers.EinsumDense):
        return _einsum(operation.equation, [inputs[0], operation.kernel.shape])
    if kind == "Einsum":
        operands = keras.tree.flatten(call_arguments(operation))
        return _einsum(operation.subscripts, [operand.shape for operand in operands])
    if kind == "Matmul":
        first = call_arguments(operation)[0]
        return math.prod(output[1:]) * first.shape[-1]
    return 0 if kind in UNCOUNTED else None


def _positions(layer, shape):
    return math.prod(shape[1:-1] if layer.data_format == "channels_last" else shape[2:])


def _einsum(equation, shapes):
    """Return how many products an einsum of two operands adds up: one for each value of all its letters."""
    operands = equation.replace(" ", "").partition("->")[0].split(",")
    if len(operands) != 2 or list(map(len, operands)) != list(map(len, shapes)):
        return None
    sizes = dict(zip("".join(operands), [*shapes[0], *shapes[1]], strict=True))
    return math.prod(size or 1 for size in sizes.values())  # None is the batch: one image


def _parameters(operation):
    """Return `(weights, biases)`."""
    if not isinstance(operation, layers.Layer):
        return 0, 0
    weights = sum(math.prod(weight.shape) for weight in operation.weights if "kernel" in weight.name)
    return weights, sum(math.prod(weight.shape) for weight in operation.weights) - weights


def _seen(view):
    """Return the field and the stride of a row."""
    if view is None:
        return None, None
    sides = tuple(WHOLE_IMAGE if span.pixels == math.inf else int(span.pixels) for span in view.spans)
    strides = tuple(span.stride for span in view.spans)
    return (
        WHOLE_IMAGE if sides == (WHOLE_IMAGE, WHOLE_IMAGE) else sides,
        None if math.inf in strides else tuple(map(int, strides)),
    )


def _is_in_place(operation, sources, activations):
    """Tell whether an operation has one input and only changes its values or its form, or takes parts of it."""
    kind = type(operation).__name__
    if kind in ("GetItem", "Split"):
        return True
    if len(sources) != 1 or isinstance(operation, layers.Dense) or kind not in BY_POSITION | ALONG_AXIS | FORM:
        return False
    return activations == math.prod(sources[0].shape[1:])


def _mark_chains(rows, model):
    """Count one tensor for a chain of `keras.ops`, such as local response normalization: its last.

    Pooling in one dimension is a step of a chain, too, and its end may be the product that it computes a factor of.
    """
    steps = {op.name for op in model.operations if not isinstance(op, layers.Layer) or isinstance(op, POOLING_1D)}
    ends = steps | {op.name for op in model.operations if isinstance(op, layers.Multiply)}
    readers = {row.name: [] for row in rows}
    for row in rows:
        for name in row.inputs:
            readers[name].append(row.name)
    for row in rows:
        within = row.name in steps and not row.macs and readers[row.name] and ends.issuperset(readers[row.name])
        yield row._replace(in_place=True) if within else row


def _label(operation):
    kind = type(operation).__name__
    if isinstance(operation, layers.Conv2D | layers.DepthwiseConv2D | layers.SeparableConv2D):
        height, width = operation.kernel_size
        size = f"{height}" if height == width else f"{height}x{width}"
        if isinstance(operation, layers.DepthwiseConv2D):
            return f"DWCONV{size}"
        prefix = "SEPCONV" if isinstance(operation, layers.SeparableConv2D) else "CONV"
        groups = f"/{operation.groups}" if getattr(operation, "groups", 1) > 1 else ""
        return f"{prefix}{size}-{operation.filters}{groups}"
    if isinstance(operation, layers.MaxPooling2D | layers.AveragePooling2D):
        prefix = "POOL" if isinstance(operation, layers.MaxPooling2D) else "AVGPOOL"
        return f"{prefix}{operation.pool_size[0]}"
    if isinstance(operation, layers.Dense):
        return "FC"
    if isinstance(operation, layers.Activation):
        return operation.activation.__name__.upper()
    if isinstance(operation, layers.Multiply | layers.Concatenate) and "norm" in operation.name:
        return "NORM"  # across channels, which Keras has no layer for
    return LABELS.get(kind, kind.upper())
