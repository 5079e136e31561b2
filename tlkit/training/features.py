"""The one feature pass: what frozen layers make of images is computed once a view, and kept.

A frozen prefix in inference mode is a pure function, so its output for a given view of a given image never changes. A
stage trains on rows of such features; where they are not kept, they are computed for every batch anew, by the same
functions at the same batch shape, hence with the same bits.
"""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tlkit.data.pipeline import epoch_order, shuffled_batches, steps_per_epoch, view_batches
from tlkit.progress import Listener
from tlkit.training.store import StoreError

SHARD_ROWS = 256  # about so many images in a file; a kill costs at most the work on one
MOST_SHARDS = 128  # of a view, each of which holds a file open


class KeptFeatures:
    """One view of a pool of images at the cuts of a chain, kept in a store.

    Args:
        store: `DiskStore` or `MemoryStore`.
        chain: `tlkit.models.chain.Chain`.
        view: `tlkit.data.pipeline.View`.
        data: `Data`.
        pool: int64 array, ascending: the images that are kept.
        engine: Plain values: all that decides the last bits besides the key's other parts.
    """

    def __init__(self, store, chain, view, data, pool, engine):
        self._store, self._chain, self._view, self._data, self._pool = store, chain, view, data, pool
        batch = chain.batch_size
        self._shard_rows = batch * max(1, round(max(SHARD_ROWS, len(pool) / MOST_SHARDS) / batch))
        images = hashlib.sha256("\n".join(data.sha256[i] for i in pool).encode())
        if "number" in view.key:  # a training view depends on the image's position, too
            images.update(np.ascontiguousarray(pool, np.int64))
        self._key = {"view": view.key, "images": images.hexdigest(), "batch_size": batch, "engine": engine}
        self._open = {}

    def entry(self, position):
        """Return the store's entry for the features at a position of the chain."""
        what = f"{self._chain.describe(position)}, {self._view.what} of {Path(self._data.source).stem}"
        key = self._key | {"what": what, "cut": self._chain.digest(position)}
        return self._store.entry(key, len(self._pool), self._chain.row_shape(position), self._shard_rows)

    def rows(self, position, images):
        """Return the features of some images of the pool, float32 `(images, ...)`, or None if they are not there."""
        if position not in self._open:
            self._open[position] = self.entry(position).open()
        shards = self._open[position]
        if shards is None:
            del self._open[position]
            return None
        places = np.searchsorted(self._pool, images)
        return np.stack([shards[place // self._shard_rows][place % self._shard_rows] for place in places])

    def ensure(self, positions, needed, listener, threads=None):
        """Compute what is missing at some positions; yield after every batch, so that the caller can stop.

        The pass begins at the deepest cut before all of them that is kept already, else at the images.

        Args:
            positions: Ascending positions of the chain.
            needed: The one of them that is wanted now: its features are checked before this returns.
            listener: `Listener` for progress.
            threads: As for `tlkit.data.pipeline.view_batches`.

        Raises:
            StoreError: If the store can't take them.
        """
        for _ in range(2):  # a second time for what turns out to be damaged
            entries = {position: self.entry(position) for position in positions}
            missing = {position: set(entry.missing()) for position, entry in entries.items()}
            entries = {position: entry for position, entry in entries.items() if missing[position]}
            if entries:
                for entry in entries.values():
                    entry.make_room()
                yield from self._fill(entries, missing, listener, threads)
            if self.rows(needed, self._pool[:1]) is not None:
                return
        raise StoreError(f"what was written can't be read back: {self.entry(needed).what}")

    def deepest(self, before):
        """Return the last position before another whose features are all there, or 0, where the images are."""
        for position in range(before - 1, 0, -1):
            if not self.entry(position).missing() and self.rows(position, self._pool[:1]) is not None:
                return position
        return 0

    def _fill(self, entries, missing, listener, threads):
        shards = sorted(set().union(*missing.values()))
        total = sum(min(self._shard_rows, len(self._pool) - shard * self._shard_rows) for shard in shards)
        done, parts, pending = 0, [], []
        with ThreadPoolExecutor(1) as writer:  # hashing and writing go on beside the computing
            for number, found in self._compute(sorted(entries), shards, threads):
                done += len(found[0])
                listener.features_computed(done, total, self._view.what)
                parts.append(found)
                if self._ends_shard(number):
                    shard = number * self._chain.batch_size // self._shard_rows
                    _wait_for(pending)
                    pending = [
                        writer.submit(entries[position].write, shard, np.concatenate(rows))
                        for position, rows in zip(sorted(entries), zip(*parts, strict=True), strict=True)
                        if shard in missing[position]
                    ]
                    parts = []
                yield
            _wait_for(pending)

    def _ends_shard(self, number):
        rows = (number + 1) * self._chain.batch_size
        return rows % self._shard_rows == 0 or rows >= len(self._pool)

    def _compute(self, positions, shards, threads):
        """Yield `(number, features at each position)` for every batch of some shards, in order."""
        batch, per_shard = self._chain.batch_size, self._shard_rows // self._chain.batch_size
        total = steps_per_epoch(len(self._pool), batch)
        source = self.deepest(before=positions[0])
        for first, last in _runs(shards):
            start, stop = first * per_shard, min((last + 1) * per_shard, total)
            if source:
                pools = (self._pool[number * batch : (number + 1) * batch] for number in range(start, stop))
                batches = (self.rows(source, images) for images in pools)
            else:
                batches = view_batches(self._view, self._pool, batch, start, stop, threads)
            for number, rows in enumerate(batches, start):
                yield number, self._chain.run(rows, source, positions)


def _runs(numbers):
    """Yield `(first, last)` of each run of consecutive numbers in an ascending list."""
    starts = [n for place, n in enumerate(numbers) if place == 0 or numbers[place - 1] != n - 1]
    ends = [n for place, n in enumerate(numbers) if place == len(numbers) - 1 or numbers[place + 1] != n + 1]
    return zip(starts, ends, strict=True)


def _wait_for(writes):
    for write in writes:
        write.result()


class Features:
    """The batches that a training sees, as features at the cut of its stage.

    Attributes:
        batch_size: Images in a full batch.
        steps_per_epoch: Number of training batches in an epoch.

    Args:
        data: `Data`, with its images split.
        views: `tlkit.data.pipeline.Views` of them.
        batch_size: Images in a full batch.
        seed: Whole number that decides the order of every epoch.
        epochs: Number of epochs of all stages.
        plan: `tlkit.training.cache.CachePlan`, of which `training` and `evaluation` count.
        store: `DiskStore` or `MemoryStore`; None to keep nothing.
        engine: As for `KeptFeatures`.
        pool: int64 array: images whose features are worth keeping besides the run's own; folds share a pool.
        listener: `Listener` for progress and notes.
    """

    def __init__(
        self, data, views, *, batch_size, seed, epochs, plan=None, store=None, engine=None, pool=None, listener=None
    ):
        self._data, self._views, self.batch_size, self._seed, self._epochs = data, views, batch_size, seed, epochs
        self._plan, self._store, self._engine, self._pool = plan, store, engine, pool
        self._listener = listener or Listener()
        self._train, self._val = data.indices("train"), data.indices("val")
        self.steps_per_epoch = steps_per_epoch(len(self._train), batch_size)
        self._chain, self._position, self._later, self._kept = None, 0, (), {}

    def start_stage(self, chain, position, later=()):
        """Take where the coming stage is cut.

        Args:
            chain: `Chain` of the model as it is now.
            position: The stage's cut in it; 0 where nothing is frozen.
            later: Cuts of the stages to come; those nearer to the image are filled in the same pass.
        """
        self._chain, self._position, self._kept = chain, position, {}
        self._later = tuple(sorted({cut for cut in later if 0 < cut < position}))

    def prepare(self, epoch):
        """Compute what an epoch needs and the plan keeps.

        Yields:
            The seconds since the last time, now and then, so that the caller can stop.
        """
        last = time.monotonic()
        try:
            for kept, plan in self._wanted(self._views.number(epoch)):
                positions = sorted({self._position, *(cut for cut in self._later if cut in plan)})
                for _ in kept.ensure(positions, self._position, self._listener):
                    now = time.monotonic()
                    yield now - last
                    last = now
        except StoreError as error:
            self._listener.note(f"features: no longer kept, every epoch computes them from here on: {error}")
            self._store = None

    def training(self, step):
        """Iterate over training batches from a step on, counted over all stages.

        Yields:
            `(features, labels)`: float32 `(batch, ...)`, and a dict of task to int32 `(batch,)`.
        """
        stream = None
        for at in range(step, self._epochs * self.steps_per_epoch):
            epoch, place = divmod(at, self.steps_per_epoch)
            order = epoch_order(len(self._train), self._seed, epoch)
            images = self._train[order[place * self.batch_size : (place + 1) * self.batch_size]]
            kept = self._kept_training(self._views.number(epoch))
            if kept:
                rows = kept.rows(self._position, images)
            else:
                stream = stream or shuffled_batches(
                    self._data, self._views, self._train, self.batch_size, self._seed, at, self._epochs
                )
                rows = self._frozen(next(stream)["image"])
            yield rows, self._labels(images)

    def validation(self):
        """Iterate over the validation images' `(features, labels)`, in order."""
        kept, batch = self._kept_evaluation(), self.batch_size
        stream = None if kept else view_batches(self._views.evaluation(), self._val, batch)
        for start in range(0, len(self._val), batch):
            images = self._val[start : start + batch]
            rows = kept.rows(self._position, images) if kept else self._frozen(next(stream))
            yield rows, self._labels(images)

    def _wanted(self, number):
        """Yield what the plan keeps of a training view and of the evaluation view, with the cuts it keeps them at."""
        if kept := self._kept_training(number):
            yield kept, self._plan.training
        if kept := self._kept_evaluation():
            yield kept, self._plan.evaluation

    def _kept_training(self, number):
        if self._store is None or self._position not in self._plan.training:
            return None
        return self._kept_of(number, lambda: self._views.training(number), self._train)

    def _kept_evaluation(self):
        if self._store is None or self._position not in self._plan.evaluation:
            return None
        return self._kept_of("evaluation", self._views.evaluation, self._val)

    def _kept_of(self, name, make_view, own):
        if name not in self._kept:
            pool = own if self._pool is None else self._pool
            self._kept[name] = KeptFeatures(self._store, self._chain, make_view(), self._data, pool, self._engine)
        return self._kept[name]

    def _frozen(self, images):
        if self._position == 0:
            return images.astype(np.float32)
        return self._chain.run(images, 0, [self._position])[0]

    def _labels(self, images):
        return {task: values[images] for task, values in self._data.labels.items()}
