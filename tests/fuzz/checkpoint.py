"""Fuzz the reader of checkpoints: an archive of arrays, and the header that is one of them."""

import io
import json
from pathlib import Path

import numpy as np
from driver import fuzz

HEADER = b"H"  # what follows is the header of an archive; else the archive

IDENTITY = {"data": "0" * 64}


def _archive(header):
    from tlkit.training.sealed import write_sealed

    arrays = {"state": np.frombuffer(header, np.uint8), "variables/0": np.ones((2, 3), "float32")}
    stream = io.BytesIO()
    write_sealed(stream, arrays | {"optimizer/0": np.zeros(1), "best_figures/0": np.ones(4)})
    return stream.getvalue()


def _header():
    state = {"stage": 0, "epoch": 1, "step": 2, "begun": True, "history": [{"stage": 0, "loss": 0.5}]}
    return json.dumps({"identity": IDENTITY, "state": state}).encode()


def load():
    """Return what takes the bytes of a checkpoint or of its header."""
    from tlkit.training.checkpoint import Checkpoint

    checkpoint = Checkpoint(Path("checkpoint").resolve(), IDENTITY, 60)
    checkpoint.path.parent.mkdir(exist_ok=True)

    def read(data):
        checkpoint.path.write_bytes(_archive(data[1:]) if data[:1] == HEADER else data)
        checkpoint.load()

    return read


def seeds():
    """Yield small valid files."""
    yield _archive(_header())
    yield HEADER + _header()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.training.checkpoint", "tlkit.training.sealed"])
