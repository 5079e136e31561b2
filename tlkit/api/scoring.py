"""Figures for a run: those that go into its folder, and those on its own or other data afterwards."""

import csv

import numpy as np

from tlkit import run as run_folder
from tlkit.api.caching import kept_evaluation
from tlkit.data.index import Data, load, with_split
from tlkit.errors import DataError, RunError, did_you_mean
from tlkit.evaluation.infer import find_views, predict_images
from tlkit.evaluation.metrics import Result, split_metrics
from tlkit.recipe import read_recipe


def evaluate_run(run, data, tta, listener):
    """Do what `tlkit.evaluate` says, with nothing defaulted."""
    find_views(tta)
    if data is None:
        data = _own_data(run, listener)
        split = primary_split(data)
        indices, used = data.indices(split), used_for(split)
    else:
        if not isinstance(data, Data):
            kinds = {name: task.kind for name, task in run.tasks.items()}
            data = load(data, tasks=kinds, split=False, progress=listener.files_checked)
        split, indices = "data", np.arange(len(data))
        used = _uses_of_images(run, data, listener)
    labels = _labels_of_run(run, data, indices)
    probabilities = run.probabilities(data, indices, tta=tta, listener=listener, what=split)
    return Result(split, split_metrics(labels, probabilities, run.tasks, used))


def score_splits(job, known):
    """Predict a job's test and validation images, write the predictions, and return what goes into `metrics.json`.

    Args:
        job: The `Job`, its model trained.
        known: `Chain` of the training, whose frozen segments need not be folded again.
    """
    from tlkit.models.chain import Chain

    data = job.data
    chain, views = Chain(job.model, job.ends, data.tasks, job.recipe.data.batch_size, known), job.views()
    metrics = {"primary": f"{primary_split(data)}.tasks.{next(iter(data.tasks))}.accuracy"}
    for split in ("test", "val"):
        indices = data.indices(split)
        if not len(indices):
            continue
        probabilities = predict_images(
            chain,
            views,
            indices,
            data.tasks,
            **kept_evaluation(job, chain, views, indices),
            listener=job.listener,
            what=split,
        )
        write_predictions(job.path / f"predictions_{split}.csv", data, indices, probabilities)
        labels = {name: values[indices] for name, values in data.labels.items()}
        metrics[split] = split_metrics(labels, probabilities, data.tasks, used_for(split))
    return metrics


def primary_split(data):
    """Return the split whose figures are the headline: test, where there is one."""
    return "test" if len(data.indices("test")) else "val"


def used_for(split):
    """Return what a split was used to choose."""
    return ["epoch"] if split == "val" else []


def write_predictions(path, data, indices, probabilities):
    """Write `predictions_<split>.csv`: path, then per task label, prediction and a probability per class."""
    header = ["path"]
    columns = [[data.paths[i] for i in indices]]
    for name, task in data.tasks.items():
        header += [name, f"{name}.prediction", *(f"{name}.{label}" for label in task.classes)]
        columns.append([task.classes[k] for k in data.labels[name][indices]])
        columns.append([task.classes[k] for k in probabilities[name].argmax(axis=1)])
        columns += [[f"{value:.7g}" for value in column] for column in probabilities[name].T]
    run_folder.write_csv(path, header, zip(*columns, strict=True))


def _own_data(run, listener):
    """Return the data that the run was trained on, checked to be unchanged."""
    if run.data is not None:
        return run.data
    recorded = run_folder.read_json(run.path / run_folder.DATA)
    recipe = read_recipe(run.path / run_folder.RECIPE)
    if recorded["source"] == "arrays":
        raise RunError(f"{run.path}: the run was trained on arrays; give the data to evaluate on.")
    data = load(recorded["source"], tasks=dict(recipe.tasks), split=False, progress=listener.files_checked)
    split_of = {row["path"]: row["split"] for row in _recorded_splits(run)}
    split = np.array([split_of.get(path, "") for path in data.paths])
    data = with_split(data, split)
    if data.fingerprint != recorded["fingerprint"]:
        raise RunError(
            f"{run.path}: {recorded['source']} changed since the run was made. Pass it with --data to use it as it is."
        )
    return data


def _uses_of_images(run, data, listener):
    """Return what the run used images of `data` for: figures on images that it was trained on say little."""
    split_of = {row["sha256"]: row["split"] for row in _recorded_splits(run)}
    splits = [split_of.get(sha256) for sha256 in data.sha256]
    uses = []
    for split, use in (("train", "training"), ("val", "epoch")):
        if count := splits.count(split):
            listener.note(
                f"{count} of the {len(data)} images are in the run's own {split} split: the figures flatter it"
            )
            uses.append(use)
    return uses


def _recorded_splits(run):
    with (run.path / run_folder.SPLITS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _labels_of_run(run, data, indices):
    """Return the labels of `data` as indices into the run's own classes."""
    translated = {}
    for name, task in run.tasks.items():
        classes = data.tasks[name].classes
        unknown = sorted(set(classes) - set(task.classes))
        if unknown:
            raise DataError(
                f"{data.source}: {name} {unknown[0]!r} is unknown to the run."
                f"{did_you_mean(unknown[0], task.classes)} It knows: {', '.join(task.classes)}"
            )
        table = np.array([task.classes.index(label) for label in classes], np.int64)
        translated[name] = table[data.labels[name][indices]]
    return translated
