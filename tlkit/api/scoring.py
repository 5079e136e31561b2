"""Figures for a run: those that go into its folder, and those on its own or other data afterwards."""

import csv

import numpy as np

from tlkit import run as run_folder
from tlkit.api.caching import kept_evaluation
from tlkit.data.index import Data, load, with_split
from tlkit.data.labels import label_texts, labelled
from tlkit.errors import DataError, RunError, did_you_mean
from tlkit.evaluation.infer import find_views, predict_images
from tlkit.evaluation.metrics import Result, headline_metric, predicted_labels, split_metrics


def evaluate_run(run, data, tta, listener):
    """Do what `tlkit.evaluate` says, with nothing defaulted."""
    find_views(tta)
    if data is None:
        data = _own_data(run, listener)
        split = primary_split(data)
        indices, used = data.indices(split), used_for(split)
    else:
        if not isinstance(data, Data):
            data = load(data, tasks=_kinds(run), split=False, progress=listener.files_checked)
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
    metrics = {"primary": primary_key(primary_split(data), data.tasks)}
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


def primary_key(split, tasks):
    """Return the dotted path in `metrics.json` of the figure that a run is judged by: the first task's headline."""
    name, task = next(iter(tasks.items()))
    return f"{split}.tasks.{name}.{headline_metric(task.kind)[0]}"


def used_for(split):
    """Return what a split was used to choose."""
    return ["epoch"] if split == "val" else []


def write_predictions(path, data, indices, probabilities):
    """Write `predictions_<split>.csv`: path, then per task label, prediction, and a probability per class if any.

    Labels that are missing are empty; several labels are joined by `|`, and `-` stands for none of them.
    """
    header = ["path"]
    columns = [[data.paths[i] for i in indices]]
    for name, task in data.tasks.items():
        header += [name, f"{name}.prediction", *(f"{name}.{label}" for label in task.classes)]
        columns.append(label_texts(task, data.labels[name][indices]))
        if task.kind == "regression":
            columns.append([f"{value:.7g}" for value in probabilities[name][:, 0]])
            continue
        columns.append(label_texts(task, predicted_labels(probabilities[name], task)))
        columns += [[f"{value:.7g}" for value in column] for column in probabilities[name].T]
    run_folder.write_csv(path, header, zip(*columns, strict=True))


def _kinds(run):
    return {name: task.kind for name, task in run.tasks.items()}


def _own_data(run, listener):
    """Return the data that the run was trained on, checked to be unchanged."""
    if run.data is not None:
        return run.data
    recorded = run_folder.read_json(run.path / run_folder.DATA)
    if recorded["source"] == "arrays":
        raise RunError(f"{run.path}: the run was trained on arrays; give the data to evaluate on.")
    data = load(recorded["source"], tasks=_kinds(run), split=False, progress=listener.files_checked)
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
    """Return the labels of `data` in terms of the run's own classes."""
    translated = {}
    for name, task in run.tasks.items():
        given = data.tasks.get(name)
        if given is None or given.kind != task.kind:
            received = ", ".join(f"{other} ({its.kind})" for other, its in data.tasks.items())
            raise DataError(f"{data.source}: labels of {name} ({task.kind}) are needed. Received: {received}")
        unknown = sorted(set(given.classes) - set(task.classes))
        if unknown:
            raise DataError(
                f"{data.source}: {name} {unknown[0]!r} is unknown to the run."
                f"{did_you_mean(unknown[0], task.classes)} It knows: {', '.join(task.classes)}"
            )
        positions = np.array([task.classes.index(label) for label in given.classes], np.int64)
        translated[name] = _translate(data.labels[name][indices], positions, task)
    return translated


def _translate(labels, positions, task):
    """Return labels whose class k is the task's class `positions[k]` as labels of the task."""
    if task.kind == "regression":
        return labels
    if task.kind == "single_label":
        return np.append(positions, -1)[labels]  # -1, where a label is missing, stays
    wider = np.repeat(np.where(labelled(labels), 0, -1)[:, None], len(task.classes), axis=1).astype(np.int8)
    wider[:, positions] = labels
    return wider
