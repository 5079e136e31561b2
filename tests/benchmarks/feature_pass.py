"""What the one feature pass costs and saves: a table of ratios whose parts were timed side by side in one process.

Run:     python tests/benchmarks/feature_pass.py DATA... [--backbone NAME] [--weights FILE] [--image-size 224]
         [--views 1,2,4] [--epochs 20] [--off-epochs N] [--repeats 3] [--measure head,blocks,throughput]
Data:    any folder that `tlkit finetune` takes; `tests/benchmarks/datasets.py cifar10 5000 OUT` lays one out.

head        A head stage with its features kept, from the model on (folding, passes, training), beside its parts, each
            timed alone: K passes over the training images, one over the validation images, both with what was folded
            before, and Keras's own `fit` of the bare head on arrays in memory. And the same stage without a cache; with
            --off-epochs, from so many of its epochs, all of which cost the same.
blocks      An epoch with two blocks unfrozen, kept and not, beside the ceiling t_full / (t_full - t_prefix).
throughput  The pass beside the bare folded graph fed from memory, and decoding and augmenting alone beside that.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import click
import keras
import numpy as np

from tlkit.api import build_model, load_data
from tlkit.data.pipeline import Views, view_batches
from tlkit.models.assemble import cut
from tlkit.models.backbones import block_ends
from tlkit.models.chain import Chain
from tlkit.progress import Listener
from tlkit.recipe_keys import Stage
from tlkit.training.cache import CachePlan
from tlkit.training.checkpoint import Checkpoint, TrainingState
from tlkit.training.features import Features, KeptFeatures
from tlkit.training.fit import Training
from tlkit.training.interrupt import StopRequest
from tlkit.training.store import DiskStore

BATCH = 32


class Bench:
    """A backbone on a data set: each method measures one thing, once, in seconds."""

    def __init__(self, source, backbone, weights, image_size):
        self.data = load_data(source)
        self.model = build_model(backbone, self.data.tasks, weights=weights, image_size=image_size)
        self.ends = block_ends(self.model)
        self.image_size = image_size
        self.start = [
            keras.ops.convert_to_numpy(variable).copy() for variable in self.model.variables
        ]  # the states of Dropout among them
        self.chain = Chain(self.model, self.ends, self.data.tasks, BATCH)
        self.train, self.val = self.data.indices("train"), self.data.indices("val")

    def views(self, count=1):
        """Return the data's views, `count` training views of each image."""
        return Views(self.data, image_size=self.image_size, augment="light", count=count, seed=0)

    def fresh_chain(self):
        """Return a chain that must fold its segments again, as a run must."""
        self.reset()
        return Chain(self.model, self.ends, self.data.tasks, BATCH)

    def reset(self):
        """Put the model back to where it started."""
        for variable, value in zip(self.model.variables, self.start, strict=True):
            variable.assign(value)

    def measure_pass(self, chain, view, pool, unfreeze=0):
        """Compute one view's features into an empty store."""
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            kept = KeptFeatures(DiskStore(folder), chain, view, self.data, pool, {})
            position = chain.position(unfreeze)
            for _ in kept.ensure([position], position, Listener()):
                pass
            return time.monotonic() - started, kept.rows(position, pool)

    def measure_prefix(self, view, pool, unfreeze):
        """Compute one view's features and keep nothing, as an epoch without a cache does."""
        position = self.chain.position(unfreeze)
        started = time.monotonic()
        for batch in view_batches(view, pool, BATCH):
            self.chain.run(batch, 0, [position])
        return time.monotonic() - started

    def measure_bare_head(self, train, val, epochs):
        """Let Keras fit the head on features in memory."""
        self.reset()
        _, suffix = cut(self.model, self.ends, 0, self.data.tasks)
        loss = {"label": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
        suffix.compile("adam", loss, metrics={"label": "accuracy"}, jit_compile=False)
        labels = {"label": self.data.labels["label"][self.train]}
        held_out = val, {"label": self.data.labels["label"][self.val]}
        started = time.monotonic()
        suffix.fit(train, labels, batch_size=BATCH, epochs=epochs, validation_data=held_out, verbose=0)
        return time.monotonic() - started

    def measure_stage(self, stage, keep, views=1):
        """Train one stage as `tlkit finetune` does; return seconds, seconds of each epoch, and validation accuracy."""
        self.reset()
        position = self.fresh_chain().position(stage.unfreeze)
        kept = frozenset({position} if keep else ())
        with tempfile.TemporaryDirectory() as folder:
            features = Features(
                self.data,
                self.views(views),
                batch_size=BATCH,
                seed=0,
                epochs=stage.epochs,
                plan=CachePlan("disk", kept, kept),
                store=DiskStore(folder) if keep else None,
                engine={},
            )
            training = Training(self.model, [stage], ends=self.ends, tasks=self.data.tasks, features=features)
            ends = []
            started = time.monotonic()
            training.run(
                TrainingState(),
                checkpoint=Checkpoint(folder, {}, 30),
                listener=Listener(),
                stop=StopRequest(),
                on_epoch=lambda state: ends.append((time.monotonic(), state.history[-1]["val_accuracy"])),
            )
            total = time.monotonic() - started
        times = np.diff([started, *(moment for moment, _ in ends)])
        return total, times.tolist(), ends[-1][1]

    def measure_rates(self, batches=16):
        """Return images a second: the pass, the bare folded graph fed from memory, decoding and augmenting alone."""
        position, view = self.chain.position(0), self.views().training(0)
        images = self.train[: batches * BATCH]
        held = list(view_batches(view, images, BATCH))
        self.chain.run(held[0], 0, [position])  # folds
        started = time.monotonic()
        for batch in held:
            self.chain.run(batch, 0, [position])
        computed = time.monotonic()
        for _ in view_batches(view, images, BATCH):
            pass
        decoded = time.monotonic()
        passed, _ = self.measure_pass(self.chain, view, images)
        return tuple(len(images) / seconds for seconds in (passed, computed - started, decoded - computed))


def measure_head(bench, epochs, repeats, all_views, off_epochs):
    """Yield a row of figures for each number of views: the stage over its parts, and without a cache over with one."""
    stage = Stage(unfreeze=0, epochs=epochs, learning_rate=3e-3)
    kept = {views: [] for views in all_views}
    passes, validations, heads, off = [], [], [], []
    bench.measure_pass(bench.chain, bench.views().evaluation(), bench.val[:BATCH])  # folds
    for _ in range(repeats):
        train_seconds, train = bench.measure_pass(bench.chain, bench.views().training(0), bench.train)
        val_seconds, val = bench.measure_pass(bench.chain, bench.views().evaluation(), bench.val)
        passes.append(train_seconds)
        validations.append(val_seconds)
        heads.append(bench.measure_bare_head(train, val, epochs))
        for views in all_views:
            kept[views].append(bench.measure_stage(stage, keep=True, views=views))
        streamed = bench.measure_stage(stage.model_copy(update={"epochs": off_epochs or epochs}), keep=False)
        off.append(streamed[0] * epochs / (off_epochs or epochs))
    for views, stages in kept.items():
        seconds = median(stage[0] for stage in stages)
        parts = views * median(passes) + median(validations) + median(heads)
        yield {
            "K": views,
            "stage s": seconds,
            "parts s": parts,
            "stage / parts": seconds / parts,
            "off s": median(off),
            "off / stage": median(off) / seconds,
            "val accuracy": stages[0][2],
            "val accuracy off, K = 1": streamed[2] if not off_epochs else None,
        }


def measure_blocks(bench, epochs, repeats):
    """Yield how much faster an epoch with two blocks unfrozen is, beside the ceiling."""
    stage = Stage(unfreeze=2, epochs=epochs, learning_rate=3e-4)
    kept, streamed, passes = [], [], []
    bench.measure_prefix(bench.views().evaluation(), bench.val[:BATCH], unfreeze=2)  # folds
    for _ in range(repeats):
        kept += bench.measure_stage(stage, keep=True)[1][1:]  # the first epoch makes the pass
        streamed += bench.measure_stage(stage, keep=False)[1][1:]
        seconds = [
            bench.measure_prefix(view, pool, unfreeze=2)
            for view, pool in ((bench.views().training(0), bench.train), (bench.views().evaluation(), bench.val))
        ]
        passes.append(sum(seconds))
    t_kept, t_full, t_prefix = median(kept), median(streamed), median(passes)
    ceiling = t_full / (t_full - t_prefix)
    yield {
        "epoch s": t_kept,
        "epoch off s": t_full,
        "prefix s": t_prefix,
        "off / kept": t_full / t_kept,
        "ceiling": ceiling,
        "share of ceiling": t_full / t_kept / ceiling,
    }


def measure_throughput(bench, repeats):
    """Yield the rates of the pass, of the bare graph and of decoding alone, in images a second."""
    rates = [bench.measure_rates() for _ in range(repeats)]
    passed, bare, decoded = (median(rate) for rate in zip(*rates, strict=True))
    yield {
        "pass /s": passed,
        "bare graph /s": bare,
        "decode + augment /s": decoded,
        "pass / bare": passed / bare,
        "decode / bare": decoded / bare,
    }


def numbers(_context, _parameter, text):
    """Read `"1,2,4"`."""
    return [int(number) for number in text.split(",")]


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--backbone", default="efficientnet_lite0")
@click.option("--weights", default="imagenet")
@click.option("--image-size", default=224)
@click.option("--views", default="1,2,4", callback=numbers, help="Training views of each image.")
@click.option("--epochs", default=20)
@click.option("--off-epochs", default=0, help="Epochs to measure without a cache; 0 for all.")
@click.option("--repeats", default=3)
@click.option("--measure", default="head,blocks,throughput")
def main(sources, backbone, weights, image_size, views, epochs, off_epochs, repeats, measure):
    """Print a table for each measure and data set."""
    measures = {
        "head": lambda bench: measure_head(bench, epochs, repeats, views, off_epochs),
        "blocks": lambda bench: measure_blocks(bench, min(epochs, 10), repeats),
        "throughput": lambda bench: measure_throughput(bench, repeats),
    }
    for source in sources:
        bench = Bench(source, backbone, weights, image_size)
        settings = {
            "data": Path(source).name,
            "images": f"{len(bench.train)} + {len(bench.val)}",
            "net": f"{backbone}, {image_size}",
        }
        for name in measure.split(","):
            rows = [settings | row for row in measures[name](bench)]
            click.echo(f"\n{name}, {repeats} x\n\n" + markdown(rows))


def markdown(rows):
    """Return dicts of the same keys as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value):
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
