"""Probabilities for images, averaged over test-time views, at one padded batch shape."""

import numpy as np

from tlkit.data.augment import TEST_TIME_VIEWS
from tlkit.data.pipeline import evaluation_batches
from tlkit.errors import RecipeError, did_you_mean
from tlkit.progress import Listener
from tlkit.training.features import predict_padded


def predict_images(
    model, data, indices, tasks, *, image_size, batch_size, fit, tta="none", listener=None, what="images"
):
    """Predict images of an indexed data set, in their evaluation views.

    Args:
        model, tasks, batch_size, tta: As for `predict_batches`.
        data: `tlkit.data.index.Data`, or anything with its `read` and `labels`.
        indices: int array: which of its images.
        image_size, fit: As for `tlkit.data.pipeline.evaluation_batches`.
        listener: `Listener` for progress; `what` is what it is told that these images are.

    Returns:
        Dict of task name to float32 `(images, classes)`.
    """
    listener = listener or Listener()
    return predict_batches(
        model,
        evaluation_batches(data, indices, image_size=image_size, batch_size=batch_size, fit=fit),
        tasks,
        batch_size=batch_size,
        tta=tta,
        on_batch=lambda done: listener.images_predicted(done, len(indices), what),
    )


def predict_batches(model, batches, tasks, *, batch_size, tta="none", on_batch=None):
    """Predict every image of an iterator of batches.

    Args:
        model: `keras.Model` from float32 RGB in [0, 255] to probabilities: one tensor, or a dict by task.
        batches: Iterable of dicts with `"image"`: uint8 `(batch, size, size, 3)`, `batch` at most `batch_size`.
        tasks: Dict of task name to `Task`.
        batch_size: Shorter batches are padded to it, so that a result doesn't depend on what it was batched with.
        tta: A name of `tlkit.data.augment.TEST_TIME_VIEWS`; the views' probabilities are averaged.
        on_batch: Called after each batch with the number of images predicted so far.

    Returns:
        Dict of task name to float32 `(images, classes)`.
    """
    views = find_views(tta)
    collected, done = {name: [] for name in tasks}, 0
    for batch in batches:
        images = batch["image"]
        sums = dict.fromkeys(tasks, 0.0)
        for view in views:
            viewed = np.stack([view(image) for image in images])
            outputs = predict_padded(model, viewed, batch_size)
            by_task = outputs if isinstance(outputs, dict) else {next(iter(tasks)): outputs}
            for name, probabilities in by_task.items():
                sums[name] = sums[name] + probabilities
        for name, total in sums.items():
            collected[name].append(total / len(views))
        if on_batch:
            done += len(images)
            on_batch(done)
    return {name: _stack(parts, tasks[name].num_outputs) for name, parts in collected.items()}


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
