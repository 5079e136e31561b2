"""Probabilities for images, averaged over test-time views, at one padded batch shape."""

import contextlib
from itertools import islice

import numpy as np

from tlkit.data.pipeline import view_batches
from tlkit.data.tta import EVALUATION, find_views
from tlkit.evaluation.tta import average as averaged
from tlkit.progress import Listener
from tlkit.training.store import StoreError


def predict_images(
    chain,
    views,
    indices,
    tasks,
    *,
    kept=None,
    keep_at=0,
    tta="none",
    average="probabilities",
    listener=None,
    what="images",
):
    """Predict images of an indexed data set.

    Args:
        chain: `tlkit.models.chain.Chain` of the model.
        views: `tlkit.data.pipeline.Views` of the data set.
        indices: int array: which of its images.
        tasks: Dict of task name to `Task`.
        kept: `tlkit.training.features.KeptFeatures` of the evaluation view: those that are there aren't computed again.
        keep_at: Position in the chain at which features are computed and kept first; 0 for none.
        tta: Test-time views, as for `tlkit.data.tta.find_views`.
        average: How what they predict is averaged, as for `tlkit.evaluation.tta.average`.
        listener: `Listener` for progress; `what` is what it is told that these images are.

    Returns:
        Dict of task name to float32 `(images, classes)`, or `(images, 1)` numbers for regression.
    """
    settings = {"average": average, "kept": kept, "keep_at": keep_at, "listener": listener, "what": what}
    return predict_sets(chain, views, indices, tasks, {tta: find_views(tta)}, **settings)[tta]


def predict_sets(
    chain,
    views,
    indices,
    tasks,
    sets,
    *,
    kept=None,
    keep_at=0,
    average="probabilities",
    listener=None,
    what="images",
):
    """Predict images with several sets of views at once: each image is read once, and a view that sets share runs once.

    Args:
        sets: Dict of name to tuple of `tlkit.data.tta.Rendering`.
        chain, views, indices, tasks, kept, keep_at, average, listener, what: As for `predict_images`.

    Returns:
        Dict of set to what `predict_images` returns for it.
    """
    union = tuple(dict.fromkeys(view for chosen in sets.values() for view in chosen))
    places = {name: [union.index(view) for view in chosen] for name, chosen in sets.items()}
    collected = {name: {task: [] for task in tasks} for name in sets}
    for block in _blocks(chain, views, indices, tasks, union, kept, keep_at, listener, what):
        for name, chosen in places.items():
            for task, values in block.items():
                collected[name][task].append(averaged(values[chosen], tasks[task].kind, average))
    return {
        name: {task: _joined(parts, (0, tasks[task].num_outputs)) for task, parts in by_task.items()}
        for name, by_task in collected.items()
    }


def predict_views(chain, views, indices, tasks, renderings, *, kept=None, keep_at=0, listener=None, what="images"):
    """Predict several views of images, each image read once.

    Args:
        renderings: Sequence of `tlkit.data.tta.Rendering`, each of them once.
        chain, views, indices, tasks, kept, keep_at, listener, what: As for `predict_images`.

    Returns:
        Dict of task name to float32 `(views, images, outputs)`.
    """
    blocks = list(_blocks(chain, views, indices, tasks, tuple(renderings), kept, keep_at, listener, what))
    return {
        name: _joined([block[name] for block in blocks], (len(renderings), 0, task.num_outputs), axis=1)
        for name, task in tasks.items()
    }


def _blocks(chain, views, indices, tasks, union, kept, keep_at, listener, what):
    """Yield dicts of task to float32 `(views, images, outputs)`, a batch of images after the other."""
    listener = listener or Listener()
    source = _source(kept, keep_at, chain, listener) if EVALUATION in union else 0
    rendered = tuple(view for view in union if not source or view != EVALUATION)
    fresh = _rendered(chain, views, indices, tasks, rendered) if rendered else None
    for start in range(0, len(indices), chain.batch_size):
        images = indices[start : start + chain.batch_size]
        block = next(fresh) if fresh else {}
        if source:
            outputs = _by_task(chain.run(kept.rows(source, images), source, [chain.end])[0], tasks)
            place = union.index(EVALUATION)
            block = {
                name: np.insert(block[name], place, values, axis=0) if block else values[None]
                for name, values in outputs.items()
            }
        listener.images_predicted(start + len(images), len(indices), what)
        yield block


def _source(kept, keep_at, chain, listener):
    """Return the position whose features to begin with, after computing those to be kept; 0 is the images."""
    if kept is None:
        return 0
    if keep_at:
        with contextlib.suppress(StoreError):  # then they are computed all the same, and not kept
            for _ in kept.ensure([keep_at], keep_at, listener):
                pass
    return kept.deepest(before=chain.end)


def _rendered(chain, views, indices, tasks, renderings):
    """Yield what `_blocks` says for views that are made of the images: as many batches as views, all of them full.

    Images are read a few at a time, so that no more pixels wait in memory than for a single view.
    """
    batch, count = chain.batch_size, len(renderings)
    if renderings == (EVALUATION,):
        rows = (row for some in view_batches(views.evaluation(), indices, batch) for row in some)
    else:
        few = max(1, batch // count)
        read = view_batches(views.test_time(renderings), indices, few)
        rows = (row for some in read for row in some.reshape(-1, *some.shape[2:]))
    for start in range(0, len(indices), batch):
        left, outputs = count * min(batch, len(indices) - start), []
        while left:
            taken = list(islice(rows, min(batch, left)))
            outputs.append(_by_task(chain.run(np.stack(taken), 0, [chain.end])[0], tasks))
            left -= len(taken)
        joined = {name: np.concatenate([part[name] for part in outputs]) for name in tasks}
        yield {name: values.reshape(-1, count, values.shape[1]).swapaxes(0, 1) for name, values in joined.items()}


def _by_task(outputs, tasks):
    return outputs if isinstance(outputs, dict) else {next(iter(tasks)): outputs}


def _joined(parts, shape, axis=0):
    return np.concatenate(parts, axis=axis) if parts else np.zeros(shape, np.float32)
