"""The feature store: rows of float32 features that are computed once and kept on disk for every later run.

An entry lies in `<folder>/<sha256 of its description>/`: `entry.json` says what it is, `rows.npy` holds its rows (see
`tlkit.training.rows_file`). Any number of processes may read, write and evict at the same time.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlkit.data.checks import cache_folder
from tlkit.files import read_plain
from tlkit.run import replacing
from tlkit.training.entry import DESCRIPTION, Entry, StoreError, name_of, what_of
from tlkit.training.memory import MemoryStore
from tlkit.training.rows_file import ABSENT, RowsFile
from tlkit.training.sizes import format_size, free_bytes

__all__ = ["DiskStore", "EntryInfo", "MemoryStore", "StoreError", "default_size"]

ENTRY_FILE, ROWS_FILE = "entry.json", "rows.npy"
ENTRY_NAME = re.compile("[0-9a-f]{64}")
DOOMED_NAME = re.compile(r"\.[0-9a-f]{64}-[0-9a-f]{32}")
DAY = 24 * 3600  # seconds; no shard takes so long to write: a temporary file of that age has lost its writer
LARGEST_DESCRIPTION = 2**20  # bytes of an entry.json
ATTEMPTS = 3  # at writing into a folder that other processes evict


class EntryInfo(NamedTuple):
    """What is known of an entry on disk; `key`, `rows` and `row_shape` are None if its `entry.json` is damaged."""

    path: Path
    key: dict | None
    bytes: int
    rows: int | None
    row_shape: tuple | None
    last_used: datetime

    @property
    def what(self):
        """One line that says what the features are of."""
        return what_of(self.key or {}, self.path.name)


class DiskEntry(Entry):
    """An entry of a `DiskStore`, made by `DiskStore.entry`."""

    def __init__(self, store, *description):
        super().__init__(*description)
        self.path = store.folder / self.name
        self._rows = RowsFile(self.path / ROWS_FILE, self)
        self._store = store
        self._unusable = set()  # damaged shards in a folder that can't be changed

    @property
    def file_bytes(self):
        """Bytes of the file with the rows."""
        return self._rows.bytes

    def missing(self):
        """Return the numbers of the shards that must be computed; the others are not checked for it."""
        try:
            digests = self._rows.digests()
        except OSError:
            digests = [ABSENT] * self.num_shards
        return [shard for shard, digest in enumerate(digests) if digest == ABSENT or shard in self._unusable]

    def claim(self):
        """Let this store evict the entry no more."""
        self._store.claimed.add(self.name)

    def make_room(self):
        """Claim the entry's bytes, evicting entries that this store has not claimed, least recently used first.

        Raises:
            StoreError: If it can't fit, in which case as a rule nothing was evicted, or can't be written.
        """
        try:
            self._store.reserve(self)
            if self._rows.path.exists() and not self._rows.is_whole():
                self._note_damage("all")
            self._in_folder(self._rows.create)
        except OSError as error:
            self._store.release(self)
            raise _store_error(error, self.path) from error

    def write(self, shard, array):
        """Keep one shard: it is there as a whole, or not at all.

        Args:
            shard: Number of the shard.
            array: float32 `(rows of this shard, ...)`.

        Raises:
            StoreError: If the system refuses: no space, a quota, no permission, a read-only place.
        """
        array = self.checked(shard, array)

        def write():
            self._rows.create()
            self._rows.write(shard, array)

        try:
            self._in_folder(write)
        except OSError as error:
            self._store.release(self)
            raise _store_error(error, self.path) from error
        self._unusable.discard(shard)
        self._mark_used()

    def open(self):
        """Map all rows after checking every byte of them.

        Returns:
            Read-only float32 array `(rows, ...)`, or None if a shard is missing or damaged. What is damaged is noted in
            one line and from then on missing.

        Raises:
            StoreError: If the system refuses to read or to map what is there.
        """
        try:
            if not self.rows:
                return np.zeros((0, *self.row_shape), np.float32)
            if self._unusable:
                return None
            rows, damaged = self._rows.map()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _store_error(error, self.path) from error
        if damaged:
            self._note_damage(
                "all" if len(damaged) == self.num_shards else f"{len(damaged)} of {self.num_shards} parts"
            )
            try:
                self._rows.forget(damaged)
            except OSError:
                self._unusable = set(damaged)
        if rows is not None:
            self._mark_used()
        return rows

    def _note_damage(self, part):
        self._store.note(f"features: {part} of {self.what} damaged on disk; computed anew")

    def _describe(self):
        """Make the folder and its `entry.json` where they are missing or damaged."""
        self.path.mkdir(parents=True, exist_ok=True)
        if _read_description(self.path) is None:
            record = {**self.description(), "created": datetime.now().astimezone().isoformat(timespec="seconds")}
            with replacing(self.path / ENTRY_FILE) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n", "utf-8", newline="\n")

    def _in_folder(self, action):
        """Call a function while the entry's folder is there; again if another process evicts it under our hands."""
        for attempt in range(ATTEMPTS):
            try:
                self._describe()
                return action()
            except (FileNotFoundError, FileExistsError):  # the latter: it was there, and is no folder any more
                if attempt == ATTEMPTS - 1:
                    raise
        return None

    def _mark_used(self):
        with contextlib.suppress(OSError):  # a store that can't be written is still good for reading
            if self.path.is_dir():
                self._describe()
                os.utime(self.path / ENTRY_FILE)


class DiskStore:
    """Entries on disk, shared by all processes, that together take up to a limit.

    Args:
        folder: Where the entries lie, made when first written; None for the user's cache folder.
        max_bytes: The limit; None for `default_size(folder)`.
        note: Function that hears one line about each damaged entry and each eviction.

    Attributes:
        claimed: Names of the entries that this store is using, and doesn't evict.
    """

    def __init__(self, folder=None, max_bytes=None, note=None):
        self.folder = Path(folder) if folder is not None else cache_folder() / "features"
        self.max_bytes = default_size(self.folder) if max_bytes is None else max_bytes
        self.note = note or (lambda text: None)
        self.claimed = set()
        self._reserved = {}

    def entry(self, key, rows, row_shape, shard_rows):
        """Return the entry of this description, which nothing on disk need exist of.

        Args:
            key: JSON-able dict of all that the features depend on; `key["what"]` says it to people in one line.
            rows: Number of rows.
            row_shape: Shape of one row.
            shard_rows: Number of consecutive rows that are kept, written and checked together.

        Returns:
            `DiskEntry`.
        """
        return DiskEntry(self, key, rows, row_shape, shard_rows)

    def entries(self):
        """Return an `EntryInfo` for each entry on disk, the last used first.

        Raises:
            StoreError: If the folder can't be read.
        """
        try:
            found = [_inspect(path) for path in self._folders() if ENTRY_NAME.fullmatch(path.name)]
        except OSError as error:
            raise _store_error(error, self.folder) from error
        return sorted((info for info in found if info), key=lambda info: info.last_used, reverse=True)

    def used(self):
        """Return the bytes of all files of all entries."""
        return sum(info.bytes for info in self.entries())

    def room(self):
        """Return the bytes that one run may fill: up to the limit, of what is free or can be evicted.

        Raises:
            StoreError: If nothing can be written there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise _store_error(error, self.folder) from error
        return min(self.max_bytes, free_bytes(self.folder) + self.used())

    def clear(self):
        """Remove all entries, and what killed processes left; those that other processes have mapped stay valid there.

        Returns:
            `(entries, bytes)` that were removed.

        Raises:
            StoreError: If the system refuses.
        """
        entries = self.entries()
        try:
            self._sweep()
            for info in entries:
                self._remove(info.path)
        except OSError as error:
            raise _store_error(error, self.folder) from error
        return len(entries), sum(info.bytes for info in entries)

    def reserve(self, entry):
        """Do what `DiskEntry.make_room` says; an `OSError` passes through."""
        self._sweep()
        infos = self.entries()
        on_disk = {info.path.name: info.bytes for info in infos}
        claims = {name: max(on_disk.get(name, 0), self._reserved.get(name, 0)) for name in self.claimed}
        claims[entry.name] = entry.file_bytes
        to_write = sum(max(0, size - on_disk.get(name, 0)) for name, size in claims.items())
        others = [info for info in infos if info.path.name not in claims]
        self._evict(entry, sum(claims.values()), to_write, others)
        self._reserved[entry.name] = entry.file_bytes
        entry.claim()

    def release(self, entry):
        """Give up what was reserved for an entry that can't be written."""
        self._reserved.pop(entry.name, None)
        self.claimed.discard(entry.name)

    def _evict(self, entry, claimed, to_write, others):
        """Remove `others` from their end until `claimed` fits the limit, and `to_write` the disk."""
        evictable = sum(info.bytes for info in others)
        if claimed > self.max_bytes:
            raise entry.too_large(f"the limit of {self.folder}", self.max_bytes - claimed + entry.file_bytes)
        if to_write > free_bytes(self.folder) + evictable:
            raise self._disk_full(entry)
        while claimed + evictable > self.max_bytes or to_write > free_bytes(self.folder):
            if not others:  # what was evicted is still mapped by a process, or others fill the disk
                raise self._disk_full(entry)
            info = others.pop()
            self._remove(info.path)
            evictable -= info.bytes
            self.note(f"features: removed {info.what} ({format_size(info.bytes)}) to make room")

    def _disk_full(self, entry):
        return entry.too_large(f"the disk of {self.folder}", free_bytes(self.folder))

    def _folders(self):
        try:
            with os.scandir(self.folder) as found:
                return [Path(item) for item in found if item.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []

    def _remove(self, path):
        """Take an entry away under a name that no process looks up, so that none sees half of it; then delete it."""
        doomed = self.folder / f".{path.name}-{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            path.rename(doomed)
            shutil.rmtree(doomed)

    def _sweep(self):
        """Delete what killed processes left: folders on their way out, and temporary files older than a day."""
        for folder in self._folders():
            if DOOMED_NAME.fullmatch(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
            elif ENTRY_NAME.fullmatch(folder.name):
                with contextlib.suppress(OSError):
                    for temporary in folder.glob(".*.tmp*"):
                        if time.time() - temporary.stat().st_mtime > DAY:
                            temporary.unlink()


def default_size(folder):
    """Return the limit in bytes for a store in `folder`: a quarter of what is free there or held by the store."""
    try:
        held = DiskStore(folder, max_bytes=0).used()
    except StoreError:
        held = 0
    return (free_bytes(folder) + held) // 4


def _inspect(path):
    """Return the `EntryInfo` of an entry's folder, or None if another process took it away."""
    size = 0
    try:
        last_used = path.stat().st_mtime
        with os.scandir(path) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # a temporary that was renamed meanwhile
                    size += file.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return None
    with contextlib.suppress(OSError):  # the folder's own time changes with every file that comes or goes
        last_used = (path / ENTRY_FILE).stat().st_mtime
    known = _read_description(path) or dict.fromkeys(DESCRIPTION)
    shape = None if known["row_shape"] is None else tuple(known["row_shape"])
    when = datetime.fromtimestamp(last_used).astimezone()
    return EntryInfo(path, known["key"], size, known["rows"], shape, when)


def _read_description(path):
    """Return what an `entry.json` says, or None unless it says what its folder is named after."""
    try:
        record = json.loads(read_plain(path / ENTRY_FILE, LARGEST_DESCRIPTION, StoreError))
        description = {name: record[name] for name in DESCRIPTION}
        numbers = (description["rows"], description["shard_rows"], *description["row_shape"])
        sound = all(type(number) is int and number >= 0 for number in numbers) and isinstance(description["key"], dict)
        return description if sound and name_of(description) == path.name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, StoreError):
        return None


def _store_error(error, path):
    return StoreError(f"{error.filename or path}: {error.strerror or error}")
