"""Arrays out of an .npz file that somebody else made: nothing is unpickled, nor unpacked beyond the memory."""

import lzma
import math
import os
import tokenize
import warnings
import zipfile
import zlib

from numpy.lib import format as npy

from tlkit.errors import DataError

MEMORY_SHARE = 0.5  # of the machine's, that arrays may take
DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    OverflowError,
    MemoryError,
    SyntaxError,
    RuntimeError,  # encrypted, or packed in a way that zipfile doesn't know
    TypeError,  # these two from a header whose keys or whose type numpy can't sort out
    IndexError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Archive:
    """An .npz file, whose arrays are read one by one.

    Args:
        path: Path of the file.

    Attributes:
        names: Names of its arrays.

    Raises:
        DataError: If it is none.
    """

    def __init__(self, path):
        self._path, self._left = path, int(MEMORY_SHARE * _memory())
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: not an .npz file that can be read: it is no archive of arrays")
        try:
            self._zip = zipfile.ZipFile(path)
        except DAMAGE as error:
            raise self._damaged(error) from None
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._zip.close()

    def read(self, name):
        """Return an array.

        Raises:
            DataError: If it is damaged, holds Python objects, or doesn't fit into half of the machine's memory together
                with those read before.
        """
        try:
            with warnings.catch_warnings():  # of a header in the way of Python 2, which is read all the same
                warnings.simplefilter("ignore", UserWarning)
                self._check(name)
                with self._zip.open(f"{name}.npy") as member:
                    return npy.read_array(member, allow_pickle=False)
        except DAMAGE as error:
            raise self._damaged(error) from None

    def _check(self, name):
        """Refuse an array by its header, before anything is made of it."""
        with self._zip.open(f"{name}.npy") as member:
            version = npy.read_magic(member)
            if version not in _HEADERS:
                raise ValueError(f"{name!r} is of version {version}")
            shape, _, dtype = _HEADERS[version](member)
        if dtype.hasobject:
            raise ValueError(f"{name!r} holds Python objects")
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 0 or not dtype.itemsize or size > self._zip.getinfo(f"{name}.npy").file_size:
            raise ValueError(f"{name!r} is said to be {dtype} {shape}, which the file doesn't hold")
        if size > self._left:
            raise DataError(
                f"{self._path}: {name!r} takes {size / 2**30:.1f} GiB, more than there is memory for. Use a folder of "
                "image files"
            )
        self._left -= size

    def _damaged(self, error):
        reason = " ".join(str(error).split()) or type(error).__name__
        return DataError(f"{self._path}: not an .npz file that can be read: {reason}")


def _memory():
    """Return the bytes of the machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere
        return 2**34
