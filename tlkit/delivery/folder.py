"""What a run folder holds, read once for its report: files that a run may lack are empty, not errors."""

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tlkit import run as run_folder
from tlkit.data.labels import JOINT, NO_LABELS
from tlkit.errors import RecipeError, RunError
from tlkit.evaluation.predictions import tasks_in
from tlkit.toml import parse_toml


@dataclass(frozen=True)
class Predicted:
    """The images of one split with what a model said of them, as in `predictions_<split>.csv`.

    Attributes:
        paths: Names of the images.
        runs: The run folder whose model predicted each image: folds differ.
        labels: Dict of task name to labels, encoded as `Task` says.
        outputs: Dict of task name to float32 `(images, num_outputs)`: probabilities, or numbers.
    """

    paths: list
    runs: list
    labels: dict
    outputs: dict


class Folder:
    """A run folder as its report reads it.

    Args:
        path: The folder. The run need not be complete: its report is written as its last step.

    Attributes:
        path: Absolute path.
        metrics, inputs, data, environment, timing, selection: What the JSON files of these names hold; `{}` for those
            of the last four that are missing.

    Raises:
        RunError: If what every report needs is missing or damaged.
    """

    def __init__(self, path):
        self.path = Path(path).resolve()
        self.metrics = run_folder.read_json(self.path / run_folder.METRICS)
        self.inputs = run_folder.read_json(self.path / run_folder.INPUTS)
        self.data = self._optional(run_folder.DATA)
        self.environment = self._optional(run_folder.ENVIRONMENT)
        self.timing = self._optional(run_folder.TIMING)
        self.selection = self._optional(run_folder.SELECTION)
        try:
            self.tasks = tasks_in(self.inputs, self.path)
            self.headline = self.metrics["primary"].partition(".")[0]
            self.metrics[self.headline]["tasks"][next(iter(self.tasks))]
        except (KeyError, TypeError, AttributeError, StopIteration):
            raise RunError(
                f"{self.path}: {run_folder.METRICS} and {run_folder.INPUTS} aren't a pair that tlkit wrote."
            ) from None

    def _optional(self, name):
        path = self.path / name
        return run_folder.read_json(path) if path.is_file() else {}

    @property
    def name(self):
        """The folder's own name."""
        return self.path.name

    @property
    def splits(self):
        """The evaluated splits, the headline first, each with its entry in `metrics.json`."""
        order = [self.headline, *(split for split in ("cv", "test", "val") if split != self.headline)]
        return {split: self.metrics[split] for split in order if split in self.metrics}

    @cached_property
    def recipe_text(self):
        """What `recipe.toml` holds."""
        path = self.path / run_folder.RECIPE
        return run_folder.read_text(path) if path.is_file() else ""

    @cached_property
    def recipe(self):
        """The recipe as nested plain values; `{}` if it can't be read."""
        try:
            return parse_toml(self.recipe_text)
        except RecipeError:
            return {}

    @cached_property
    def history(self):
        """The rows of `history.csv`: dicts of column to float."""
        return [{key: float(value) for key, value in row.items() if value} for row in self._rows(run_folder.HISTORY)]

    @cached_property
    def sha256(self):
        """Dict of image path to the hash of its contents."""
        return {row["path"]: row["sha256"] for row in self._rows(run_folder.SPLITS)}

    @cached_property
    def split_of(self):
        """Dict of image path to its split."""
        return {row["path"]: row["split"] for row in self._rows(run_folder.SPLITS)}

    def _rows(self, name):
        path = self.path / name
        if not path.is_file():
            return []
        return list(csv.DictReader(io.StringIO(run_folder.read_text(path), newline="")))

    @cached_property
    def predicted(self):
        """The `Predicted` images of the headline split; None where the files are missing.

        The headline of a cross-validated run is of all its folds, each with the model that hadn't seen its images.
        """
        if self.headline != "cv":
            return self._joined([self.path], self.headline)
        folds = [path for path in (self.path / run_folder.FOLDS).glob("*") if path.name.isdecimal()]
        return self._joined(sorted(folds, key=lambda path: int(path.name)), "test")

    def _joined(self, runs, split):
        files = [run / f"predictions_{split}.csv" for run in runs]
        if not files or not all(file.is_file() for file in files):
            return None
        try:
            parts = [read_predictions(file, self.tasks) for file in files]
        except (ValueError, LookupError, StopIteration, csv.Error):
            return None  # of another version, or edited by hand
        return Predicted(
            [path for paths, _, _ in parts for path in paths],
            [run for run, (paths, _, _) in zip(runs, parts, strict=True) for _ in paths],
            {name: np.concatenate([labels[name] for _, labels, _ in parts]) for name in self.tasks},
            {name: np.concatenate([outputs[name] for _, _, outputs in parts]) for name in self.tasks},
        )


def read_predictions(file, tasks):
    """Read a `predictions_<split>.csv`.

    Args:
        file: Its path.
        tasks: Dict of task name to `Task`, in the order of the columns.

    Returns:
        `(paths, labels, outputs)`: a list, and two dicts of task name to arrays, as for `Predicted`.

    Raises:
        ValueError: If the columns aren't those of the tasks.
    """
    starts, width = {}, 1
    for name, task in tasks.items():
        starts[name] = width
        width += 2 + len(task.classes)
    paths, cells, outputs = [], {name: [] for name in tasks}, {name: [] for name in tasks}
    reader = csv.reader(io.StringIO(run_folder.read_text(file), newline=""))
    if len(next(reader)) != width:
        raise ValueError(f"{file}: expected {width} columns")
    for row in reader:
        paths.append(row[0])
        for name, task in tasks.items():
            start = starts[name]
            cells[name].append(row[start])
            first, last = (start + 1, start + 2) if task.kind == "regression" else (start + 2, start + 2)
            values = row[first : last + len(task.classes)]
            outputs[name].append(np.fromiter(map(float, values), np.float32, len(values)))
    labels = {name: _encode(task, cells[name]) for name, task in tasks.items()}
    stacked = {
        name: np.stack(outputs[name]) if paths else np.zeros((0, task.num_outputs), np.float32)
        for name, task in tasks.items()
    }
    return paths, labels, stacked


def _encode(task, cells):
    """Return labels as texts, as `tlkit.data.labels.label_texts` gives them, encoded as `Task` says."""
    if task.kind == "regression":
        return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)
    position = {label: k for k, label in enumerate(task.classes)}
    if task.kind == "single_label":
        return np.array([position[cell] if cell else -1 for cell in cells], np.int32)
    rows = np.zeros((len(cells), len(task.classes)), np.int8)
    for row, cell in zip(rows, cells, strict=True):
        if not cell:
            row[:] = -1
        elif cell != NO_LABELS:
            row[[position[label] for label in cell.split(JOINT)]] = 1
    return rows
