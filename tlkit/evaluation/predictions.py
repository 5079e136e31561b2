"""What a run wrote of its tasks, splits and predictions, read back."""

import csv
import io
from typing import NamedTuple

import numpy as np

from tlkit import run as run_folder
from tlkit.data.labels import JOINT, NO_LABELS
from tlkit.errors import RunError
from tlkit.evaluation.metrics import headline_metric
from tlkit.tasks import KINDS, Task

LARGEST_IMAGE = 8192  # pixels, the side
LARGEST_BATCH = 65536  # images
LARGEST_ARRAY = 2**28  # numbers of a batch of images, 1 GiB


class Predictions(NamedTuple):
    """A `predictions_<split>.csv`: `paths` of its images; `labels` and `probabilities` as for `task_metrics`."""

    paths: list
    labels: dict
    probabilities: dict


def tasks_in(inputs, run_path):
    """Return the dict of name to `Task` that a run's `inputs.json` holds.

    Args:
        inputs: What is in it.
        run_path: The run folder.

    Raises:
        RunError: If it isn't what tlkit wrote.
    """
    try:
        tasks = {
            name: Task(task["kind"], tuple(task["classes"]), float(task.get("mean", 0)), float(task.get("scale", 1)))
            for name, task in inputs["tasks"].items()
        }
        if not tasks or not all(_makes_sense(task) for task in tasks.values()):
            raise ValueError
        return tasks
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise RunError(f"{run_path / run_folder.INPUTS}: expected the file that tlkit wrote.") from None


def _makes_sense(task):
    has_classes = bool(task.classes) and len(set(task.classes)) == len(task.classes)
    return task.kind in KINDS and _are_texts(list(task.classes)) and has_classes == (task.kind != "regression")


def inputs_in(run_path):
    """Return what a run's `inputs.json` holds, checked to be an input that fits into memory.

    Raises:
        RunError: If it is missing or isn't what tlkit wrote.
    """
    path = run_path / run_folder.INPUTS
    inputs = run_folder.read_json(path)
    size, batch, ends = (inputs.get(key) for key in ("image_size", "batch_size", "block_ends"))
    for key, value, most in (("image_size", size, LARGEST_IMAGE), ("batch_size", batch, LARGEST_BATCH)):
        if type(value) is not int or not 0 < value <= most:
            raise RunError(f"{path}: `{key}` must be a whole number up to {most}. Received: {value!r}")
    if 3 * batch * size**2 > LARGEST_ARRAY:
        raise RunError(f"{path}: {batch} images of {size} pixels fit into no memory. Expected what tlkit wrote.")
    if not isinstance(inputs.get("fit"), str) or not _are_texts(ends):
        raise RunError(f"{path}: expected the file that tlkit wrote.")
    return inputs


def _are_texts(values):
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def metrics_in(run_path, tasks):
    """Return what a complete run's `metrics.json` holds, checked to have a headline figure of the run's first task.

    Args:
        run_path: The run folder.
        tasks: Dict of name to `Task`, as the run has them.

    Raises:
        RunError: If it is missing or isn't what tlkit wrote.
    """
    metrics = run_folder.read_json(run_path / run_folder.METRICS)
    with run_folder.reading(run_path):
        of_tasks = metrics[metrics["primary"].partition(".")[0]]["tasks"]
        name, entry = next(iter(of_tasks.items()), (None, None))
        if name not in tasks or entry["kind"] != tasks[name].kind:
            raise ValueError(f"no figures of a task that is in {run_folder.INPUTS}")
        figure, interval = (entry[key] for key in headline_metric(entry["kind"]))
        numbers = [figure, *interval] if figure is not None else []  # without labels there is none
        if len(numbers) not in (0, 3) or not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("the headline figure is no number with an interval")
    return metrics


def prediction_header(tasks):
    """Return the columns of such a file: the path, then per task the label, the prediction, and each class if any."""
    header = ["path"]
    for name, task in tasks.items():
        header += [name, f"{name}.prediction", *(f"{name}.{label}" for label in task.classes)]
    return header


def read_predictions(run_path, split, tasks):
    """Read a run's predictions of a split.

    Args:
        run_path: The run folder.
        split: `"test"` or `"val"`.
        tasks: Dict of name to `Task`, as the run has them.

    Returns:
        `Predictions`.

    Raises:
        RunError: If the file is missing or isn't the one that tlkit wrote.
    """
    path = run_path / f"predictions_{split}.csv"
    try:
        header, *rows = csv.reader(io.StringIO(run_folder.read_text(path), newline=""))
    except FileNotFoundError:
        there = [other.stem.removeprefix("predictions_") for other in sorted(run_path.glob("predictions_*.csv"))]
        raise RunError(f"{path}: the run has no such predictions. It has: {', '.join(there) or 'none'}.") from None
    except (ValueError, OSError, csv.Error) as error:
        raise _not_ours(path, error) from None
    if header != prediction_header(tasks):
        raise _not_ours(path, "other columns")
    labels, probabilities, first = {}, {}, 1
    try:
        columns = np.array(rows, dtype=object).reshape(len(rows), len(header)).T
        for name, task in tasks.items():
            labels[name] = np.array([_LABELS[task.kind](cell, task) for cell in columns[first]], _DTYPES[task.kind])
            outputs = first + (1 if task.kind == "regression" else 2)  # a number is its own prediction
            probabilities[name] = columns[outputs : outputs + task.num_outputs].T.astype(np.float32)
            first += 2 + len(task.classes)
    except ValueError as error:
        raise _not_ours(path, error) from None
    return Predictions(columns[0].tolist(), labels, probabilities)


def read_splits(run_path):
    """Return the rows of a run's `splits.csv`: dicts of path, split, sha256 and the labels.

    Raises:
        RunError: If the file is missing or isn't the one that tlkit wrote.
    """
    path = run_path / run_folder.SPLITS
    try:
        rows = list(csv.DictReader(io.StringIO(run_folder.read_text(path), newline="")))
    except (ValueError, OSError, csv.Error) as error:
        raise _not_ours(path, error) from None
    if rows and not {"path", "split", "sha256"} <= rows[0].keys():
        raise _not_ours(path, "other columns")
    return rows


def _not_ours(path, received):
    return RunError(f"{path}: expected the file that tlkit wrote. Received: {received}")


def _class_of(cell, task):
    return _position(cell, task) if cell else -1


def _position(label, task):
    if label not in task.classes:
        raise ValueError(f"the label {label!r}")
    return task.classes.index(label)


def _labels_of(cell, task):
    if not cell:
        return [-1] * len(task.classes)
    present = [] if cell == NO_LABELS else [_position(label, task) for label in cell.split(JOINT)]
    return [int(k in present) for k in range(len(task.classes))]


def _number_of(cell, _task):
    return float(cell) if cell else np.nan


_LABELS = {"single_label": _class_of, "multilabel": _labels_of, "regression": _number_of}
_DTYPES = {"single_label": np.int32, "multilabel": np.int8, "regression": np.float64}
