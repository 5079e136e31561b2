"""The one feature pass: what frozen layers make of images is computed once a view, and kept.

A frozen prefix in inference mode is a pure function, so its output for a given view of a given image never changes. A
stage trains on rows of such features; where they are not kept, they are computed for every batch anew, by the same
functions at the same batch shape, hence with the same bits.
"""

import contextlib
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tlkit.data.mixing import Mixing
from tlkit.data.pipeline import balanced_order, epoch_order, shuffled_batches, steps_per_epoch, view_batches
from tlkit.progress import Listener
from tlkit.training.cache import filled_along
from tlkit.training.store import StoreError

SHARD_ROWS = 256  # images whose features are written together, at most: a kill costs at most the work on them
SHARD_BYTES = 2**25  # and so many bytes, since they are collected in memory


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
        images = hashlib.sha256("\n".join(data.sha256[i] for i in pool).encode())
        if "number" in view.key:  # a training view depends on the image's position, too
            images.update(np.ascontiguousarray(pool, np.int64))
        self._key = {"view": view.key, "images": images.hexdigest(), "batch_size": batch, "engine": engine}
        self._entries, self._arrays = {}, {}

    def entry(self, position):
        """Return the store's entry for the features at a position of the chain."""
        if position not in self._entries:
            what = f"{self._chain.describe(position)}, {self._view.what} of {Path(self._data.source).stem}"
            key = self._key | {"what": what, "cut": self._chain.digest(position)}
            shape = self._chain.row_shape(position)
            self._entries[position] = self._store.entry(key, len(self._pool), shape, self._shard_rows(position))
        return self._entries[position]

    def rows(self, position, images):
        """Return the features of some images of the pool, float32 `(images, ...)`, or None if they are not there.

        Raises:
            StoreError: If they are there and the system refuses to map them.
        """
        if position not in self._arrays:
            array = self.entry(position).open()
            if array is None:
                return None
            self._arrays[position] = array
        return self._arrays[position][np.searchsorted(self._pool, images)]

    def _shard_rows(self, position):
        rows = min(SHARD_ROWS, SHARD_BYTES // self._chain.row_bytes(position))
        return self._chain.batch_size * max(1, rows // self._chain.batch_size)

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
            for entry in entries.values():
                entry.claim()
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
            if not self.entry(position).missing():
                with contextlib.suppress(StoreError):
                    if self.rows(position, self._pool[:1]) is not None:
                        return position
        return 0

    def _fill(self, entries, missing, listener, threads):
        """Compute the batches of which any of some entries misses a shard, and write shards beside it."""
        batch = self._chain.batch_size
        per_shard = {position: entry.shard_rows // batch for position, entry in entries.items()}
        last = steps_per_epoch(len(self._pool), batch) - 1
        wanted = [
            number
            for number in range(last + 1)
            if any(number // per_shard[position] in missing[position] for position in entries)
        ]
        parts, pending = {position: [] for position in entries}, []
        with ThreadPoolExecutor(1) as writer:  # hashing and writing go on beside the computing
            for done, (number, found) in enumerate(self._compute(sorted(entries), wanted, threads), start=1):
                listener.features_computed(done, len(wanted), self._view.what)
                for position, rows in zip(sorted(entries), found, strict=True):
                    shard, place = divmod(number, per_shard[position])
                    if shard not in missing[position]:
                        continue
                    parts[position].append(rows)
                    if place == per_shard[position] - 1 or number == last:
                        _wait_for(pending)
                        pending = [writer.submit(entries[position].write, shard, np.concatenate(parts.pop(position)))]
                        parts[position] = []
                yield
            _wait_for(pending)

    def _compute(self, positions, numbers, threads):
        """Yield `(number, features at each position)` for batches of these ascending numbers."""
        batch, source = self._chain.batch_size, self.deepest(before=positions[0])
        for first, last in _runs(numbers):
            if source:
                pools = (self._pool[number * batch : (number + 1) * batch] for number in range(first, last + 1))
                batches = (self.rows(source, images) for images in pools)
            else:
                batches = view_batches(self._view, self._pool, batch, first, last + 1, threads)
            for number, rows in enumerate(batches, first):
                yield number, self._chain.run(rows, source, positions)


def _runs(numbers):
    """Yield `(first, last)` of each run of consecutive numbers in an ascending list."""
    starts = [n for place, n in enumerate(numbers) if place == 0 or numbers[place - 1] != n - 1]
    ends = [n for place, n in enumerate(numbers) if place == len(numbers) - 1 or numbers[place + 1] != n + 1]
    return zip(starts, ends, strict=True)


def _wait_for(writes):
    for write in writes:
        write.result()


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes:
        features: float32 `(batch, ...)`: images, or what the frozen layers make of them.
        labels: Dict of task to labels, encoded as `Task` says.
        partners: int64 `(batch,)`: which image of the batch each is mixed with; None where nothing is mixed.
        shares: float32 `(batch,)`: how much of each is itself.
    """

    features: np.ndarray
    labels: dict
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None


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
        balanced: Name of the single-label task whose classes are drawn equally often; None to show each image once.
        mixing: `tlkit.data.mixing.Mixing`, or None.
        streamed: Epochs, counted over all stages, whose training views aren't kept, besides those that mix.
        plan: `tlkit.training.cache.CachePlan`, of which `training` and `evaluation` count.
        store: `DiskStore` or `MemoryStore`; None to keep nothing.
        engine: As for `KeptFeatures`.
        pool: int64 array: images whose features are worth keeping besides the run's own; folds share a pool.
        listener: `Listener` for progress and notes.
    """

    def __init__(
        self,
        data,
        views,
        *,
        batch_size,
        seed,
        epochs,
        balanced=None,
        mixing=None,
        streamed=(),
        plan=None,
        store=None,
        engine=None,
        pool=None,
        listener=None,
    ):
        self._data, self._views, self.batch_size, self._seed, self._epochs = data, views, batch_size, seed, epochs
        self._plan, self._store, self._engine, self._pool = plan, store, engine, pool
        self._listener = listener or Listener()
        self._mixing = mixing or Mixing()
        self._streamed = frozenset(streamed) | self._mixing.epochs
        self._train, self._val = data.indices("train"), data.indices("val")
        self._classes = data.labels[balanced][self._train] if balanced else None
        self._drawn = (None, None)
        self.steps_per_epoch = steps_per_epoch(len(self._train), batch_size)
        self._chain, self._shown, self._position, self._later, self._kept = None, None, 0, [], {}
        self._filling = store is not None

    def start_stage(self, chain, position, later=(), shown=None):
        """Take where the coming stage is cut.

        Args:
            chain: `Chain` of the model as it is now.
            position: The stage's cut in it; 0 where nothing is frozen.
            later: `(position, epochs)` of each stage to come, the epochs counted over all stages. What they need nearer
                to the image is filled in the same pass.
            shown: `Chain` of the model that trains, if that is made for another image size; its epochs are streamed.
        """
        self._chain, self._position, self._kept = chain, position, {}
        self._shown = (chain, self._views) if shown is None else (shown, self._views.resized(shown.image_size))
        self._later = [
            (later[place][0], {self._views.number(epoch) for epoch in later[place][1] if epoch not in self._streamed})
            for place in filled_along(position, [cut for cut, _ in later])
        ]

    def prepare(self, epoch):
        """Compute what an epoch needs and the plan keeps; yield the seconds since the last time, now and then."""
        return self.prepare_views(() if epoch in self._streamed else [self._views.number(epoch)])

    def prepare_views(self, numbers):
        """Compute what the plan keeps of some training views, and of the evaluation view.

        Yields:
            The seconds since the last time, now and then, so that the caller can stop.
        """
        last = time.monotonic()
        try:
            for kept, positions in self._wanted(numbers):
                for _ in kept.ensure(positions, self._position, self._listener):
                    now = time.monotonic()
                    yield now - last
                    last = now
        except StoreError as error:
            self._listener.note(f"features: those that are not kept yet are computed every epoch from here on: {error}")
            self._filling = False

    def training(self, step, mixing=True):
        """Iterate over training batches from a step on, counted over all stages.

        Args:
            step: The first one.
            mixing: False to leave images unmixed also in epochs that mix.

        Yields:
            `Batch`.
        """
        stream, streamed = None, None
        chain, views = self._shown
        for at in range(step, self._epochs * self.steps_per_epoch):
            epoch, place = divmod(at, self.steps_per_epoch)
            images = self._train[self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]]
            kept = None if epoch in self._streamed else self._kept_training(self._views.number(epoch))
            rows, mixed = self._rows(kept, images), (None, None)
            if rows is None:
                if streamed != at - 1:
                    stream = shuffled_batches(
                        self._data, views, self._train, self.batch_size, self._order, at, self._epochs
                    )
                rows, streamed = next(stream)["image"], at
                if mixing and epoch in self._mixing.epochs:
                    rows, *mixed = self._mixing.mix(rows, self._seed, at)
                rows = self._frozen(rows, chain)
            yield Batch(rows, self._labels(images), *mixed)

    def in_order(self, numbers, most):
        """Iterate over some training views of the training images, in order, at the stage's cut.

        Args:
            numbers: Which of the views.
            most: Largest number of views in all; beyond it, some images stand for all, always the same ones.

        Yields:
            `Batch`.
        """
        images = self._some(self._train, max(1, most // len(numbers)))
        for number in numbers:
            make_view = partial(self._views.training, number)
            yield from self._in_order(images, self._kept_training(number), make_view)

    def sample(self, count):
        """Return the features of some of the images, never kept, for `in_order` and `validation`.

        Args:
            count: How many images, at most, of training and validation together, in the proportion of all: always the
                same ones.
        """
        share = count / (len(self._train) + len(self._val))
        other = copy(self)
        other._train, other._val = (
            self._some(images, max(1, int(share * len(images)))) for images in (self._train, self._val)
        )
        other._store, other._kept = None, {}
        return other

    def _some(self, images, count):
        """Return so many of some images, or all of fewer, in order: always the same ones."""
        return images[np.sort(epoch_order(len(images), self._seed, 0)[:count])]

    def validation(self):
        """Iterate over the validation images' `(features, labels)`, in order."""
        for batch in self._in_order(self._val, self._kept_evaluation(), self._views.evaluation):
            yield batch.features, batch.labels

    def _in_order(self, indices, kept, make_view):
        stream = None
        for number, start in enumerate(range(0, len(indices), self.batch_size)):
            images = indices[start : start + self.batch_size]
            rows = self._rows(kept, images)
            if rows is None:
                stream = stream or view_batches(make_view(), indices, self.batch_size, number)
                rows = self._frozen(next(stream), self._chain)
            yield Batch(rows, self._labels(images))

    def _order(self, epoch):
        """Return which training images an epoch shows, as positions among them."""
        if self._classes is None:
            return epoch_order(len(self._train), self._seed, epoch)
        drawn = self._drawn  # threads that prepare batches of the next epoch ask, too
        if drawn[0] != epoch:
            self._drawn = drawn = epoch, balanced_order(self._classes, self._seed, epoch)
        return drawn[1]

    def _rows(self, kept, images):
        """Return kept rows, or None if they are not there, or not to be had."""
        try:
            return kept.rows(self._position, images) if kept else None
        except StoreError:
            return None  # `prepare` said so

    def _wanted(self, numbers):
        """Yield what the plan keeps of training views and of the evaluation view, with the cuts it keeps them at."""
        if not self._filling:
            return
        for number in numbers:
            if kept := self._kept_training(number):
                later = {cut for cut, shown in self._later if number in shown and cut in self._plan.training}
                yield kept, sorted({self._position, *later})
        if kept := self._kept_evaluation():
            yield kept, sorted({self._position, *(cut for cut, _ in self._later if cut in self._plan.evaluation)})

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

    def _frozen(self, images, chain):
        if self._position == 0:
            return images.astype(np.float32)
        return chain.run(images, 0, [self._position])[0]

    def _labels(self, images):
        return {task: values[images] for task, values in self._data.labels.items()}
