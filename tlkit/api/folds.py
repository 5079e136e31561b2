"""Cross-validation: every image is tested once, and the model that ships is trained on all but a validation slice."""

from pathlib import Path

import numpy as np

from tlkit import run as run_folder
from tlkit.data.index import fold_splits, split_for_deployment, with_split
from tlkit.evaluation.metrics import split_metrics
from tlkit.recipe import Recipe


def cross_validate(recipe: Recipe, data, train_on, out, resume, listener):
    """Train one run per fold under `folds/`, then the run that ships, which gets the estimate over all folds.

    Args:
        recipe: The recipe, `data.folds` at least 2.
        data: `tlkit.data.index.Data`; its own split is not used.
        train_on: Function from data and a run folder to a completed `Run`.
        out, resume, listener: As for `tlkit.finetune`.

    Returns:
        The `Run` that ships. Its headline is `cv`: every image predicted by the one run that had not seen it.
    """
    path = Path(out) if out else run_folder.new_run_path(recipe.backbone.name, Path(data.source).stem)
    labels = {name: [] for name in data.tasks}
    probabilities = {name: [] for name in data.tasks}
    folds_path = path.with_name(path.name + "-folds")
    for number, split in enumerate(fold_splits(data, recipe.data.folds, recipe.seed)):
        listener.note(f"fold {number + 1} of {recipe.data.folds}")
        fold = with_split(data, split)
        fold_run = train_on(fold, folds_path / str(number))
        predicted = fold_run.probabilities(fold, fold.indices("test"), listener=listener, what=f"fold {number + 1}")
        for name in data.tasks:
            labels[name].append(fold.labels[name][fold.indices("test")])
            probabilities[name].append(predicted[name])
    listener.note("the model that ships: trained on all but a validation slice")
    run = train_on(with_split(data, split_for_deployment(data, recipe.seed)), path)
    joined = [{name: np.concatenate(parts) for name, parts in by_task.items()} for by_task in (labels, probabilities)]
    estimate = split_metrics(*joined, data.tasks, used_for=[]) | {"folds": recipe.data.folds}
    primary = f"cv.tasks.{next(iter(data.tasks))}.accuracy"
    run.metrics = {"primary": primary, "cv": estimate} | {k: v for k, v in run.metrics.items() if k != "primary"}
    run_folder.write_json(run.path / run_folder.METRICS, run.metrics)
    return run
