"""Figures for a run: those that go into its folder, and those on its own or other data afterwards."""

import numpy as np

from tlkit import run as run_folder
from tlkit.api.calibrating import describe_calibration, describe_sets, make_chain, predict_split
from tlkit.api.ensemble import check_members, evaluate_ensemble, held_out_from_all
from tlkit.api.tta import AUTO, NONE, Images, evaluate_views, measure_at_end
from tlkit.data.index import Data, load, with_split
from tlkit.data.labels import label_texts, labelled
from tlkit.data.tta import find_views
from tlkit.errors import DataError, RecipeError, RunError, TlkitError, did_you_mean
from tlkit.evaluation.conformal import coverage_figures
from tlkit.evaluation.metrics import Result, headline_metric, predicted_labels, split_metrics
from tlkit.evaluation.predictions import prediction_header, read_splits
from tlkit.evaluation.tta import check_average


def evaluate_run(run, data, tta, average, ensemble, listener):
    """Do what `tlkit.evaluate` says, with nothing defaulted; `ensemble` are further `Run`s."""
    check_average(average)
    tta = str(tta)
    if tta != AUTO:
        find_views(tta)
    elif ensemble:
        raise RecipeError("--tta auto: it chooses the views of one run. Name those of an ensemble, such as flip.")
    runs = [run, *ensemble]
    check_members(runs)
    if data is None:
        data = own_data(run, listener)
        split = primary_split(data)
        indices = data.indices(split)
    else:
        if not isinstance(data, Data):
            data = load(data, tasks=_kinds(run), split=False, progress=listener.files_checked)
        split, indices = "data", np.arange(len(data))
    if ensemble:
        indices = held_out_from_all(runs, data, indices, split, listener)
    used = _uses_of_images(runs, data, indices, split, listener)
    labels = _labels_of_run(run, data, indices)
    if ensemble:
        return evaluate_ensemble(runs, Images(split, data, indices, labels), used, tta, average, listener)
    if tta == NONE:
        probabilities = run.probabilities(data, indices, listener=listener, what=split)
        metrics = split_metrics(labels, probabilities, run.tasks, used)
        if run.conformal:
            fair = slice(None) if split == "test" or not used else slice(0)  # validation images chose the threshold
            metrics["conformal"] = {
                name: coverage_figures(labels[name][fair], probabilities[name][fair], **of)
                for name, of in run.conformal.items()
            }
        return Result(split, metrics)
    validation = _validation_images(run, data, split, listener) if tta == AUTO else None
    return evaluate_views(run, Images(split, data, indices, labels), validation, used, tta, average, listener)


def _validation_images(run, data, split, listener):
    """Return the `Images` that may choose views for a split; None, and why, where none but its own can."""
    if split == "val":
        listener.note("auto: there is no test split, so views are chosen and measured crosswise on the validation one")
        return None
    try:
        own = own_data(run, listener) if split == "data" else data
    except TlkitError as error:
        listener.note(f"auto: the run's own data can't be had, so views are chosen and measured crosswise: {error}")
        return None
    indices = own.indices("val")
    if not len(indices):
        listener.note("auto: the run has no validation images; views are chosen and measured crosswise")
        return None
    return Images("val", own, indices, _labels_of_run(run, own, indices))


def score_splits(job, known, calibration):
    """Predict a job's test and validation images, write the predictions, and return what goes into `metrics.json`.

    Args:
        job: The `Job`, its model trained and calibrated.
        known: `Chain` of the training, whose frozen segments need not be folded again.
        calibration: The job's `Calibration`.
    """
    data, tta, chain = job.data, job.recipe.evaluation.tta, make_chain(job, known)
    metrics = {"primary": primary_key(primary_split(data), data.tasks)}
    sets = {name: find_views(name) for name in (NONE, tta)}
    predicted, labels = {}, {}
    for split in ("test", "val"):
        indices = data.indices(split)
        if not len(indices):
            continue
        known_already = split == "val" and tta == NONE and calibration.probabilities
        predicted[split] = {NONE: known_already} if known_already else predict_split(job, chain, split, sets)
        probabilities = predicted[split][NONE]
        write_predictions(job.path / f"predictions_{split}.csv", data, indices, probabilities)
        labels[split] = {name: values[indices] for name, values in data.labels.items()}
        uses = _uses_of_split(data, split, ["epoch", *calibration.uses], job.listener)
        metrics[split] = split_metrics(labels[split], probabilities, data.tasks, uses)
        groups = len({data.groups[i] for i in indices})
        if groups < len(indices):
            metrics[split]["groups"] = groups
            job.listener.note(
                f"the {len(indices)} {split} images come in {groups} groups of alike ones: intervals and tests take "
                "each image for itself, so they are too sure"
            )
    single = {split: (labels[split], of[NONE]) for split, of in predicted.items()}
    if calibration.scalings:
        metrics["calibration"] = describe_calibration(calibration, single, data.tasks)
    if alpha := job.recipe.evaluation.conformal:
        metrics["conformal"] = describe_sets(alpha, single, data.tasks, job.listener)
    if tta != NONE:
        metrics["tta"] = measure_at_end(tta, predicted, labels, data.tasks)
    return metrics


def primary_split(data):
    """Return the split whose figures are the headline: test, where there is one."""
    return "test" if len(data.indices("test")) else "val"


def primary_key(split, tasks):
    """Return the dotted path in `metrics.json` of the figure that a run is judged by: the first task's headline."""
    name, task = next(iter(tasks.items()))
    return f"{split}.tasks.{name}.{headline_metric(task.kind)[0]}"


def write_predictions(path, data, indices, probabilities):
    """Write `predictions_<split>.csv`: path, then per task label, prediction, and a probability per class if any.

    Labels that are missing are empty; several labels are joined by `|`, and `-` stands for none of them.
    """
    columns = [[data.paths[i] for i in indices]]
    for name, task in data.tasks.items():
        columns.append(label_texts(task, data.labels[name][indices]))
        if task.kind == "regression":
            columns.append([f"{value:.7g}" for value in probabilities[name][:, 0]])
            continue
        columns.append(label_texts(task, predicted_labels(probabilities[name], task)))
        columns += [[f"{value:.7g}" for value in column] for column in probabilities[name].T]
    run_folder.write_csv(path, prediction_header(data.tasks), zip(*columns, strict=True))


def _kinds(run):
    return {name: task.kind for name, task in run.tasks.items()}


def own_data(run, listener):
    """Return the data that the run was trained on, checked to be unchanged."""
    if run.data is not None:
        return run.data
    recorded = run_folder.read_json(run.path / run_folder.DATA)
    if not isinstance(recorded.get("source"), str) or not isinstance(recorded.get("fingerprint"), str):
        raise RunError(f"{run.path / run_folder.DATA}: expected the file that tlkit wrote.")
    if recorded["source"] == "arrays":
        raise RunError(f"{run.path}: the run was trained on arrays; give the data to evaluate on.")
    data = load(recorded["source"], tasks=_kinds(run), split=False, progress=listener.files_checked)
    split_of = {row["path"]: row["split"] for row in read_splits(run.path)}
    split = np.array([split_of.get(path, "") for path in data.paths])
    data = with_split(data, split)
    if data.fingerprint != recorded["fingerprint"]:
        raise RunError(
            f"{run.path}: {recorded['source']} changed since the run was made. Pass it with --data to use it as it is."
        )
    return data


def _recorded_uses(run):
    """Return what the run used its validation images for."""
    return run.metrics.get("val", {}).get("used_for", ["epoch"])


def _uses_of_images(runs, data, indices, split, listener):
    """Return what runs used images of `data` for: figures on images that were trained on say little."""
    if split == "val":
        uses = list(dict.fromkeys(use for run in runs for use in _recorded_uses(run)))
        return uses if len(runs) == 1 else [use for use in uses if use != "training"]  # that is left out there
    own = {"train": set(), "val": set()}
    for row in read_splits(runs[0].path):
        own.get(row["split"], set()).add(row["sha256"])
    return _uses([data.sha256[i] for i in indices], own, _recorded_uses(runs[0]), "images", listener)


def _uses_of_split(data, split, of_val, listener):
    """Return what a split's images were used for; where splits are given, copies of one image may be in several."""
    others = ("train",) if split == "val" else ("train", "val")
    own = {other: {data.sha256[i] for i in data.indices(other)} for other in others}
    uses = _uses([data.sha256[i] for i in data.indices(split)], own, of_val, f"{split} images", listener)
    return uses + of_val if split == "val" else uses


def _uses(sha256, own, of_val, what, listener):
    """Return what a run used images for that are in its own splits, and tell the listener how many are.

    Args:
        sha256: Hash of each image.
        own: Dict of split to the set of the hashes of the run's images in it.
        of_val: What the validation images were used for.
        what: What the images are called.
        listener: `Listener` for the notes.
    """
    uses = []
    for split, of_split in {"train": ["training"], "val": of_val}.items():
        if count := sum(content in own.get(split, ()) for content in sha256):
            listener.note(
                f"{count} of the {len(sha256)} {what} are in the run's own {split} split: the figures flatter it"
            )
            uses += of_split
    return list(dict.fromkeys(uses))


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
