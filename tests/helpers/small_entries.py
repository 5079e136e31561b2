"""A small entry of a feature store, and what it holds when it is filled."""

import numpy as np

ROWS, ROW_SHAPE, SHARD_ROWS = 10, (3, 2), 4
KEY = {"what": "tiny, pooled, view 0 of photos", "weights": "abc", "size": 32}
FEATURES = np.random.default_rng(0).normal(size=(ROWS, *ROW_SHAPE)).astype("float32")
ROOM = 695  # bytes: one entry fits, `entry.json` included, and two do not; nor do the rows of three in twice that


def entry_of(store, **key):
    return store.entry({**KEY, **key}, ROWS, ROW_SHAPE, SHARD_ROWS)


def fill(entry):
    for shard in entry.missing():
        entry.write(shard, FEATURES[shard * SHARD_ROWS :][:SHARD_ROWS])
    return entry


def holds_the_features(entry):
    rows = entry.open()
    return rows is not None and np.array_equal(rows, FEATURES)
