"""A folder in which one process works at a time: a lock that dies with its holder."""

import contextlib
import fcntl
import os
import time
import weakref
from pathlib import Path

from tlkit.errors import RunError, WriteError

FILE = ".lock"
PAUSE = 0.05  # seconds between two attempts


class Lock:
    """Hold a lock until `release`, or until this process ends in whatever way.

    Only those who take it heed it: what is in the folder can be read all the time. Where the file system knows no
    locks, nothing is held and nothing refused.

    Args:
        path: `pathlib.Path` of the lock's file, which says which process holds it, and goes when it is released.
        what: What the holder works on, as in "this run".
        patience: Seconds for which a holder is waited for that may be about to end.

    Raises:
        RunError: If another process holds it, in one line that names that process.
        WriteError: If the file can't be made.
    """

    def __init__(self, path, what, patience=0.0):
        path, until = Path(path), time.monotonic() + patience
        while (handle := _take(path)) is None:
            if time.monotonic() >= until:
                raise RunError(
                    f"{path.parent}: another process{_holder(path)} works on {what}. Wait for it, or stop it."
                )
            time.sleep(PAUSE)
        self.release = weakref.finalize(self, _let_go, path, handle)


def _take(path):
    """Return the handle of the locked file, or None if another holds it."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise WriteError(path, error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # no locks here
            return handle
        if _is_named(path, handle):
            with contextlib.suppress(OSError):  # a full disk: then nobody learns the number
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
            return handle
        os.close(handle)


def _is_named(path, handle):
    """Tell whether the file is still there by its name: its last holder may have removed it after it was opened."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _holder(path):
    """Return the number of the process that holds a lock, as it is said of it; nothing where it isn't known."""
    try:
        with path.open("rb") as file:
            number = file.read(20).decode("ascii", "replace")
    except OSError:
        return ""
    return f" ({number})" if number.isdecimal() else ""


def _let_go(path, handle):
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(handle)
