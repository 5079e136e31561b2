"""All rows of one entry in one file: an ordinary `.npy` file, followed by a digest for each of its shards.

A shard is there once its digest is; zeros stand for one that is not. A digest covers the name of the entry and the
number of the shard, so that neither the rows of another entry nor those of another shard pass for it.
"""

import contextlib
import errno
import hashlib
import io
import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tlkit.run import usable_cpus

READ_BYTES = 2**20
DIGEST_BYTES = hashlib.sha256().digest_size
ABSENT = bytes(DIGEST_BYTES)


class RowsFile:
    """The file of an entry. An `OSError` passes through every method.

    Args:
        path: Path of the file.
        entry: `tlkit.training.entry.Entry` whose rows it holds.
    """

    def __init__(self, path, entry):
        self.path, self._entry = path, entry
        self._shape = (entry.rows, *entry.row_shape)
        self._header = _header(self._shape)
        self._row_bytes = 4 * math.prod(entry.row_shape)

    @property
    def bytes(self):
        """The size of the file, the same from its beginning on."""
        return self._digest_at(self._entry.num_shards)

    def create(self):
        """Make the file, all of its space claimed and no shard there, unless it is there already."""
        if self.is_whole():
            return
        handle, name = tempfile.mkstemp(prefix=".rows-", suffix=".tmp", dir=self.path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _allocate(file.fileno(), self.bytes)
                file.write(self._header)
                file.truncate(self.bytes)
            temporary.chmod(0o644)
            temporary.replace(self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def is_whole(self):
        """Tell whether the file is there, with the header and the size that it must have."""
        try:
            with self.path.open("rb") as file:
                return self._is_whole(file)
        except FileNotFoundError:
            return False

    def digests(self):
        """Return the digest of each shard as bytes, `ABSENT` for those that are not there."""
        with self.path.open("rb") as file:
            return self._read_digests(file)

    def _is_whole(self, file):
        return os.fstat(file.fileno()).st_size == self.bytes and file.read(len(self._header)) == self._header

    def write(self, shard, array):
        """Write float32 `(rows of the shard, ...)` into the file; it counts from when all of it is there.

        It is not flushed to disk: what a power cut tears is found by its digest and can be computed anew.
        """
        rows = np.ascontiguousarray(array).reshape(-1)
        digest = self._digest_of(shard)
        digest.update(rows)
        with self.path.open("r+b") as file:
            self._write_digest(file, shard, ABSENT)
            file.seek(self._row_at(shard))
            file.write(rows)
            self._write_digest(file, shard, digest.digest())

    def forget(self, shards):
        """Take shards for absent from here on."""
        with self.path.open("r+b") as file:
            for shard in shards:
                self._write_digest(file, shard, ABSENT)

    def map(self):
        """Map the file after checking every byte of it.

        Returns:
            `(rows, damaged)`: read-only float32 array of all rows, None unless every shard is there and whole; and the
            numbers of the shards that are there and damaged.
        """
        with self.path.open("rb") as file:
            digests = self._read_digests(file)
            if ABSENT in digests:
                return None, []
            with ThreadPoolExecutor(usable_cpus()) as pool:
                found = pool.map(lambda shard: self._digest_on_disk(file.fileno(), shard), range(len(digests)))
                damaged = [shard for shard, digest in enumerate(found) if digest != digests[shard]]
            if damaged:
                return None, damaged
            return np.memmap(file, np.float32, "r", offset=len(self._header), shape=self._shape).view(np.ndarray), []

    def _read_digests(self, file):
        if not self._is_whole(file):
            return [ABSENT] * self._entry.num_shards
        file.seek(self._digest_at(0))
        table = file.read()
        return [table[start : start + DIGEST_BYTES] for start in range(0, len(table), DIGEST_BYTES)]

    def _write_digest(self, file, shard, digest):
        file.seek(self._digest_at(shard))
        file.write(digest)

    def _digest_on_disk(self, handle, shard):
        digest = self._digest_of(shard)
        start = self._row_at(shard)
        stop = start + self._entry.shard_shape(shard)[0] * self._row_bytes
        while start < stop:
            part = os.pread(handle, min(READ_BYTES, stop - start), start)
            if not part:
                return ABSENT
            digest.update(part)
            start += len(part)
        return digest.digest()

    def _digest_of(self, shard):
        return hashlib.sha256(f"{self._entry.name} {shard} ".encode())

    def _row_at(self, shard):
        return len(self._header) + shard * self._entry.shard_rows * self._row_bytes

    def _digest_at(self, shard):
        return len(self._header) + self._entry.bytes + shard * DIGEST_BYTES


def _allocate(handle, size):
    """Claim the space first, so that a full disk shows before anything is computed; not every system can."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise


def _header(shape):
    """Return the first bytes of the `.npy` file of a float32 array of this shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()
