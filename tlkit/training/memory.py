"""The feature store of one process: what `tlkit.training.store` keeps on disk, in memory."""

import numpy as np

from tlkit.training.entry import Entry, StoreError, canonical


class MemoryEntry(Entry):
    """An entry of a `MemoryStore`: the interface of `DiskEntry`, the arrays in memory."""

    def __init__(self, store, *description):
        super().__init__(*description)
        self._store = store

    def missing(self):
        """Return the numbers of the shards that must be computed."""
        return [shard for shard in range(self.num_shards) if shard not in self._store.shards(self)]

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
        try:
            kept = np.array(self.checked(shard, array), order="C")
        except MemoryError as error:
            raise StoreError(f"{self.what}: memory is exhausted") from error
        kept.flags.writeable = False
        self._store.shards(self)[shard] = kept

    def open(self):
        """Return the shards as read-only float32 arrays, or None if one is missing."""
        shards = self._store.shards(self)
        return None if self.missing() else [shards[shard] for shard in range(self.num_shards)]


class MemoryStore:
    """Entries in memory, up to `max_bytes`; those of equal description share their arrays."""

    def __init__(self, max_bytes):
        self.max_bytes = max_bytes
        self._shards, self._reserved, self._keys = {}, {}, {}

    def entry(self, key, rows, row_shape, shard_rows):
        """Return the `MemoryEntry` of this description; the arguments are those of `DiskStore.entry`."""
        return MemoryEntry(self, key, rows, row_shape, shard_rows)

    def used(self):
        """Return the bytes that are reserved or held."""
        held = {name: sum(array.nbytes for array in shards.values()) for name, shards in self._shards.items()}
        return sum(max(held.get(name, 0), self._reserved.get(name, 0)) for name in {*held, *self._reserved})

    def forget(self, keep_keys=()):
        """Drop all entries but those of the keys `keep_keys`; arrays that were opened live on where they are used."""
        kept = {canonical(key) for key in keep_keys}
        for name in [name for name, key in self._keys.items() if key not in kept]:
            for table in (self._keys, self._shards, self._reserved):
                table.pop(name, None)

    def reserve(self, entry):
        """Do what `MemoryEntry.make_room` says."""
        self._keys[entry.name] = canonical(entry.key)
        self._reserved[entry.name] = entry.bytes
        if (used := self.used()) > self.max_bytes:
            del self._reserved[entry.name]
            raise entry.too_large("the limit in memory", self.max_bytes - used + entry.bytes)

    def shards(self, entry):
        """Return the dict of shard number to array that entries of this description share."""
        self._keys[entry.name] = canonical(entry.key)
        return self._shards.setdefault(entry.name, {})
