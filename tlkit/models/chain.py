"""A model as a chain of pure functions, block by block, with the weights folded in as constants.

Whatever is computed from frozen layers is computed here: always through the same segments at the same batch shape, so
that features have the same bits whether they come straight from the images or were kept at an earlier cut.
"""

import hashlib
import json
import math

import keras
import numpy as np

from tlkit.models.assemble import cut_position, segments
from tlkit.models.exhaustion import naming_exhaustion


class Chain:
    """A model's segments in inference mode, as they are now: its weights must not change while the chain is used.

    A position says how many segments are behind one: 0 is the image, `end` is the model's output, and between them lie
    the places where the model can be cut.

    Args:
        model: `keras.Model` that `tlkit.models.assemble.assemble` made, or one of that form.
        ends: Names of its block ends, first block first.
        tasks: Dict of task name to `Task`.
        batch_size: The one batch shape at which every segment runs.
        known: An earlier chain; if it is of the same model and batch size, what it has folded is used where weights are
            the same.
        digests: Dict that chains of one process share, where the code of their layers is the same: what one of them
            has found out about what decides its features, the others need not compute.
    """

    def __init__(self, model, ends, tasks, batch_size, known=None, digests=None):
        self.batch_size = batch_size
        self._model, self._ends, self._tasks = model, ends, tasks
        self._segments = segments(model, ends, tasks)
        shared = known is not None and known._model is model and known.batch_size == batch_size
        self._folded = known._folded if shared else {}
        self._known_digests = {} if digests is None else digests
        self._digests, self._weights = [hashlib.sha256(str(model.input_shape).encode()).hexdigest()], {}
        self._probed = (0, None)

    @property
    def end(self):
        """The position of the model's output."""
        return len(self._segments)

    @property
    def image_size(self):
        """Side in pixels of the images that the model takes."""
        return self._model.input_shape[1]

    def position(self, unfreeze):
        """Return the position of the cut that lets `unfreeze` blocks train."""
        return cut_position(self._model, self._ends, unfreeze, self._tasks)

    def describe(self, position):
        """Return a cut in words: `"resnet50 up to conv4_block6_out"`."""
        if position > len(self._ends):
            return f"{self._model.name}, pooled"
        return f"{self._model.name} up to {self._ends[position - 1]}"

    def row_shape(self, position):
        """Return the shape of one image's features at a cut."""
        return tuple(self._segments[position - 1].output_shape[1:])

    def row_bytes(self, position):
        """Return the bytes of one image's float32 features at a cut."""
        return 4 * math.prod(self.row_shape(position))

    def digest(self, position):
        """Return the sha256 of all that decides what comes out there.

        That is the graph and the weights, but no layer's name, and, for all that neither of them shows (a layer's
        code, the engine and its settings), what one batch of noise becomes.
        """
        while len(self._digests) <= position:
            number = len(self._digests) - 1
            state = (self._digests[-1], self._weights_of(number), _describe(self._segments[number]))
            known = (*state, self.batch_size)
            if known not in self._known_digests:
                digest = hashlib.sha256("".join(state).encode())
                digest.update(np.ascontiguousarray(self._probe(number + 1)))
                self._known_digests[known] = digest.hexdigest()
            self._digests.append(self._known_digests[known])
        return self._digests[position]

    def _probe(self, position):
        """Return what a batch of noise is at a position."""
        start, rows = self._probed
        if start == 0 or start > position:
            shape = (self.batch_size, *self._model.input_shape[1:])
            start, rows = 0, np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
        if start < position:
            rows = self.run(rows, start, [position])[0]
        self._probed = (position, rows)
        return rows

    def _weights_of(self, number):
        """Return the sha256 of a segment's weights."""
        if number not in self._weights:
            digest = hashlib.sha256()
            for variable in self._segments[number].weights:
                digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)))
            self._weights[number] = digest.hexdigest()
        return self._weights[number]

    def run(self, batch, start, stops):
        """Compute what comes out at some positions.

        Args:
            batch: Array `(n, ...)`: images or features at position `start`. More than `batch_size` are run in parts. A
                short batch is padded with zeros, since kernels, and with them the last bits, may differ between batch
                shapes.
            start: The position of `batch`.
            stops: Positions after `start`, in ascending order.

        Returns:
            List with, for each stop, a float32 array `(n, ...)`, or the model's dict of them.

        Raises:
            OutOfMemoryError: If memory runs out.
        """
        if len(batch) > self.batch_size:
            parts = [batch[first : first + self.batch_size] for first in range(0, len(batch), self.batch_size)]
            return [
                _concatenate(of_stop) for of_stop in zip(*(self.run(part, start, stops) for part in parts), strict=True)
            ]
        with naming_exhaustion("frozen", self.batch_size):
            return self._run(batch, start, stops)

    def _run(self, batch, start, stops):
        count = len(batch)
        missing = self.batch_size - count
        x = np.pad(batch, [(0, missing)] + [(0, 0)] * (batch.ndim - 1)) if missing else batch
        found = []
        for position in range(start, stops[-1]):
            x = self._segment(position)(keras.ops.cast(x, self._segments[position].inputs[0].dtype))
            if position + 1 in stops:
                found.append(_to_numpy(x, count))
        return found

    def _segment(self, position):
        key = (position, self._weights_of(position))
        if key not in self._folded:
            self._folded[key] = fold(self._segments[position], self.batch_size)
        return self._folded[key]


def fold(model, batch_size):
    """Return a model as a function in inference mode whose variables are constants of the graph.

    That is 1.1 (ResNet-50) to 1.3 (Lite0) times faster on a CPU, where BatchNorm then disappears into the convolutions.

    Args:
        model: `keras.Model` with one input.
        batch_size: The only batch size that the function takes.

    Returns:
        Function from a tensor `(batch_size, ...)` of the input's dtype to the model's output or outputs.
    """
    if keras.backend.backend() != "tensorflow":
        return model.predict_on_batch
    import tensorflow as tf

    values = [[keras.ops.convert_to_numpy(v) for v in group] for group in _variables(model)]

    def call(batch):
        constants = [[tf.constant(value) for value in group] for group in values]
        return model.stateless_call(*constants, batch, training=False)[0]

    shape = tf.TensorSpec((batch_size, *model.input_shape[1:]), model.inputs[0].dtype)
    return tf.function(call, input_signature=[shape], autograph=False, jit_compile=False).get_concrete_function()


def _variables(model):
    return model.trainable_variables, model.non_trainable_variables


def _to_numpy(outputs, count):
    if isinstance(outputs, dict):
        return {name: _to_numpy(values, count) for name, values in outputs.items()}
    return keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))[:count]


def _concatenate(parts):
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


REFERENCES = ("keras_history", "input_layers", "output_layers")  # where a config refers to a layer by its name


def _describe(model):
    """Return a model's config as text, with numbers for its layers' names: automatic names count up over a process."""
    config = {key: value for key, value in model.get_config().items() if key != "name"}
    numbers = {name: f"#{number}" for number, name in enumerate(dict.fromkeys(_layer_names(config)))}
    return json.dumps(_renamed(config, numbers), sort_keys=True, default=str)


def _layer_names(value):
    """Yield the name of every layer in a config, in order, those of nested models included."""
    if isinstance(value, dict):
        for layer in value.get("layers", ()) if isinstance(value.get("layers"), list) else ():
            if isinstance(layer, dict) and isinstance(layer.get("config"), dict):
                yield str(layer["config"].get("name"))
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _layer_names(item)


def _renamed(value, numbers, key=None):
    if isinstance(value, dict):
        return {name: _renamed(item, numbers, name) for name, item in value.items() if name != "trainable"}
    if isinstance(value, list | tuple):
        return [_renamed(item, numbers, key if key in REFERENCES else None) for item in value]
    return numbers.get(value, value) if key in (*REFERENCES, "name") and isinstance(value, str) else value
