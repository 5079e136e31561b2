"""From an index to batches: batch k is a pure function of the settings and k, whoever computes it and whenever.

So any number of threads gives the same stream, and a run resumes by starting at step k.
"""

from functools import lru_cache

import numpy as np
from absl import logging as absl_logging

from tlkit.data.augment import evaluation_view, training_view, view_seed
from tlkit.run import usable_cpus

_verbosity = absl_logging.get_verbosity()
absl_logging.set_verbosity(absl_logging.ERROR)  # Grain's import warns that JAX's profiler is absent
import grain  # noqa: E402

absl_logging.set_verbosity(_verbosity)


def steps_per_epoch(num_images, batch_size):
    """Return the number of batches of an epoch; the last one may be shorter, none is dropped."""
    return -(-num_images // batch_size)


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
    indices = np.asarray(indices, np.int64)
    steps = steps_per_epoch(len(indices), batch_size)
    view = training_view(augment, image_size, fit)

    @lru_cache(maxsize=4)
    def order(epoch):
        return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(indices)

    def batch(step):
        epoch, position = divmod(step, steps)
        chosen = order(epoch)[position * batch_size : (position + 1) * batch_size]
        pass_ = epoch if views is None else epoch % views
        return _batch(data, chosen, lambda i: view(data.read(i), view_seed(seed, pass_, i)))

    return _stream(batch, start_step, epochs * steps, threads)


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

    def batch(step):
        chosen = indices[step * batch_size : (step + 1) * batch_size]
        return _batch(data, chosen, lambda i: evaluation_view(data.read(i), image_size, fit))

    return _stream(batch, 0, steps_per_epoch(len(indices), batch_size), threads)


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
    threads = usable_cpus() if threads is None else threads
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1 if threads else 0)
    return iter(grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options))
