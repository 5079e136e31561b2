"""What an entry of a feature store is: its description, its name, and how its rows are cut into shards."""

import hashlib
import json
import math

import numpy as np

from tlkit.training.sizes import format_size

DESCRIPTION = ("key", "rows", "row_shape", "shard_rows")


class StoreError(Exception):
    """Features can't be kept here; the text is one line that says why."""


class Entry:
    """The arithmetic that all entries share.

    Attributes:
        key: The key as JSON gives it back.
        name: Hexadecimal SHA-256 of key, rows, row shape and shard size.
        num_shards: Number of shards; the last one may be shorter.
        bytes: Bytes of all rows.
    """

    def __init__(self, key, rows, row_shape, shard_rows):
        if rows < 0 or shard_rows < 1:
            raise ValueError(f"`rows` must be 0 or more, `shard_rows` 1 or more. Received: {rows=}, {shard_rows=}")
        self.key = json.loads(canonical(key))
        self.rows, self.row_shape, self.shard_rows = int(rows), tuple(map(int, row_shape)), int(shard_rows)
        self.name = name_of(self.description())
        self.num_shards = math.ceil(self.rows / self.shard_rows)
        self.bytes = self.rows * math.prod(self.row_shape) * np.dtype(np.float32).itemsize

    @property
    def what(self):
        """One line that says what the features are of."""
        return what_of(self.key, self.name)

    def shard_shape(self, shard):
        """Return the shape of shard number `shard`, `(rows, ...)`."""
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"`shard` must be in [0, {self.num_shards}). Received: shard={shard}")
        return (min(self.shard_rows, self.rows - shard * self.shard_rows), *self.row_shape)

    def description(self):
        """Return the JSON-able dict that the entry is named after."""
        return {name: getattr(self, name) for name in DESCRIPTION}

    def checked(self, shard, array):
        """Return `array` if it can be shard number `shard`; else raise `ValueError`."""
        array, shape = np.asarray(array), self.shard_shape(shard)
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"shard {shard} must be float32 {shape}. Received: {array.dtype} {array.shape}")
        return array

    def too_large(self, where, left):
        """Return the `StoreError` for a place that has only `left` bytes."""
        return StoreError(f"{self.what} takes {format_size(self.bytes)}, {where} leaves {format_size(max(0, left))}")


def canonical(value):
    """Return the one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def name_of(description):
    """Return the hexadecimal SHA-256 of a description, but for `key["what"]`, which is only for people."""
    key = {name: value for name, value in description["key"].items() if name != "what"}
    description = description | {"key": key}
    return hashlib.sha256(canonical(description).encode()).hexdigest()


def what_of(key, name):
    """Return the one line that `key["what"]` says to people, whatever bytes the names in it have."""
    text = str(key.get("what", f"entry {name[:12]}")).encode(errors="backslashreplace").decode()
    return " ".join(text.split())
