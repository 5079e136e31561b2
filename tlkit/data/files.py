"""Files that somebody else put there: read whole, but neither waited for nor allowed to fill the memory."""

import os
import stat
import threading
from contextlib import contextmanager, nullcontext

from tlkit.data.headers import DecodeError, looks_like_image, read_header

MAX_BYTES = 2**30
LARGE_BYTES = 2**26  # a file above that is read while no other of them is
LARGE_PIXELS = 64_000_000  # and a picture above that is decoded while no other of them is

_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
_turn = threading.RLock()


def in_turn(large):
    """Return a context that only one thread at a time may enter with something large; others are let through."""
    return _turn if large else nullcontext()


@contextmanager
def open_file(path):
    """Open a regular file for reading: a pipe would be waited for, and a device may do something when it is opened.

    Raises:
        DecodeError: If it is something else.
        OSError: If it can't be opened.
    """
    _refuse_special(os.stat(path))  # noqa: PTH116
    with open(path, "rb", opener=_open_at_once) as file:
        _refuse_special(os.fstat(file.fileno()))
        yield file


def read_file(path):
    """Return the bytes of an image file.

    Raises:
        DecodeError: If it is no regular file, has more than 1 GiB, or is large and no image.
        OSError: If it can't be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise DecodeError(f"absurdly large: more than {MAX_BYTES >> 20} MiB")
        with in_turn(size > LARGE_BYTES):
            if size > LARGE_BYTES and not looks_like_image(start := file.peek(64)[:64]):
                read_header(start)  # says what is wrong
            return file.read(size + 1)  # what grows meanwhile, as the system's own files do, is no image


def file_size(path):
    """Return the bytes of the file at a path, 0 if there is no telling."""
    try:
        return os.stat(path).st_size  # noqa: PTH116
    except OSError:
        return 0


def is_file(path):
    """Tell whether a regular file is at a path; no file is at one that the system refuses."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _refuse_special(status):
    if not stat.S_ISREG(status.st_mode):
        what = next((name for test, name in _KINDS if test(status.st_mode)), "a device")
        raise DecodeError(f"not a file but {what}")


def _open_at_once(path, flags):
    """Open without waiting for somebody to write, should a pipe have taken the file's place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
