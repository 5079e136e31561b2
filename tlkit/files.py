"""Read a file that somebody else may have written: a plain file, of a size that makes sense for what it is."""

import os
import stat

LARGEST_TEXT = 256 * 2**20  # bytes of a file of a run; the largest has a line for each image


def read_plain(path, limit, error):
    """Return the bytes of a plain file: no pipe that never ends, no device, nothing larger than it should be.

    Args:
        path: Its path.
        limit: The most bytes that it may have.
        error: The `TlkitError` to raise otherwise.

    Raises:
        OSError: If it can't be opened or read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise error(f"{path}: is no plain file. Expected one that holds data.")
        if found.st_size > limit:
            raise error(f"{path}: has {found.st_size} bytes. Expected at most {limit}.")
        return file.read(found.st_size)
