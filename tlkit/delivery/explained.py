"""The mistakes of a report as pictures: what the model saw, and where it looked."""

import numpy as np

from tlkit.data.augment import evaluation_view
from tlkit.delivery.folder import Folder
from tlkit.delivery.pictures import as_uri, overlay
from tlkit.errors import TlkitError


def picture_mistakes(folder, mistakes, pictures, read_model, listener):
    """Return the pictures of mistakes.

    Args:
        folder: The run's `tlkit.delivery.folder.Folder`.
        mistakes: List of `tlkit.delivery.mistakes.Mistake`, all of one task.
        pictures: `tlkit.delivery.pictures.Pictures`.
        read_model: Function of a run folder to its `keras.Model`, or None to explain nothing.
        listener: `tlkit.progress.Listener`.

    Returns:
        List of dicts, one a mistake: `photo` and `overlay`, data URIs of the image as the model takes it and of the
        same under a Grad-CAM map of the output that was wrong; each None where it can't be had.
    """
    predicted, size, fit = folder.predicted, folder.inputs["image_size"], folder.inputs["fit"]
    views = [_view(pictures, predicted.paths[mistake.row], size, fit) for mistake in mistakes]
    found = [{"photo": None if view is None else as_uri(view), "overlay": None} for view in views]
    if read_model is None:
        return found
    by_run = {}
    for k, (mistake, view) in enumerate(zip(mistakes, views, strict=True)):
        if view is not None:
            by_run.setdefault(predicted.runs[mistake.row], []).append(k)
    for run, members in by_run.items():
        try:
            of_run = folder if run == folder.path else Folder(run)  # numbers have another scale in each fold
            maps = _maps(of_run, read_model(run), [mistakes[k] for k in members], [views[k] for k in members])
        except TlkitError as error:
            listener.note(f"report: mistakes are shown without Grad-CAM: {error}")
            return found
        for k, heat in zip(members, maps, strict=True):
            if heat.any():
                found[k]["overlay"] = as_uri(overlay(views[k], heat))
    return found


def _view(pictures, path, size, fit):
    image = pictures.read(path)
    return None if image is None else evaluation_view(image, size, fit)


def _maps(folder, model, mistakes, views):
    """Return Grad-CAM maps: of a label that was missed, what speaks for it nevertheless."""
    from tlkit.evaluation.explain import grad_cams

    positions = [mistake.output for mistake in mistakes]
    return grad_cams(model, folder.inputs["block_ends"], folder.tasks, np.stack(views), mistakes[0].task, positions)
