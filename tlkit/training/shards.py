"""One shard of features in one file: an ordinary `.npy` file followed by the SHA-256 of all that precedes."""

import contextlib
import errno
import hashlib
import io
import math
import os
import tempfile
from pathlib import Path

import numpy as np

READ_BYTES = 2**20
DIGEST_BYTES = hashlib.sha256().digest_size


def write_shard(path, array):
    """Write float32 `(rows, ...)` to `path`, renamed into place when it is whole; an `OSError` leaves nothing behind.

    It is not flushed to disk: what a power cut tears is found by its checksum and can be computed anew.
    """
    header, rows = _header(array.shape), np.ascontiguousarray(array).reshape(-1)
    digest = hashlib.sha256(header)
    digest.update(rows)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _allocate(file.fileno(), file_bytes(array.shape))
            for part in (header, rows, digest.digest()):
                file.write(part)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def map_shard(path, shape):
    """Map a file after checking every byte of it.

    Args:
        path: Path of the file.
        shape: `(rows, ...)` that was written.

    Returns:
        Read-only float32 array of `shape`, or None if the file is not what was written.
    """
    header = _header(shape)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != file_bytes(shape):
            return None
        if file.read(len(header)) != header or not _ends_in_its_digest(file, header):
            return None
        return np.memmap(file, np.float32, "r", offset=len(header), shape=shape).view(np.ndarray)


def file_bytes(shape):
    """Return the size of the file of a shard of this shape."""
    return len(_header(shape)) + math.prod(shape) * np.dtype(np.float32).itemsize + DIGEST_BYTES


def _allocate(handle, size):
    """Claim the space first, so that a full disk shows before anything is written; not every system can."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


def _ends_in_its_digest(file, header):
    digest = hashlib.sha256(header)
    left = os.fstat(file.fileno()).st_size - len(header) - DIGEST_BYTES
    buffer = memoryview(bytearray(READ_BYTES))
    while left:
        count = file.readinto(buffer[: min(left, READ_BYTES)])
        if not count:
            return False
        digest.update(buffer[:count])
        left -= count
    return file.read() == digest.digest()


def _header(shape):
    """Return the first bytes of the `.npy` file of a float32 array of this shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()
