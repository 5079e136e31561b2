"""Faults on demand: a disk that is full or read-only from some call on, and memory that runs out."""

import contextlib
import errno
import io
import os
import tempfile
from pathlib import Path

import pytest

from tlkit.progress import Listener

CHANGING_CALLS = ("mkdir", "open", "chmod", "replace", "rename", "fsync")
REMOVING_CALLS = ("unlink", "rmdir")
CODES = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES]


class Notes(Listener):
    """Remembers what is said."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    def __contains__(self, text):
        return any(text in line for line in self.lines)


class FailingDisk:
    """Counts the calls that change what lies below a folder; from call `fail_at` on, all of them are refused.

    Args:
        folder: The folder; what lies elsewhere is left alone.
        fail_at: Number of the first call that is refused, from 0; None for none.
        code: The `errno` with which they are.
        once: Whether only that one call is refused.

    Attributes:
        calls: List of `(call, name of the file)`.
        refused: The same, of those that were.
    """

    def __init__(self, folder, fail_at=None, code=errno.ENOSPC, once=False):
        self.folder, self.code, self.once = Path(folder).absolute(), code, once
        self.fail_at = float("inf") if fail_at is None else fail_at
        self.calls, self.refused = [], []

    def __enter__(self):
        self._patch = pytest.MonkeyPatch()
        for name in CHANGING_CALLS:
            self._patch.setattr(os, name, self._wrap(name, getattr(os, name)))
        for name in REMOVING_CALLS if self.code in (errno.EROFS, errno.EACCES) else ():
            self._patch.setattr(os, name, self._wrap_removing(getattr(os, name)))
        opened = io.open

        def open_file(file, mode="r", *args, **kwargs):
            found = opened(file, mode, *args, **kwargs)
            writes = set(mode) & set("wax+") and not isinstance(file, int) and self._is_below(file)
            return _File(found, file, self._step) if writes else found

        self._patch.setattr(io, "open", open_file)
        return self

    def __exit__(self, *_):
        self._patch.undo()

    def _is_below(self, path):
        path = Path(os.fsdecode(path)).absolute()
        return path == self.folder or self.folder in path.parents

    def _step(self, call, path):
        number = len(self.calls)
        self.calls.append((call, Path(os.fsdecode(path)).name))
        if number == self.fail_at or (number > self.fail_at and not self.once):
            self.refused.append(self.calls[-1])
            raise OSError(self.code, os.strerror(self.code), os.fsdecode(path))

    def _wrap(self, name, function):
        def wrapped(path, *args, **kwargs):
            where = path
            if name == "fsync":
                where = Path(f"/proc/self/fd/{path}").readlink()
            changes = name != "open" or (args and args[0] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR))
            if changes and not isinstance(where, int) and self._is_below(where):
                self._step(name, where)
            return function(path, *args, **kwargs)

        return wrapped

    def _wrap_removing(self, function):
        """Removing frees space, so it counts for nothing, but fails where nothing may be changed any more."""

        def wrapped(path, *args, **kwargs):
            if self.refused and not self.once and self._is_below(path):
                raise OSError(self.code, os.strerror(self.code), os.fsdecode(path))
            return function(path, *args, **kwargs)

        return wrapped


class _File:
    def __init__(self, file, path, step):
        self._file, self._path, self._step = file, path, step

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __iter__(self):
        return iter(self._file)

    def write(self, data):
        self._step("write", self._path)
        return self._file.write(data)


def temporaries(folder):
    """Return all files and folders below a folder that only a write that goes on would have."""
    return list(Path(folder).rglob(".*"))


class Exhausted:
    """Memory that runs out at chosen calls of a method.

    Args:
        owner, name: Class and method; its calls are counted over all instances.
        at: Numbers of the calls that fail, from 0.
        after: Whether the method does its work first, so that what it changes is changed.

    Attributes:
        calls: How many calls there were.
    """

    def __init__(self, owner, name, at, after=False):
        self._owner, self._name, self._at, self._after = owner, name, set(at), after

    def __enter__(self):
        import tensorflow as tf

        method, self.calls = getattr(self._owner, self._name), 0

        def exhausted(instance, *args, **kwargs):
            fails, self.calls = self.calls in self._at, self.calls + 1
            answer = None if fails and not self._after else method(instance, *args, **kwargs)
            if fails:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return answer

        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(self._owner, self._name, exhausted)
        return self

    def __exit__(self, *_):
        self._patch.undo()


@contextlib.contextmanager
def hidden(path):
    """Move a file away for as long as the context lasts."""
    away = Path(tempfile.mkdtemp()) / path.name
    path.replace(away)
    try:
        yield
    finally:
        away.replace(path)
