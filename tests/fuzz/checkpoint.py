"""Fuzz the reader of checkpoints: an archive of arrays, and the header that is one of them."""

import io
import tempfile
from pathlib import Path

import numpy as np
from driver import fuzz

HEADER = b"H"  # what follows is the header of an archive; else the archive

IDENTITY = {"data": "0" * 64}


def _archive(header):
    from tlkit.training.sealed import write_sealed

    arrays = {"state": np.frombuffer(header, np.uint8), "variables/0": np.ones((2, 3), "float32")}
    arrays |= {"history": np.zeros((1, 8)), "optimizer/0": np.zeros(1), "best_figures/0": np.ones(4)}
    stream = io.BytesIO()
    write_sealed(stream, arrays)
    return stream.getvalue()


def _header():
    """Return the header of a whole state, as it is saved."""
    from tlkit.training.checkpoint import Checkpoint, TrainingState
    from tlkit.training.sealed import read_sealed

    row = {"stage": 0, "epoch": 0, "val_loss": 0.5, "val_accuracy": 0.5}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(folder, IDENTITY, 60)
        checkpoint.save(TrainingState(epoch=1, step=2, begun=True, best=row, best_figures=[np.ones(4)]))
        return read_sealed(checkpoint.path)["state"].tobytes()


def load():
    """Return what takes the bytes of a checkpoint or of its header."""
    from tlkit.training.checkpoint import Checkpoint
    from tlkit.training.history import COLUMNS

    checkpoint = Checkpoint(Path("checkpoint").resolve(), IDENTITY, 60)
    checkpoint.path.parent.mkdir(exist_ok=True)

    def read(data):
        checkpoint.path.write_bytes(_archive(data[1:]) if data[:1] == HEADER else data)
        state = checkpoint.load()
        state.history.append(dict.fromkeys(COLUMNS, 0.5))

    return read


def seeds():
    """Yield small valid files."""
    yield _archive(_header())
    yield HEADER + _header()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.training.checkpoint", "tlkit.training.history", "tlkit.training.sealed"])
