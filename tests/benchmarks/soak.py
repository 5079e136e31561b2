"""What a long training leaves behind in its process: memory and open files, epoch by epoch.

Run:     python tests/benchmarks/soak.py [--epochs 5000] [--checkpoint-seconds 1] [--every 25]

A run of LeNet-5 on a hundred small pictures, 10 steps an epoch, with all that a run does: it validates and records each
epoch, keeps its best model on disk, and writes checkpoints. RssAnon and the number of open files are read every few
epochs, after a collection of garbage, since Python does a whole one seldom. The slope is that of the least squares
over all but the first tenth, through the means of eighteen blocks, with its standard error.
(Readings that follow each other stay on one level for hundreds of epochs, as the allocator has it, and their own
scatter would say that the slope is known better than it is.)
"""

import gc
import os
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from tlkit.progress import Listener

BLOCKS = 18


class Watch(Listener):
    """Reads after every so many epochs what the process holds."""

    def __init__(self, every):
        self._every, self._started = every, time.monotonic()
        self.epochs, self.anonymous, self.files = [], [], []

    def epoch_done(self, row, is_best):
        if (row["epoch"] + 1) % self._every:
            return
        gc.collect()
        self.epochs.append(row["epoch"] + 1)
        self.anonymous.append(anonymous_kib())
        self.files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        if len(self.epochs) % 10 == 0:
            seconds = time.monotonic() - self._started
            click.echo(f"epoch {self.epochs[-1]}: {self.anonymous[-1]} KiB, {self.files[-1]} files, {seconds:.0f} s")


def anonymous_kib():
    """Return the KiB of memory that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def slope(epochs, values):
    """Return the slope over all but the first tenth, through means of blocks, and its standard error."""
    warm = len(epochs) // 10
    x, y = (np.array([block.mean() for block in np.array_split(series[warm:], BLOCKS)]) for series in (epochs, values))
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
    watch = Watch(every)
    with tempfile.TemporaryDirectory() as folder:
        source = (images.astype(np.uint8), labels)
        run = finetune_recipe(read_recipe("default", (), settings), source, out=Path(folder) / "run", listener=watch)
        steps = int((run.path / "history.csv").read_text().splitlines()[-1].split(",")[2])
    click.echo(f"tlkit {tlkit.__version__}: {epochs} epochs of {steps // epochs} steps")
    for what, values, unit in (("RssAnon", watch.anonymous, "KiB"), ("open files", watch.files, "")):
        value, error = slope(watch.epochs, values)
        span = f"{values[len(values) // 10]} to {values[-1]} {unit}"
        click.echo(f"{what}: {span}, slope {value:.4f} ± {error:.4f} {unit} an epoch")


if __name__ == "__main__":
    main()
