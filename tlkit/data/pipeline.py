"""From an index to batches: batch k is a pure function of the settings and k, whoever computes it and whenever.

So any number of threads gives the same stream, and a run resumes by starting at step k.
"""

import math
import sys
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from importlib import metadata

import numpy as np
from absl import logging as absl_logging

from tlkit.data import decode
from tlkit.data.augment import CROP, VIEWS, evaluation_view, training_view, view_seed
from tlkit.data.policies import POLICIES
from tlkit.data.resize import INTERPOLATION
from tlkit.errors import DataError
from tlkit.run import usable_cpus

_verbosity = absl_logging.get_verbosity()
absl_logging.set_verbosity(absl_logging.ERROR)  # Grain's import warns that JAX's profiler is absent
import grain  # noqa: E402

absl_logging.set_verbosity(_verbosity)

# What else decides the pixels of a view.
PIXEL_VERSIONS = {
    "pixels": decode.PIXELS,
    "views": VIEWS,
    "crop": CROP,
    "interpolation": INTERPOLATION,
    "opencv": metadata.version("opencv-python-headless"),
    "albumentations": metadata.version("albumentations"),
    "albucore": metadata.version("albucore"),
}


def steps_per_epoch(num_images, batch_size):
    """Return the number of batches of an epoch; the last one may be shorter, none is dropped."""
    return -(-num_images // batch_size)


def side_needed(image_size):
    """Return the pixels to read of an image's shorter side: with fewer, `evaluation_view` would no longer average."""
    return math.ceil(2 * image_size / CROP)


@dataclass(frozen=True)
class View:
    """One rendering of every image of a data set.

    Attributes:
        what: The view in words.
        key: All that decides the pixels besides the image files, as plain values.
        render: Function from an image's position to uint8 RGB `(image_size, image_size, 3)`.
    """

    what: str
    key: dict
    render: Callable


class Views:
    """How the network sees a data set: any image in any of its views, each a pure function.

    Args:
        data: `Data`, or anything with its `read`.
        image_size: Side of the views in pixels.
        fit: `"crop"`, `"squash"` or `"letterbox"`.
        augment: Name of a policy, or a list of ops.
        count: Number of different training views of an image; None for a fresh one in every epoch. Without
            augmentation there is but one.
        fresh: Epochs that show a fresh view whatever `count` says, such as those in which no layer is frozen.
        seed: Whole number, at least 0, that decides the training views.
    """

    def __init__(self, data, *, image_size, fit="crop", augment="none", count=None, fresh=(), seed=0):
        self._data, self._image_size, self._fit, self._seed = data, image_size, fit, seed
        self._view = training_view(augment, image_size, fit)
        self._augment = POLICIES[augment] if isinstance(augment, str) else augment
        self.count = count if self._augment else 1
        self._fresh = frozenset(fresh)
        self._at_least = side_needed(image_size)

    def resized(self, image_size):
        """Return the views at another size."""
        other = copy(self)
        other._image_size, other._at_least = image_size, side_needed(image_size)
        other._view = training_view(self._augment, image_size, self._fit)
        return other

    def number(self, epoch):
        """Return which view an epoch shows."""
        return epoch if self.count is None or epoch in self._fresh else epoch % self.count

    def training(self, number):
        """Return training view `number`: of image i, what (seed, number, i) decide."""
        policy = {"augment": self._augment, "seed": self._seed, "number": number}
        return View(f"training view {number}", self._shared_key() | policy, partial(self._render, number))

    def evaluation(self):
        """Return the view that evaluation and prediction use."""
        return View("evaluation view", self._shared_key(), self._render_plain)

    def test_time(self, renderings):
        """Return several views at once: `render` reads an image once and returns `(views, size, size, 3)`.

        Args:
            renderings: `tlkit.data.tta.Rendering`s, at least one.
        """
        settings = {"renderings": [asdict(rendering) for rendering in renderings]}
        return View("test-time views", self._shared_key() | settings, partial(self._render_all, renderings))

    def _render_all(self, renderings, i):
        image = self._data.read(i, self._at_least)
        return np.stack([rendering.render(image, self._image_size, self._fit) for rendering in renderings])

    def _render(self, number, i):
        return self._view(self._data.read(i, self._at_least), view_seed(self._seed, number, i))

    def _render_plain(self, i):
        return evaluation_view(self._data.read(i, self._at_least), self._image_size, self._fit)

    def _shared_key(self):
        return {"image_size": self._image_size, "fit": self._fit, "decoded_to": self._at_least, **PIXEL_VERSIONS}


def training_batches(
    data,
    indices,
    *,
    image_size,
    batch_size,
    augment="light",
    fit="crop",
    views=None,
    seed=0,
    start_step=0,
    epochs=1,
    threads=None,
):
    """Iterate over shuffled, augmented batches.

    Step g belongs to epoch `g // steps_per_epoch`, whose order is a permutation that (seed, epoch) decide. Image i is
    seen as view (seed, epoch mod views, i).

    Args:
        data: `Data`.
        indices: int64 array of the images to take.
        image_size: Side of the views in pixels.
        batch_size: Images per batch; the last batch of an epoch may have fewer.
        augment: Name of a policy, or a list of ops.
        fit: `"crop"`, `"squash"` or `"letterbox"`.
        views: Number of different views of an image; None for a fresh one in every epoch.
        seed: Whole number, at least 0.
        start_step: Step to begin with; the batches are those that an undisturbed stream has from there.
        epochs: Number of epochs in the whole stream, from step 0.
        threads: Number of threads that prepare batches; None for one per processor, 0 for the caller's own.

    Returns:
        Iterator of dicts: `image` uint8 `(batch, image_size, image_size, 3)`, `index` int64 `(batch,)`, `labels` a dict
        of task to int32 `(batch,)`.
    """
    seen = Views(data, image_size=image_size, fit=fit, augment=augment, count=views, seed=seed)
    indices = np.asarray(indices, np.int64)
    order = partial(epoch_order, len(indices), seed)
    return shuffled_batches(data, seen, indices, batch_size, order, start_step, epochs, threads)


def shuffled_batches(data, views, indices, batch_size, order, start_step=0, epochs=1, threads=None):
    """Do what `training_batches` says, for `Views` that exist, in the order that a function of the epoch returns."""
    steps = steps_per_epoch(len(indices), batch_size)

    def batch(step):
        epoch, position = divmod(step, steps)
        chosen = indices[order(epoch)[position * batch_size : (position + 1) * batch_size]]
        return _batch(data, chosen, views.training(views.number(epoch)).render)

    return _stream(batch, start_step, epochs * steps, threads)


@lru_cache(maxsize=8)
def epoch_order(num_images, seed, epoch):
    """Return the order in which an epoch shows the training images: a permutation of their numbers, int64."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_images)


def balanced_order(classes, seed, epoch):
    """Return the order of an epoch that shows every class equally often, whatever their numbers of images.

    An epoch has as many draws as `classes` has entries. A class is walked through in rounds, in an order that the seed
    decides, and each epoch goes on where the one before stopped: no image is drawn twice as long as another of its
    class waits, within an epoch and over all of them.

    Args:
        classes: Integer array `(n,)` of class indices. Images of class -1, whose label is missing, are never drawn.
        seed: Whole number, at least 0.
        epoch: Whole number, at least 0.

    Returns:
        int64 `(n,)` positions in `classes`. In each epoch a class has `n / number of classes` draws, rounded down or
        up; classes without images don't count.

    Raises:
        DataError: If all labels are missing.
    """
    classes = np.asarray(classes)
    order = np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, 0, 0, 2])).permutation(len(classes))
    order = order[classes[order] >= 0]
    members = [order[classes[order] == present] for present in np.unique(classes[order])]
    if not members:
        raise DataError("balanced sampling needs labels; all are missing")
    drawn = []
    for position, images in enumerate(members):
        # The floors of (x + position) / number over all positions sum to x: each epoch has n draws exactly.
        start, stop = ((e * len(classes) + position) // len(members) for e in (epoch, epoch + 1))
        drawn.append(images[np.arange(start, stop) % len(images)])
    return np.concatenate(drawn)[epoch_order(len(classes), seed, epoch)]


def evaluation_batches(data, indices, *, image_size, batch_size, fit="crop", threads=None):
    """Iterate over the evaluation views of images, in the order given; the last batch may be shorter.

    Args:
        data: `Data`.
        indices: int64 array of the images to take.
        image_size: Side of the views in pixels.
        batch_size: Images per batch.
        fit: `"crop"`, `"squash"` or `"letterbox"`.
        threads: As for `training_batches`.

    Returns:
        Iterator of dicts as from `training_batches`.
    """
    indices = np.asarray(indices, np.int64)
    render = Views(data, image_size=image_size, fit=fit).evaluation().render

    def batch(step):
        return _batch(data, indices[step * batch_size : (step + 1) * batch_size], render)

    return _stream(batch, 0, steps_per_epoch(len(indices), batch_size), threads)


def view_batches(view, indices, batch_size, start=0, stop=None, threads=None):
    """Iterate over one view of images, in the order given.

    Args:
        view: `View`.
        indices: int64 array of the images to take.
        batch_size: Images per batch; the last one may be shorter.
        start, stop: First batch, and the one after the last; None for all.
        threads: As for `training_batches`.

    Returns:
        Iterator of uint8 arrays `(batch, image_size, image_size, 3)`, or whatever the view renders, stacked.
    """

    def batch(step):
        return np.stack([view.render(int(i)) for i in indices[step * batch_size : (step + 1) * batch_size]])

    total = steps_per_epoch(len(indices), batch_size)
    return _stream(batch, start, total if stop is None else stop, threads)


def _batch(data, chosen, render):
    return {
        "image": np.stack([render(int(i)) for i in chosen]),
        "index": chosen,
        "labels": {task: values[chosen] for task, values in data.labels.items()},
    }


def _stream(batch, start, stop, threads):
    """Compute batches `start` to `stop` in threads, at most a few ahead of the reader."""
    if start >= stop:
        return iter(())
    _forget_ended_streams()
    threads = usable_cpus() if threads is None else threads
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1 if threads else 0)
    return iter(grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options))


def _forget_ended_streams():
    """Take the streams that are gone out of Grain's register: it keeps something of each, one an epoch, for good."""
    register = getattr(sys.modules.get("grain._src.python.dataset.stats"), "_iter_weakref_registry", set())
    register.difference_update([reference for reference in list(register) if reference() is None])
