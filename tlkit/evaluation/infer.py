"""Probabilities for images, averaged over test-time views, at one padded batch shape."""

import contextlib

import numpy as np

from tlkit.data.augment import TEST_TIME_VIEWS
from tlkit.data.pipeline import view_batches
from tlkit.errors import RecipeError, did_you_mean
from tlkit.progress import Listener
from tlkit.training.store import StoreError


def predict_images(chain, views, indices, tasks, *, kept=None, keep_at=0, tta="none", listener=None, what="images"):
    """Predict images of an indexed data set, in their evaluation views.

    Args:
        chain: `tlkit.models.chain.Chain` of the model.
        views: `tlkit.data.pipeline.Views` of the data set.
        indices: int array: which of its images.
        tasks: Dict of task name to `Task`.
        kept: `tlkit.training.features.KeptFeatures` of the evaluation view: those that are there aren't computed again.
        keep_at: Position in the chain at which features are computed and kept first; 0 for none.
        tta: A name of `tlkit.data.augment.TEST_TIME_VIEWS`; what the views give is averaged.
        listener: `Listener` for progress; `what` is what it is told that these images are.

    Returns:
        Dict of task name to float32 `(images, classes)`, or `(images, 1)` numbers for regression.
    """
    listener = listener or Listener()
    test_time = find_views(tta)
    source = _source(kept, keep_at, chain, listener) if tta == "none" else 0
    batch_size = chain.batch_size
    if source:
        batches = (kept.rows(source, indices[n : n + batch_size]) for n in range(0, len(indices), batch_size))
    else:
        batches = view_batches(views.evaluation(), indices, batch_size)
    collected, done = {name: [] for name in tasks}, 0
    for rows in batches:
        probabilities = _average_views(chain, rows, source, test_time, tasks)
        for name, values in probabilities.items():
            collected[name].append(values)
        done += len(rows)
        listener.images_predicted(done, len(indices), what)
    return {name: _stack(parts, tasks[name].num_outputs) for name, parts in collected.items()}


def _source(kept, keep_at, chain, listener):
    """Return the position whose features to begin with, after computing those to be kept; 0 is the images."""
    if kept is None:
        return 0
    if keep_at:
        with contextlib.suppress(StoreError):  # then they are computed all the same, and not kept
            for _ in kept.ensure([keep_at], keep_at, listener):
                pass
    return kept.deepest(before=chain.end)


def _average_views(chain, rows, source, test_time, tasks):
    sums = dict.fromkeys(tasks, 0.0)
    for view in test_time:
        viewed = rows if source else np.stack([view(image) for image in rows])
        outputs = chain.run(viewed, source, [chain.end])[0]
        by_task = outputs if isinstance(outputs, dict) else {next(iter(tasks)): outputs}
        for name, probabilities in by_task.items():
            sums[name] = sums[name] + probabilities
    return {name: total / len(test_time) for name, total in sums.items()}


def find_views(tta):
    """Return the test-time views of that name: functions from uint8 image `(size, size, 3)` to image.

    Raises:
        RecipeError: If there are none.
    """
    if tta not in TEST_TIME_VIEWS:
        known = ", ".join(TEST_TIME_VIEWS)
        raise RecipeError(f"tta: expected one of {known}. Received: {tta!r}.{did_you_mean(tta, TEST_TIME_VIEWS)}")
    return TEST_TIME_VIEWS[tta]


def _stack(parts, width):
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
