"""Fuzz the feature store with entries that it didn't write: their description, and their rows."""

import json
from pathlib import Path

import numpy as np
from driver import fuzz

DESCRIPTION = b"D"  # what follows is an entry.json, filed under the name that it has; else the file of rows

ENTRY = {"key": {"what": "a test", "backbone": "x"}, "rows": 5, "row_shape": [2, 3], "shard_rows": 2}


def load():
    """Return what takes the bytes of a description or of a file of rows."""
    from tlkit.training.entry import name_of
    from tlkit.training.store import DiskStore

    folder = Path("store").resolve()
    store = DiskStore(folder, 10**9)
    entry = store.entry(*ENTRY.values())

    def read(data):
        if data[:1] == DESCRIPTION:
            name = _name(name_of, data[1:])
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "entry.json").write_bytes(data[1:])
        else:
            entry.path.mkdir(parents=True, exist_ok=True)
            (entry.path / "rows.npy").write_bytes(data)
            entry.missing()
            entry.open()
        for info in store.entries():
            str(info.what)
        store.clear()

    return read


def _name(name_of, data):
    try:
        return name_of(json.loads(data))
    except Exception:  # no description has that name; any will do
        return "0" * 64


def seeds():
    """Yield a description, and rows of which a part is there."""
    from tlkit.training.store import DiskStore

    entry = DiskStore(Path("seeds-store").resolve(), 10**9).entry(*ENTRY.values())
    entry.make_room()
    for shard in range(entry.num_shards):
        yield (entry.path / "rows.npy").read_bytes()
        entry.write(shard, np.ones(entry.shard_shape(shard), np.float32))
    yield (entry.path / "rows.npy").read_bytes()
    yield DESCRIPTION + json.dumps(ENTRY).encode()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.training.store", "tlkit.training.rows_file", "tlkit.training.entry"])
