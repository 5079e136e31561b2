"""Read the arrays of a PyTorch weights file: without PyTorch, and without letting the file run anything.

A `.pth` of the legacy format (PyTorch before 1.6) is five pickles in a row (magic number, protocol, machine, the
arrays' description, the storages' names), followed by the raw storages. A pickle may name any function of any installed
package and have it called, so ours resolves the four names that such a file needs and refuses every other.
"""

import collections
import hashlib
import io
import pickle
from typing import NamedTuple

import numpy as np

from tlkit.errors import WeightsError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def _rebuild_tensor(storage, offset, shape, strides, _requires_grad=False, _backward_hooks=None, _metadata=None):
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


KNOWN_NAMES = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "LongStorage"): "<i8",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in KNOWN_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights file needs")
        return KNOWN_NAMES[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _location, length = pid[:5]
        if kind != "storage" or dtype not in ("<f4", "<i8"):
            raise pickle.UnpicklingError(f"unknown storage {kind!r}")
        return _Storage(key, dtype, length)


def read_pth(path, sha256):
    """Read every array of a legacy-format `.pth` file.

    Args:
        path: `pathlib.Path` of the file.
        sha256: Hexadecimal SHA-256 that the file must have; checked before anything in it is interpreted.

    Returns:
        `dict` from name to array (float32, or int64 for counters), in the file's order.

    Raises:
        WeightsError: If the file is another than the one known, or is no such file, or names anything unexpected.
    """
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != sha256:
        raise WeightsError(
            f"{path}: the file is damaged or replaced. Expected sha256 {sha256}, received {received}. "
            "Install its package again."
        )
    return parse_pth(content, path)


def parse_pth(content, where):
    """Interpret the bytes of a legacy-format `.pth` file; `where` is the file's name for the error."""
    stream = io.BytesIO(content)
    try:
        magic, protocol, _machine, tensors, keys = (_Unpickler(stream, encoding="utf-8").load() for _ in range(5))
        if (magic, protocol) != (MAGIC_NUMBER, PROTOCOL):
            raise pickle.UnpicklingError("it is not of PyTorch's legacy format")
        declared = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        storages = {key: _read_storage(stream, declared[key]) for key in keys}
        return {name: _view(storages[tensor.storage.key], tensor) for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, EOFError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{where}: can't be read as a PyTorch weights file: {error}.") from error


def _read_storage(stream, declared):
    """Read one storage: its number of elements as int64, then the elements."""
    length = int.from_bytes(stream.read(8), "little")
    if length != declared.length:
        raise ValueError(f"storage {declared.key} has {length} elements where {declared.length} are declared")
    dtype = np.dtype(declared.dtype)
    return np.frombuffer(stream.read(length * dtype.itemsize), dtype, count=length)


def _view(storage, tensor):
    """Cut a tensor out of its storage; the bounds are checked because `as_strided` does not."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min((tensor.offset, *tensor.strides, *tensor.shape)) < 0 or last >= len(storage):
        raise ValueError(f"a tensor reaches beyond its storage {tensor.storage.key}")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
