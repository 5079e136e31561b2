"""In what two folders of the same run differ: recipe, data, environment, history, weights, figures, predictions."""

import csv
import zipfile
from collections import Counter

import numpy as np

from tlkit import run as run_folder
from tlkit.errors import RunError
from tlkit.evaluation.metrics import predicted_labels
from tlkit.evaluation.predictions import read_predictions, read_splits
from tlkit.toml import parse_toml

WEIGHTS = "model.weights.h5"  # in model.keras
# What a run's recipe says of how it is kept, and of how many images its machine had the memory for.
IDLE = ("training.cache", "training.checkpoint_seconds", "training.splits")
# What of an environment can change a result.
ENGINE = ("python", "packages", "platform", "processor", "threads", "device")


def flat(value, prefix=""):
    """Return a dict of dotted key to plain value for nested dicts and lists; a list of plain values is one."""
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{prefix}.{name}".lstrip(".")).items()
    }


def changes(before, now):
    """Return a dict of key to `[before, now]`, None for what is missing, for nested values that differ."""
    before, now = flat(before), flat(now)
    keys = dict.fromkeys([*before, *now])
    return {key: [before.get(key), now.get(key)] for key in keys if before.get(key) != now.get(key)}


def compare_recipes(before, now):
    """Return what `changes` says of two runs' recipes."""
    values = [parse_toml(run_folder.read_text(path / run_folder.RECIPE)) for path in (before, now)]
    return {key: pair for key, pair in changes(*values).items() if ".".join(key.split(".")[:2]) not in IDLE}


def compare_environments(before, now):
    """Return what `changes` says of that part of two runs' environments that can change a result."""
    values = [run_folder.read_json(path / run_folder.ENVIRONMENT) for path in (before, now)]
    return changes(*({key: value.get(key) for key in ENGINE} for value in values))


def compare_data(before, now):
    """Return whether two runs' data are the `same`, and where not, how many images are lost, new or otherwise."""
    prints = [run_folder.read_json(path / run_folder.DATA).get("fingerprint") for path in (before, now)]
    if prints[0] == prints[1]:
        return {"same": True}
    rows = [{row["path"]: row for row in read_splits(path)} for path in (before, now)]
    counts = Counter(
        key
        for path in rows[0].keys() & rows[1].keys()
        for key in {*rows[0][path], *rows[1][path]}
        if rows[0][path].get(key) != rows[1][path].get(key)
    )
    labels = {f"other_{key}": count for key, count in counts.items() if key not in ("split", "sha256")}
    return {
        "same": False,
        "lost": len(rows[0].keys() - rows[1].keys()),
        "new": len(rows[1].keys() - rows[0].keys()),
        "other_content": counts["sha256"],
        "other_split": counts["split"],
        **labels,
    }


def compare_histories(before, now):
    """Return the number of `epochs` of each run, the first that differs or None, and by how much columns differ."""
    histories = [_read_history(path / run_folder.HISTORY) for path in (before, now)]
    largest, first = {}, None
    for epoch, (one, other) in enumerate(zip(*histories, strict=False)):
        for column in one.keys() & other.keys():
            if one[column] != other[column]:
                first = epoch if first is None else first
                largest[column] = max(largest.get(column, 0.0), _distance(one[column], other[column]))
    epochs = [len(history) for history in histories]
    if first is None and epochs[0] != epochs[1]:
        first = min(epochs)
    return {"epochs": epochs, "first_difference": first, "largest_difference": dict(sorted(largest.items()))}


def compare_weights(before, now):
    """Return whether two runs' weights are the `same` to the bit; where not, how many arrays differ, and how far."""
    paths = [path / run_folder.MODEL for path in (before, now)]
    if _packed_weights(paths[0]) == _packed_weights(paths[1]):
        return {"same": True}
    from tlkit.models.reader import read_model

    arrays = [read_model(path).get_weights() for path in paths]
    shapes = [[array.shape for array in of] for of in arrays]
    if shapes[0] != shapes[1]:
        return {"same": False, "arrays": len(shapes[0]), "differing": None, "largest_difference": None}
    apart = [_distance_of_arrays(*pair) for pair in zip(*arrays, strict=True)]
    differing = sum(distance > 0 for distance in apart)
    return {"same": not differing, "arrays": len(apart), "differing": differing, "largest_difference": max(apart)}


def compare_metrics(before, now):
    """Return what `changes` says of two runs' figures."""
    return changes(*(run_folder.read_json(path / run_folder.METRICS) for path in (before, now)))


def compare_predictions(before, now, tasks):
    """Compare what two runs predict of the images that both held out; those of folds count as one split, `cv`.

    Args:
        before, now: `pathlib.Path`s of the run folders.
        tasks: Dict of name to `Task`, of the run.

    Returns:
        Dict of split to dict of task to `n`, `other_answers` (other classes, or other sets of labels), and
        `largest_difference`: of a probability, or of a number in units of its labels' standard deviation.
    """
    found = {}
    for name, folders in _predicted(before).items():
        parts = [_common(before / folder, now / folder, split, tasks) for folder, split in folders]
        found[name] = {task: _distance_of_answers(tasks[task], [part[task] for part in parts]) for task in tasks}
    return found


def _predicted(path):
    """Return a dict of split to the pairs of folder and split in which a run predicts it."""
    found = {
        file.stem.removeprefix("predictions_"): [(".", file.stem.removeprefix("predictions_"))]
        for file in sorted(path.glob("predictions_*.csv"))
    }
    folds = sorted((path / run_folder.FOLDS).glob("*/predictions_test.csv"))
    if folds:
        found["cv"] = [(file.parent.relative_to(path), "test") for file in folds]
    return found


def _common(before, now, split, tasks):
    """Return a dict of task to the two runs' outputs for the images that both predicted."""
    one, other = (read_predictions(path, split, tasks) for path in (before, now))
    place = {path: position for position, path in enumerate(other.paths)}
    pairs = [(position, place[path]) for position, path in enumerate(one.paths) if path in place]
    rows, others = np.array(pairs, np.int64).reshape(-1, 2).T
    return {name: (one.probabilities[name][rows], other.probabilities[name][others]) for name in tasks}


def _distance_of_answers(task, parts):
    one, other = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
    scale = task.scale or 1.0 if task.kind == "regression" else 1.0
    answers = None
    if task.kind != "regression":
        differing = predicted_labels(one, task) != predicted_labels(other, task)
        answers = int(differing.reshape(len(one), -1).any(axis=1).sum())
    return {"n": len(one), "other_answers": answers, "largest_difference": _distance_of_arrays(one, other) / scale}


def _distance_of_arrays(one, other):
    if not one.size or np.array_equal(one, other):
        return 0.0
    apart = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64)).max()
    return float(apart) if np.isfinite(apart) else np.finfo(np.float64).max


def _distance(one, other):
    try:
        return abs(float(one) - float(other))
    except ValueError:
        return 0.0


def _read_history(path):
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: expected the file that tlkit wrote. Received: {error}") from None


def _packed_weights(path):
    """Return the size and the checksum of the weights in a model file; None if it isn't one."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(WEIGHTS)
            return entry.file_size, entry.CRC
    except (OSError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: expected the model that tlkit wrote. Received: {error}") from None
