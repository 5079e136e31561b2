"""Fuzz the reader of `.keras` files: the archive, its configuration and its arrays, each in turn."""

import json
import os
from pathlib import Path

from driver import fuzz

ARCHIVE, CONFIG, WEIGHTS = b"A", b"C", b"W"  # the first byte says what the others are


def load():
    """Return what takes the bytes of an archive, of a configuration or of an HDF5 file."""
    from small_files import keras_file

    from tlkit.models.reader import read_model

    def read(data):
        kind, data = data[:1], data[1:]
        if kind == CONFIG:
            data = keras_file(config=data)
        elif kind == WEIGHTS:
            data = keras_file(weights=data)
        path = Path(f"fuzzed-{os.getpid()}.keras").resolve()
        path.write_bytes(data)
        read_model(path)

    return read


def seeds():
    """Yield small valid files."""
    from small_files import dense_config, functional, hdf5, keras_file, part

    yield ARCHIVE + keras_file()
    yield WEIGHTS + hdf5()
    yield CONFIG + json.dumps(dense_config(), separators=(",", ":")).encode()
    activation = part("Activation", inputs=["image"], activation="relu")
    yield CONFIG + json.dumps(functional(activation, part("Dense", inputs=["activation"], units=3))).encode()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.models.reader"], {"timeout": 120})
