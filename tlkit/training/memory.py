"""The feature store of one process: what `tlkit.training.store` keeps on disk, in memory."""

from dataclasses import dataclass, field

import numpy as np

from tlkit.training.entry import Entry, StoreError


class MemoryEntry(Entry):
    """An entry of a `MemoryStore`: the interface of `DiskEntry`, the arrays in memory."""

    def __init__(self, store, *description):
        super().__init__(*description)
        self._store = store

    def missing(self):
        """Return the numbers of the shards that must be computed."""
        held = self._store.find(self)
        return sorted(set(range(self.num_shards)) - (held.shards if held else set()))

    def claim(self):
        """Do nothing: nothing is evicted from memory."""

    def make_room(self):
        """Reserve the entry's bytes.

        Raises:
            StoreError: If they don't fit the store's limit.
        """
        self._store.reserve(self)

    def write(self, shard, array):
        """Keep a copy of one shard, float32 `(rows of this shard, ...)`.

        Raises:
            StoreError: If memory is exhausted.
        """
        array = self.checked(shard, array)
        held = self._store.hold(self)
        start = shard * self.shard_rows
        held.rows[start : start + len(array)] = array
        held.shards.add(shard)

    def open(self):
        """Return all rows as a read-only float32 array, or None if a shard is missing."""
        if self.missing():
            return None
        rows = self._store.hold(self).rows.view()
        rows.flags.writeable = False
        return rows


@dataclass
class _Held:
    """What is held of an entry: its rows, and the numbers of the shards of them that are there."""

    rows: np.ndarray
    shards: set = field(default_factory=set)


class MemoryStore:
    """Entries in memory, up to `max_bytes`; those of equal description share their array."""

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self._held = {}

    def entry(self, key, rows, row_shape, shard_rows):
        """Return the `MemoryEntry` of this description; the arguments are those of `DiskStore.entry`."""
        return MemoryEntry(self, key, rows, row_shape, shard_rows)

    def used(self):
        """Return the bytes that are held."""
        return sum(held.rows.nbytes for held in self._held.values())

    def reserve(self, entry):
        """Do what `MemoryEntry.make_room` says."""
        left = self.max_bytes - self.used()
        if entry.name not in self._held and entry.bytes > left:
            raise entry.too_large("the limit in memory", left)
        self.hold(entry)

    def find(self, entry):
        """Return the `_Held` of this description, or None."""
        return self._held.get(entry.name)

    def hold(self, entry):
        """Return the `_Held` that entries of this description share, made if it isn't there."""
        if entry.name not in self._held:
            try:
                self._held[entry.name] = _Held(np.empty((entry.rows, *entry.row_shape), np.float32))
            except MemoryError as error:
                raise StoreError(f"{entry.what}: memory is exhausted") from error
        return self._held[entry.name]
