"""Cross-validation: every image is tested once, and the model that ships is trained on all but a validation slice."""

import contextlib
from dataclasses import replace

import numpy as np

from tlkit import run as run_folder
from tlkit.api.job import record_environment
from tlkit.data.index import fold_splits, split_for_deployment, with_split
from tlkit.evaluation.metrics import split_metrics


def cross_validate(job, out, resume):
    """Make one run per fold under `folds/` of the run folder, then the run that ships, with the estimate over all.

    Args:
        job: The `Job`, `data.folds` of its recipe at least 2; the splits of its data are not used.
        out, resume: As for `tlkit.finetune`.

    Returns:
        The `Run` that ships. Its headline is `cv`: every image predicted by the one run that had not seen it.
    """
    if job.data.splits_given:
        job.listener.note("--folds deals out all images anew: the given splits are not used")
    split = split_for_deployment(job.data, job.recipe.seed)
    everything = np.arange(len(job.data))  # each image trains in some folds and is tested in one
    shipped = replace(job, data=with_split(job.data, split), pool=everything).resolve().open(out, resume)
    with contextlib.closing(shipped):
        if shipped.model is None:
            return shipped.run()
        record_environment(shipped)
        estimate = _estimate(shipped)
        shipped.listener.note("the model that ships: trained on all but a validation slice")
        return shipped.run(estimate=estimate)


def _estimate(shipped):
    """Make, continue or find the run of each fold; return the `cv` entry of `metrics.json`."""
    tasks, folds = shipped.data.tasks, shipped.recipe.data.folds
    recipe = shipped.recipe.model_copy(deep=True)
    recipe.data.folds = 0
    labels = {name: [] for name in tasks}
    probabilities = {name: [] for name in tasks}
    for number, split in enumerate(fold_splits(shipped.data, folds, recipe.seed)):
        shipped.listener.note(f"fold {number + 1} of {folds}")
        data = with_split(shipped.data, split)
        fold = replace(shipped, recipe=recipe, data=data).resolve()
        run = fold.open(shipped.path / run_folder.FOLDS / str(number), resume=True).run()
        tested = data.indices("test")
        predicted = run.probabilities(data, tested, listener=fold.listener, what=f"fold {number + 1}")
        for name in tasks:
            labels[name].append(data.labels[name][tested])
            probabilities[name].append(predicted[name])
    joined = [{name: np.concatenate(parts) for name, parts in by_task.items()} for by_task in (labels, probabilities)]
    return split_metrics(*joined, tasks, used_for=[]) | {"folds": folds}
