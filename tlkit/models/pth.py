"""Read the arrays of a PyTorch weights file: without PyTorch, and without letting the file run anything.

A `.pth` of the legacy format (PyTorch before 1.6) is five pickles in a row (magic number, protocol, machine, the
arrays' description, the storages' names), followed by the raw storages. A pickle is a program, which may name any
function of any installed package and have it called. So no unpickler runs it: `pickletools` takes it apart, and what
follows here understands the few instructions that build numbers, names and tuples, and refuses every other.
"""

import hashlib
import io
import math
import pickletools
from typing import NamedTuple

import numpy as np

from tlkit.errors import WeightsError
from tlkit.files import read_plain

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
LARGEST_FILE = 4 * 2**30
CONSTANTS = {"EMPTY_TUPLE": (), "NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
DTYPES = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
DICT, TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"


class _Name(str):
    """A name that the file gives instead of a value: it stays one, and nothing is looked up under it."""


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
    content = read_plain(path, LARGEST_FILE, WeightsError)
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
        magic, protocol, _machine, tensors, keys = (_load(stream) for _ in range(5))
        if (magic, protocol) != (MAGIC_NUMBER, PROTOCOL):
            raise ValueError("it is not of PyTorch's legacy format")
        _check(tensors, keys, len(content))
        declared = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        storages = {key: _read_storage(stream, declared[key]) for key in keys}
        return {name: _view(storages[tensor.storage.key], tensor) for name, tensor in tensors.items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{where}: can't be read as a PyTorch weights file: {error}.") from error


def _load(stream):
    """Return what one pickle describes: numbers, names, tuples, lists and dicts of them, `_Storage` and `_Tensor`."""
    stack, marks, memo = [], [], {}
    for instruction, argument, _ in pickletools.genops(stream):
        match instruction.name:
            case "PROTO":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "EMPTY_DICT" | "EMPTY_LIST" as name:
                stack.append({} if name == "EMPTY_DICT" else [])
            case "GLOBAL":
                if argument not in (DICT, TENSOR, *DTYPES):
                    raise ValueError(f"it asks for {argument.replace(' ', '.')[:80]}, which no weights file needs")
                stack.append(_Name(argument))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE" | "BUILD" | "SETITEM" | "APPEND" as name:
                value, target = stack.pop(), stack.pop()
                stack.append(_joined(name, target, value, stack))
            case "TUPLE" | "SETITEMS" | "APPENDS" as name:
                start = marks.pop()
                values, stack[start:] = stack[start:], []
                stack.append(tuple(values) if name == "TUPLE" else _extended(name, stack.pop(), values))
            case name if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case name if name in VALUES:
                stack.append(argument)
            case name if name in TUPLES:
                values = [stack.pop() for _ in range(TUPLES[name])]
                stack.append(tuple(reversed(values)))
            case name:
                raise ValueError(f"it holds the instruction {name}, which no weights file needs")
    raise ValueError("it ends too early")


def _joined(instruction, target, value, stack):
    """Return what comes of an instruction that takes a target and one value."""
    if instruction == "SETITEM":
        return _extended(instruction, stack.pop(), [target, value])
    if instruction == "APPEND":
        return _extended(instruction, target, [value])
    if instruction == "BUILD":
        return target  # what PyTorch notes beside the arrays
    if target == DICT and isinstance(target, _Name) and value == ():
        return {}
    if target == TENSOR and isinstance(target, _Name):
        storage, offset, shape, strides = value[:4]
        return _Tensor(storage, offset, shape, strides)
    raise ValueError("it asks for something that no weights file needs")


def _extended(instruction, target, values):
    """Return the list or the dict that `values` were put into."""
    if instruction.startswith("APPEND") and isinstance(target, list):
        target.extend(values)
    elif instruction.startswith("SETITEM") and isinstance(target, dict):
        for name, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(name, str):
                raise ValueError("it names something by anything but a text")
            target[name] = value
    else:
        raise ValueError("it puts something into neither a list nor a dict")
    return target


def _storage(description):
    kind, dtype, key, _location, length = description[:5]
    if kind != "storage" or not isinstance(dtype, _Name) or not isinstance(key, str) or not isinstance(length, int):
        raise ValueError("it describes an unknown storage")
    return _Storage(key, DTYPES[dtype], length)


def _check(tensors, keys, size):
    """Make sure that the arrays are described by whole numbers, and take no more than the file can hold."""
    total = 0
    for tensor in tensors.values():
        if not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
            raise ValueError("it describes something that is no array")
        numbers = (tensor.offset, *tensor.shape, *tensor.strides)
        if not all(type(number) is int and number >= 0 for number in numbers) or len(tensor.shape) > 8:
            raise ValueError(f"a tensor reaches beyond its storage {tensor.storage.key[:80]!r}")
        total += math.prod(tensor.shape)
    if total > size:  # arrays may share a storage, but few do, and a number takes 4 bytes
        raise ValueError("it declares far more numbers than it holds")
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("it names a storage by anything but a text")


def _read_storage(stream, declared):
    """Read one storage: its number of elements as int64, then the elements."""
    length = int.from_bytes(stream.read(8), "little")
    if length != declared.length:
        raise ValueError(f"a storage has {length} elements where {declared.length} are declared")
    dtype = np.dtype(declared.dtype)
    if length > len(stream.getbuffer()):
        raise ValueError("it is cut off")
    return np.frombuffer(stream.read(length * dtype.itemsize), dtype, count=length)


def _view(storage, tensor):
    """Cut a tensor out of its storage; the bounds are checked because `as_strided` does not."""
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(storage):
        raise ValueError(f"a tensor reaches beyond its storage {tensor.storage.key[:80]!r}")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()
