"""What a long training leaves behind in its process: memory and open files, epoch by epoch.

Run:     python tests/benchmarks/soak.py [--epochs 5000] [--checkpoint-seconds 1] [--every 25]

A run of LeNet-5 on a hundred small pictures, 10 steps an epoch, with all that a run does: it validates and records each
epoch, keeps its best model on disk, and writes checkpoints. Every few epochs it reads, after a collection of garbage,
since Python does a whole one seldom:

- RssAnon: what the process holds of the machine;
- allocated: the part that malloc (glibc 2.33 or later) has given out and not got back, TensorFlow's and NumPy's arrays
  among it (the rest is code's data, Python's small objects, and free memory that malloc keeps);
- blocks: the number of Python's small objects;
- the open files.

malloc keeps little of what is free, so that RssAnon is what the training needs, under
`MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536 MALLOC_TOP_PAD_=0`.

The slope is that of the least squares, through the means of eighteen blocks, with its standard error: over all but the
first tenth, and over the last half.
(Readings that follow each other stay on one level for hundreds of epochs, as the allocator has it, and their own
scatter would say that the slope is known better than it is.)
"""

import ctypes
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from tlkit.progress import Listener

BLOCKS = 18
MALLINFO2 = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class Watch(Listener):
    """Reads after every so many epochs what the process holds, into arrays that it has from the start."""

    def __init__(self, epochs, every):
        self._every, self._started = every, time.monotonic()
        self.epochs = np.arange(every, epochs + 1, every, dtype=float)
        self.readings = {name: np.zeros(len(self.epochs)) for name in READERS}

    def epoch_done(self, row, is_best):
        position, rest = divmod(row["epoch"] + 1, self._every)
        if rest:
            return
        gc.collect()
        for name, read in READERS.items():
            self.readings[name][position - 1] = read()
        if position % 10 == 0:
            now = ", ".join(f"{name} {values[position - 1]:.0f}" for name, values in self.readings.items())
            click.echo(f"epoch {row['epoch'] + 1}, {time.monotonic() - self._started:.0f} s: {now}")


def anonymous_kib():
    """Return the KiB of memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def allocated_kib():
    """Return the KiB that malloc has given out and not got back, in all of its arenas."""
    counts = malloc_counts()
    return (counts.uordblks + counts.hblkhd) / 1024


class MallocCounts(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO2]


malloc_counts = ctypes.CDLL(None).mallinfo2
malloc_counts.restype = MallocCounts

READERS = {
    "RssAnon, KiB": anonymous_kib,
    "allocated, KiB": allocated_kib,
    "blocks": sys.getallocatedblocks,
    "open files": lambda: len(os.listdir("/proc/self/fd")),  # noqa: PTH208
}


def slope(epochs, values):
    """Return the slope through means of blocks, and its standard error."""
    x, y = (np.array([block.mean() for block in np.array_split(series, BLOCKS)]) for series in (epochs, values))
    x -= x.mean()
    value = (x * y).sum() / (x * x).sum()
    residual = y - y.mean() - value * x
    return value, np.sqrt((residual**2).sum() / (BLOCKS - 2) / (x * x).sum())


@click.command()
@click.option("--epochs", default=5000)
@click.option("--checkpoint-seconds", default=1.0)
@click.option("--every", default=25)
def main(epochs, checkpoint_seconds, every):
    """Train and watch."""
    if epochs // every < 2 * BLOCKS:
        raise click.UsageError(f"--epochs {epochs}, --every {every}: {2 * BLOCKS} readings are needed for a slope")
    import tlkit
    from tlkit.api import finetune_recipe
    from tlkit.recipe import read_recipe

    random = np.random.default_rng(0)
    labels = np.arange(112) % 2
    images = np.clip(labels[:, None, None, None] * 60 + random.normal(90, 30, (112, 32, 32, 3)), 0, 255)
    settings = {
        "data.batch_size": 8,
        "data.image_size": 32,
        "data.augment": "light",
        "backbone": {"name": "lenet5", "weights": "none"},
        "head.init": "random",
        "training.cache": "off",
        "training.checkpoint_seconds": checkpoint_seconds,
        "stages": [{"unfreeze": "all", "epochs": epochs, "learning_rate": 1e-3}],
    }
    watch = Watch(epochs, every)
    with tempfile.TemporaryDirectory() as folder:
        source = (images.astype(np.uint8), labels)
        run = finetune_recipe(read_recipe("default", (), settings), source, out=Path(folder) / "run", listener=watch)
        steps = int((run.path / "history.csv").read_text().splitlines()[-1].split(",")[2])
    click.echo(f"tlkit {tlkit.__version__}: {epochs} epochs of {steps // epochs} steps")
    count = len(watch.epochs)
    for name, values in watch.readings.items():
        click.echo(f"{name}: {values[count // 10]:.0f} to {values[-1]:.0f}")
        for part, first in (("all but the first tenth", count // 10), ("the last half", count // 2)):
            value, error = slope(watch.epochs[first:], values[first:])
            click.echo(f"    slope over {part}: {value:.4f} ± {error:.4f} an epoch")


if __name__ == "__main__":
    main()
