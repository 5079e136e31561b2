"""Arrays in one file under a seal: whatever happened to it, they come back as they were or not at all."""

import errno
import hashlib
import math
import re
import struct
import zipfile

import numpy as np

SEAL = "sha256"
# How numpy begins the file of an array; its own reader evaluates what is there as Python literals.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([<|][biuf][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d+, ?)*\d*)\), \} *\n",
    re.DOTALL,
)
# What zipfile and numpy's constructor raise on files that are not what they should be.
_BROKEN = (
    EOFError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError,
    NotImplementedError, RuntimeError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


class DamagedError(Exception):
    """A file that doesn't hold what was written; the text says in a few words why."""


def write_sealed(file, arrays):
    """Write arrays and their seal as an ordinary `.npz` file, without copying those that are C-contiguous.

    Args:
        file: Binary file, open for writing.
        arrays: Dict of name to array of numbers; none is named as the seal is.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in {**arrays, SEAL: np.frombuffer(_digest(arrays), np.uint8)}.items():
            array = np.asarray(array, order="C")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                member.write(_bytes_of(array))


def read_sealed(path):
    """Return the arrays of a file, as a dict; read-only.

    Nothing in the file is executed, and it can't make this take much more memory than it has bytes.

    Args:
        path: `pathlib.Path`.

    Raises:
        FileNotFoundError: If there is none.
        DamagedError: If it isn't what `write_sealed` wrote, to the bit.
        OSError, MemoryError: If it can't be read now, whatever it holds.
    """
    if not path.is_file():
        if path.exists():
            raise DamagedError("not a file")
        raise FileNotFoundError(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if any(member.compress_type or member.file_size != member.compress_size for member in members):
                raise DamagedError("compressed")
            if sum(member.file_size for member in members) > path.stat().st_size:
                raise DamagedError("more in it than its size")
            arrays = {member.filename.removesuffix(".npy"): _array(archive.read(member)) for member in members}
        seal = arrays.pop(SEAL).tobytes()
    except _BROKEN as error:
        raise DamagedError(str(error) or type(error).__name__) from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # what is in it leads to a place that no file has, or isn't packed
            raise DamagedError(str(error)) from None
        raise
    if seal != _digest(arrays):
        raise DamagedError("its content isn't what was written")
    return arrays


def _array(data):
    """Return the array of numbers that the bytes of an `.npy` file hold, without copying them."""
    header = _HEADER.match(data)
    if not header or header.end() != 10 + int.from_bytes(data[8:10], "little"):
        raise ValueError("not an array of numbers")
    descr, fortran_order, shape = (part.decode() for part in header.groups())
    dtype, shape = np.dtype(descr), tuple(int(side) for side in shape.split(",") if side.strip())
    if math.prod(shape) * dtype.itemsize != len(data) - header.end():
        raise ValueError("not as many numbers as it says")
    return np.ndarray(shape, dtype, data, header.end(), order="F" if fortran_order == "True" else "C")


def _digest(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(_bytes_of(np.asarray(array, order="C")))
    return digest.digest()


def _bytes_of(array):
    """Return the bytes of a C-contiguous array, without copying them."""
    return array.reshape(-1).view(np.uint8)
