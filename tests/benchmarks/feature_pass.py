"""What the one feature pass costs and saves, as ratios of medians that were taken side by side in one process.

Run:     python tests/benchmarks/feature_pass.py DATA [--backbone NAME] [--weights FILE] [--views 1] [--epochs 20]
         [--repeats 3] [--measure head,blocks,throughput]
Data:    any folder that `tlkit finetune` takes; `tests/benchmarks/datasets.py cifar10 5000 OUT` lays one out.

head        A head stage with its features kept, beside its parts measured alone: the training passes, the validation
            pass, and Keras's own `fit` of the bare head on arrays in memory; and beside the same stage without a cache.
blocks      An epoch with two blocks unfrozen, kept and not, beside the ceiling t_full / (t_full - t_prefix).
throughput  The pass beside the bare folded graph fed from memory, and beside decoding and augmenting alone.
"""

import json
import tempfile
import time
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
from tlkit.recipe import Stage
from tlkit.training.cache import CachePlan
from tlkit.training.checkpoint import Checkpoint, TrainingState
from tlkit.training.features import Features, KeptFeatures
from tlkit.training.fit import Training
from tlkit.training.interrupt import StopRequest
from tlkit.training.store import DiskStore

BATCH, SIZE = 32, 224


class Bench:
    """A backbone on a data set: each method measures one thing, once, in seconds."""

    def __init__(self, source, backbone, weights, views):
        self.data = load_data(source)
        self.model = build_model(backbone, self.data.tasks, weights=weights)
        self.ends = block_ends(self.model)
        self.views = Views(self.data, image_size=SIZE, augment="light", count=views, seed=0)
        self.start = [
            keras.ops.convert_to_numpy(variable).copy() for variable in self.model.variables
        ]  # the states of Dropout among them
        self.chain = Chain(self.model, self.ends, self.data.tasks, BATCH)
        self.train, self.val = self.data.indices("train"), self.data.indices("val")

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

    def measure_stage(self, stage, keep):
        """Train one stage as `tlkit finetune` does; return seconds, seconds of each epoch, and validation accuracy."""
        self.reset()
        position = self.fresh_chain().position(stage.unfreeze)
        kept = frozenset({position} if keep else ())
        with tempfile.TemporaryDirectory() as folder:
            features = Features(
                self.data,
                self.views,
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

    def measure_rates(self, batches=8):
        """Return images a second: the pass, the bare folded graph fed from memory, decoding and augmenting alone."""
        position, view = self.chain.position(0), self.views.training(0)
        images = self.train[: batches * BATCH]
        held = list(view_batches(view, images, BATCH))
        self.chain.run(held[0], 0, [position])  # folds
        started = time.monotonic()
        for batch in held:
            self.chain.run(batch, 0, [position])
        bare = time.monotonic()
        for batch in view_batches(view, images, BATCH):
            self.chain.run(batch, 0, [position])
        passed = time.monotonic()
        for _ in view_batches(view, images, BATCH):
            pass
        decoded = time.monotonic()
        return tuple(len(images) / seconds for seconds in (passed - bare, bare - started, decoded - passed))


def measure_head(bench, views, epochs, repeats):
    """Return the figures of a head stage, its parts alone, and the ratio to the stage without a cache."""
    stage = Stage(unfreeze=0, epochs=epochs, learning_rate=3e-3)
    kept, parts, streamed = [], [], []
    for _ in range(repeats):
        kept.append(bench.measure_stage(stage, keep=True))
        chain = bench.fresh_chain()
        passes = [bench.measure_pass(chain, bench.views.training(number), bench.train) for number in range(views)]
        val_seconds, val = bench.measure_pass(chain, bench.views.evaluation(), bench.val)
        head = bench.measure_bare_head(passes[0][1], val, epochs)
        parts.append(sum(seconds for seconds, _ in passes) + val_seconds + head)
        streamed.append(bench.measure_stage(stage, keep=False))
    kept_seconds, off_seconds = median(k[0] for k in kept), median(s[0] for s in streamed)
    return {
        "kept_seconds": kept_seconds,
        "parts_seconds": median(parts),
        "kept_over_parts": kept_seconds / median(parts),
        "off_seconds": off_seconds,
        "off_over_kept": off_seconds / kept_seconds,
        "val_accuracy": [kept[0][2], streamed[0][2]],
    }


def measure_blocks(bench, epochs, repeats):
    """Return how much faster an epoch with two blocks unfrozen is, beside the ceiling."""
    stage = Stage(unfreeze=2, epochs=epochs, learning_rate=3e-4)
    kept, streamed, passes = [], [], []
    for _ in range(repeats):
        kept += bench.measure_stage(stage, keep=True)[1][1:]  # the first epoch makes the pass
        streamed += bench.measure_stage(stage, keep=False)[1][1:]
        chain = bench.fresh_chain()
        bench.measure_pass(chain, bench.views.evaluation(), bench.val[:BATCH], unfreeze=2)  # folds
        seconds = [
            bench.measure_pass(chain, view, pool, unfreeze=2)[0]
            for view, pool in ((bench.views.training(0), bench.train), (bench.views.evaluation(), bench.val))
        ]
        passes.append(sum(seconds))
    t_kept, t_full, t_prefix = median(kept), median(streamed), median(passes)
    ceiling = t_full / (t_full - t_prefix)
    return {
        "epoch_kept_seconds": t_kept,
        "epoch_off_seconds": t_full,
        "prefix_seconds": t_prefix,
        "off_over_kept": t_full / t_kept,
        "ceiling": ceiling,
        "share_of_ceiling": t_full / t_kept / ceiling,
    }


def measure_throughput(bench, repeats):
    """Return the rates of the pass, of the bare graph and of decoding alone."""
    rates = [bench.measure_rates() for _ in range(repeats)]
    passed, bare, decoded = (median(rate) for rate in zip(*rates, strict=True))
    return {
        "pass_per_second": passed,
        "bare_graph_per_second": bare,
        "decode_augment_per_second": decoded,
        "pass_over_bare": passed / bare,
        "decode_over_bare": decoded / bare,
    }


@click.command()
@click.argument("source")
@click.option("--backbone", default="efficientnet_lite0")
@click.option("--weights", default="imagenet")
@click.option("--views", default=1, help="Training views of each image.")
@click.option("--epochs", default=20)
@click.option("--repeats", default=3)
@click.option("--measure", default="head,blocks,throughput")
def main(source, backbone, weights, views, epochs, repeats, measure):
    """Print the figures as a table, and as one JSON line."""
    bench = Bench(source, backbone, weights, views)
    measures = {
        "head": lambda: measure_head(bench, views, epochs, repeats),
        "blocks": lambda: measure_blocks(bench, min(epochs, 10), repeats),
        "throughput": lambda: measure_throughput(bench, repeats),
    }
    settings = {"data": bench.data.source.rsplit("/", 1)[-1], "train": len(bench.train), "val": len(bench.val)}
    found = settings | {"backbone": backbone, "views": views, "epochs": epochs, "repeats": repeats}
    for name in measure.split(","):
        found[name] = measures[name]()
        click.echo(f"{name}: " + ", ".join(f"{key} {_round(value)}" for key, value in found[name].items()), err=True)
    click.echo(json.dumps(found))


def _round(value):
    return [_round(item) for item in value] if isinstance(value, list) else f"{value:.3g}"


if __name__ == "__main__":
    main()
