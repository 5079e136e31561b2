"""The feature store: rows of float32 features that are computed once and kept on disk for every later run.

An entry lies in `<folder>/<sha256 of its description>/`: `entry.json` says what it is, `00000.npy` and so on hold its
rows (see `tlkit.training.shards`). Any number of processes may read, write and evict at the same time.
"""

import contextlib
import json
import math
import os
import re
import shutil
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlkit.data.checks import cache_folder
from tlkit.run import usable_cpus, write_text
from tlkit.training.entry import DESCRIPTION, Entry, StoreError, name_of, what_of
from tlkit.training.memory import MemoryStore
from tlkit.training.shards import file_bytes, map_shard, write_shard
from tlkit.training.sizes import format_size, free_bytes, parse_size

__all__ = ["DiskStore", "EntryInfo", "MemoryStore", "StoreError", "default_size", "format_size", "parse_size"]

ENTRY_FILE = "entry.json"
ENTRY_NAME = re.compile("[0-9a-f]{64}")
DOOMED_NAME = re.compile(r"\.[0-9a-f]{64}-[0-9a-f]{32}")
DAY = 24 * 3600  # seconds; no shard takes so long to write: a temporary file of that age has lost its writer
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
        self._store = store
        self._unusable = set()  # shards that failed their check, some in folders from which they can't be deleted

    @property
    def file_bytes(self):
        """Bytes of all shard files."""
        if not self.num_shards:
            return 0
        first, last = (file_bytes(self.shard_shape(shard)) for shard in (0, self.num_shards - 1))
        return (self.num_shards - 1) * first + last

    def missing(self):
        """Return the numbers of the shards that must be computed; files are told by name, not read."""
        try:
            there = {path.name for path in self.path.iterdir()}
        except OSError:
            there = set()
        shards = range(self.num_shards)
        return [shard for shard in shards if shard in self._unusable or self._file(shard).name not in there]

    def make_room(self):
        """Reserve the entry's bytes, evicting entries that this store did not hand out, least recently used first.

        Raises:
            StoreError: If it can't fit, in which case as a rule nothing was evicted, or can't be written.
        """
        try:
            self._store.reserve(self)
            self._in_folder(lambda: None)
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
        try:
            self._in_folder(lambda: write_shard(self._file(shard), array))
        except OSError as error:
            self._store.release(self)
            raise _store_error(error, self.path) from error
        self._unusable.discard(shard)
        self._mark_used()

    def open(self):
        """Map all shards after checking every byte of them.

        Returns:
            list of read-only float32 arrays `(rows of the shard, ...)`, or None if a shard is missing or damaged. The
            damaged ones are noted and then listed by `missing`.
        """
        with ThreadPoolExecutor(usable_cpus()) as pool:
            arrays = list(pool.map(self._try_map, range(self.num_shards)))
        problems = {shard: text for shard, text in enumerate(arrays) if isinstance(text, str)}
        self._unusable = set(problems)
        for shard, text in problems.items():
            self._store.note(f"features: {shard:05} of {self.what} {text} and is computed anew")
        if not all(isinstance(array, np.ndarray) for array in arrays):
            return None
        self._mark_used()
        return arrays

    def _file(self, shard):
        return self.path / f"{shard:05}.npy"

    def _describe(self):
        """Make the folder and its `entry.json` where they are missing or damaged."""
        self.path.mkdir(parents=True, exist_ok=True)
        if _read_description(self.path) is None:
            record = {**self.description(), "created": datetime.now().astimezone().isoformat(timespec="seconds")}
            write_text(self.path / ENTRY_FILE, json.dumps(record, indent=2) + "\n")

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

    def _try_map(self, shard):
        """Return the mapped shard, None if it is missing, or text that says what is wrong with it."""
        path = self._file(shard)
        try:
            array = map_shard(path, self.shard_shape(shard))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return f"can't be read ({getattr(error, 'strerror', None) or error})"
        if array is None:
            with contextlib.suppress(OSError):
                path.unlink()
            return "is damaged"
        return array


class DiskStore:
    """Entries on disk, shared by all processes, that together take up to a limit.

    Args:
        folder: Where the entries lie, made when first written; None for the user's cache folder.
        max_bytes: The limit; None for `default_size(folder)`.
        note: Function that hears one line about each damaged shard and each eviction.
    """

    def __init__(self, folder=None, max_bytes=None, note=None):
        self.folder = Path(folder) if folder is not None else cache_folder() / "features"
        self.max_bytes = default_size(self.folder) if max_bytes is None else max_bytes
        self.note = note or (lambda text: None)
        self._handed_out = set()
        self._reserved = {}

    def entry(self, key, rows, row_shape, shard_rows):
        """Return the entry of this description, which nothing on disk need exist of; it won't be evicted from here.

        Args:
            key: JSON-able dict of all that the features depend on; `key["what"]` says it to people in one line.
            rows: Number of rows.
            row_shape: Shape of one row.
            shard_rows: Number of consecutive rows that are kept, written and checked together.

        Returns:
            `DiskEntry`.
        """
        entry = DiskEntry(self, key, rows, row_shape, shard_rows)
        self._handed_out.add(entry.name)
        return entry

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
        """Return the bytes that one run may fill: up to the limit, of what is free or can be evicted."""
        try:
            return min(self.max_bytes, free_bytes(self.folder) + self.used())
        except StoreError:
            return 0

    def clear(self, older_than_days=None):
        """Remove entries, and what killed processes left; those that other processes have mapped stay valid there.

        Args:
            older_than_days: Only entries that were not used for so many days; None for all.

        Returns:
            `(entries, bytes)` that were removed.

        Raises:
            StoreError: If the system refuses.
        """
        since = math.inf if older_than_days is None else time.time() - older_than_days * DAY
        old = [info for info in self.entries() if info.last_used.timestamp() < since]
        try:
            self._sweep()
            for info in old:
                self._remove(info.path)
        except OSError as error:
            raise _store_error(error, self.folder) from error
        return len(old), sum(info.bytes for info in old)

    def reserve(self, entry):
        """Do what `DiskEntry.make_room` says; an `OSError` passes through."""
        self.release(entry)
        self._sweep()
        infos = self.entries()
        on_disk = {info.path.name: info.bytes for info in infos}
        claims = {name: max(on_disk.get(name, 0), self._reserved.get(name, 0)) for name in self._handed_out}
        claims[entry.name] = entry.file_bytes
        to_write = sum(max(0, size - on_disk.get(name, 0)) for name, size in claims.items())
        others = [info for info in infos if info.path.name not in self._handed_out]
        self._evict(entry, sum(claims.values()), to_write, others)
        self._reserved[entry.name] = entry.file_bytes

    def release(self, entry):
        """Give up what was reserved for an entry that can't be written."""
        self._reserved.pop(entry.name, None)

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
        record = json.loads((path / ENTRY_FILE).read_text("utf-8"))
        description = {name: record[name] for name in DESCRIPTION}
        return description if name_of(description) == path.name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _store_error(error, path):
    return StoreError(f"{error.filename or path}: {error.strerror or error}")
