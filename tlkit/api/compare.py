"""Runs compared on the images that all of them held out, from the files in their folders; no model is loaded."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tlkit import run as run_folder
from tlkit.data.labels import labelled
from tlkit.errors import RecipeError, RunError
from tlkit.evaluation.compare import Difference, figure, holm, paired_difference, verdict
from tlkit.evaluation.predictions import read_predictions, read_splits, tasks_in
from tlkit.evaluation.seeds import compare_groups
from tlkit.toml import parse_toml

SPLITS = ("test", "val", "cv")
# Keys of a recipe that predictions don't depend on; where features are kept may be chosen by what the disk has left.
IDLE_KEYS = (
    ("training", "cache"),
    ("training", "checkpoint_seconds"),
    ("evaluation", "tta"),
    ("evaluation", "conformal"),
)


@dataclass(frozen=True)
class ComparedRun:
    """One run on one task: `value` and its 95 % `interval`, and how it differs from the first run.

    Attributes:
        run: The run's name: its folder, less what all folders have in common.
        value, interval: Its headline figure; None where nothing can be said.
        difference: `tlkit.evaluation.compare.Difference` to the first run; None for the first itself.
        p: Its p-value, corrected for the number of runs after Holm.
        verdict: The same in words; empty for the first run.
    """

    run: str
    value: float | None
    interval: list[float] | None
    difference: Difference | None = None
    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class ComparedSeeds:
    """The runs of one recipe on one task.

    Attributes:
        runs, seeds, values: Names, seeds and headline figures of the runs.
        mean, low, high: Mean and range of the figures.
        difference: `Difference` of the mean to the first recipe's; None for the first itself.
        p, verdict: As for `ComparedRun`.
    """

    runs: list[str]
    seeds: list[int]
    values: list[float]
    mean: float
    low: float
    high: float
    difference: Difference | None = None
    p: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class ComparedTask:
    """One task: its `kind`, `n` images that have a label, one of `runs` for each run, and `recipes` if runs share one.

    Attributes:
        metric: What the runs are judged by, such as `"accuracy"`.
        labelled_otherwise: Images left out because runs were told different labels.
    """

    kind: str
    metric: str
    n: int
    labelled_otherwise: int
    runs: list[ComparedRun]
    recipes: list[ComparedSeeds]


@dataclass(frozen=True)
class Comparison:
    """What `tlkit.compare` found.

    Attributes:
        split: Which images: `"test"`, `"val"` or `"cv"`.
        n: Number of images that all runs held out.
        left_out: Dict of reason to number of images that some run held out, but not all: `trained_on` by another,
            in another split of one (`other_split`), or `unknown` to one.
        used_for: What some run used the split to choose; an empty list makes the figures honest.
        paths: Dict of run name to its folder.
        tasks: Dict of task name to `ComparedTask`, of the tasks that all runs have.
    """

    split: str
    n: int
    left_out: dict[str, int]
    used_for: list[str]
    paths: dict[str, str]
    tasks: dict[str, ComparedTask]

    def as_dict(self):
        """Return everything as plain dicts and lists."""
        return asdict(self)


def compare(runs, *, split=None):
    """Compare completed runs on the images that all of them held out.

    Images are told by their contents, classes by their names, so the runs' order of either may differ. Each run is
    compared with the first. Runs whose recipes differ in nothing but seeds, or what can't change a prediction, are
    summarized, and recipes of which there are several seeds compared as wholes.

    Args:
        runs: At least two runs: `Run`s or folders.
        split: `"test"`, `"val"`, or `"cv"`, the held-out images of all folds; by default the runs' headline split.

    Returns:
        `Comparison`.

    Raises:
        RunError: If a folder is no completed run, the runs have no task or no held-out image in common, or their
            headline splits differ and none is named.
    """
    runs = [_Folder(getattr(run, "path", run)) for run in runs]
    if len(runs) < 2:
        raise RunError(f"compare: expected at least two runs. Received: {len(runs)}")
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise RunError("compare: expected different runs. Received: the same folder twice")
    split = _common_split(runs, split)
    tasks = _common_tasks(runs)
    held_out = [_HeldOut(run, split) for run in runs]
    shared, left_out = _shared(held_out)
    if not shared:
        reasons = ", ".join(f"{count} {WORDS[reason]}" for reason, count in left_out.items() if count)
        raise RunError(
            f"{runs[0].path} and the others have no held-out image in common ({split}: {reasons or 'no images'}). "
            "Compare runs of the same data and split: `--set data.split_seed=0` keeps it."
        )
    names = _short_names([run.path for run in runs])
    recipes = _recipes(held_out)
    return Comparison(
        split=split,
        n=len(shared),
        left_out=left_out,
        used_for=sorted({use for run in runs for use in run.metrics[split]["used_for"]} - {"training"}),  # left out
        paths={name: str(run.path) for name, run in zip(names, runs, strict=True)},
        tasks={name: _compare_task(name, task, held_out, shared, names, recipes) for name, task in tasks.items()},
    )


WORDS = {
    "trained_on": "trained on by one of them",
    "other_split": "in another split of one",
    "unknown": "unknown to one",
}


class _Folder:
    """A completed run's folder, and what its figures and tasks are; a `Run` would load what predicts images."""

    def __init__(self, path):
        self.path = run_folder.find_complete_run(path)
        self.tasks = tasks_in(run_folder.read_json(self.path / run_folder.INPUTS), self.path)
        self.metrics = run_folder.read_json(self.path / run_folder.METRICS)
        with run_folder.reading(self.path):
            split = self.metrics["primary"].partition(".")[0]
            list(self.metrics[split]["used_for"])
            range(self.metrics["cv"]["folds"] if split == "cv" else 0)


class _HeldOut:
    """What a run predicted of a split: its images by contents, and where the run has its other images."""

    def __init__(self, run, split):
        self.run = run
        folders = [run.path]
        if split == "cv":
            folders = [run.path / run_folder.FOLDS / str(fold) for fold in range(run.metrics["cv"]["folds"])]
        self.position, parts = {}, []
        self.trained_on, self.known = set(), set()
        for folder in folders:
            rows = read_splits(folder)
            predictions = read_predictions(folder, "test" if split == "cv" else split, run.tasks)
            sha256_of = {row["path"]: row["sha256"] for row in rows}
            if missing := [path for path in predictions.paths if path not in sha256_of]:
                raise RunError(f"{folder}: {missing[0]} is predicted but isn't in {run_folder.SPLITS}.")
            copies = Counter()
            for path in predictions.paths:  # copies of an image are told apart by their order
                sha256 = sha256_of[path]
                self.position[sha256, copies[sha256]] = len(self.position)
                copies[sha256] += 1
            self.known |= set(sha256_of.values())
            if split != "cv":
                self.trained_on |= {row["sha256"] for row in rows if row["split"] == "train"}
            parts.append(predictions)
        self.labels = {name: np.concatenate([part.labels[name] for part in parts]) for name in run.tasks}
        self.outputs = {name: np.concatenate([part.probabilities[name] for part in parts]) for name in run.tasks}

    def of(self, name, task, shared):
        """Return labels and probabilities of the shared images, in terms of the task's own order of classes."""
        rows = np.array([self.position[image] for image in shared])
        labels, outputs = self.labels[name][rows], self.outputs[name][rows]
        if task.kind == "regression":
            return labels, outputs
        theirs = self.run.tasks[name].classes
        columns = [theirs.index(label) for label in task.classes]
        if task.kind == "multilabel":
            return labels[:, columns], outputs[:, columns]
        return np.append(np.argsort(columns), -1)[labels], outputs[:, columns]

    @cached_property
    def recipe(self):
        """The run's recipe as plain values, less its seeds and what can't change a prediction; and the seeds."""
        path = self.run.path / run_folder.RECIPE
        try:
            values = parse_toml(run_folder.read_text(path))
        except (RecipeError, OSError) as error:
            raise RunError(f"{path}: expected the recipe that tlkit wrote. Received: {error}") from None
        for table, key in IDLE_KEYS:
            values.get(table, {}).pop(key, None)
        values.pop("tune", None)
        of_data = values.get("data", {})
        of_data.pop("view_seed", None)
        return values, (values.pop("seed", 0), of_data.pop("split_seed", None))


def _common_split(runs, split):
    """Return the split to compare, checked to be in all runs."""
    primary = {}
    for run in runs:
        primary.setdefault(run.metrics["primary"].partition(".")[0], run)
    if split is None and len(primary) > 1:
        differing = ", ".join(f"{name} ({run.path})" for name, run in primary.items())
        raise RunError(f"compare: the runs' figures are of different splits: {differing}. Choose one with --split.")
    split = split or next(iter(primary))
    if split not in SPLITS:
        raise RunError(f"compare: expected a split of {', '.join(SPLITS)}. Received: {split!r}")
    for run in runs:
        if split not in run.metrics:
            there = ", ".join(name for name in SPLITS if name in run.metrics)
            raise RunError(f"{run.path}: the run has no figures of {split}. It has: {there}. Choose with --split.")
    return split


def _common_tasks(runs):
    """Return the first run's tasks that all runs have, checked to be the same."""
    first, *others = runs
    common = {name: task for name, task in first.tasks.items() if all(name in run.tasks for run in others)}
    if not common:
        received = "; ".join(f"{run.path}: {', '.join(run.tasks)}" for run in runs)
        raise RunError(f"compare: expected runs that share a task. Received: {received}")
    for name, task in common.items():
        for run in others:
            same_task(name, task, run, first)
    return common


def same_task(name, task, run, first):
    """Check that a task of one run is that of another, the order of the classes aside.

    Raises:
        RunError: If the kind or the classes differ; it names them.
    """
    theirs = run.tasks[name]
    if theirs.kind != task.kind:
        raise RunError(f"{run.path}: {name} is {theirs.kind}, but in {first.path} it is {task.kind}.")
    odd = [_some(set(theirs.classes) - set(task.classes)), _some(set(task.classes) - set(theirs.classes))]
    if any(odd):
        words = [f"{what} {names}" for what, names in zip(("it has", "it lacks"), odd, strict=True) if names]
        raise RunError(f"{run.path}: its {name} has other classes than {first.path}: {'; '.join(words)}.")


def _some(classes, most=5):
    """Return the first few names in words; an empty text if there are none."""
    names = sorted(classes)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shared(held_out):
    """Return the images that all hold out, in the first's order, and a dict of reason to number of the others."""
    everything = dict.fromkeys(image for one in held_out for image in one.position)
    left_out = dict.fromkeys(WORDS, 0)
    shared = []
    for image in everything:
        lacking = [one for one in held_out if image not in one.position]
        if any(image[0] in one.trained_on for one in held_out):
            left_out["trained_on"] += 1
        elif not lacking:
            shared.append(image)
        else:
            left_out["other_split" if any(image[0] in one.known for one in lacking) else "unknown"] += 1
    return shared, left_out


def _compare_task(name, task, held_out, shared, names, recipes):
    told = [one.of(name, task, shared) for one in held_out]
    labels, otherwise = _agreed([labels for labels, _ in told], task)
    outputs = [values for _, values in told]
    differences = [paired_difference(labels, outputs[0], values, task) for values in outputs[1:]]
    figures = [figure(labels, values, task) for values in outputs]
    runs = [ComparedRun(names[0], *figures[0])]
    for of_run, its_figure, extra in zip(names[1:], figures[1:], _judged(differences), strict=True):
        runs.append(ComparedRun(of_run, *its_figure, **extra))
    return ComparedTask(
        kind=task.kind,
        metric=differences[0].metric,
        n=differences[0].n,
        labelled_otherwise=otherwise,
        runs=runs,
        recipes=_compare_recipes(labels, outputs, task, names, recipes),
    )


def _agreed(all_labels, task):
    """Return the labels on which all runs agree, the others missing; and for how many images two labels differ."""
    labels = all_labels[0].copy()
    known = np.all([labelled(values) for values in all_labels], axis=0)
    alike = np.all([np.atleast_2d((values == labels).T).all(axis=0) for values in all_labels], axis=0)
    labels[~(known & alike)] = np.nan if task.kind == "regression" else -1
    return labels, int((known & ~alike).sum())


def _judged(differences):
    """Return for each `Difference` a dict of it, its p corrected for their number, and its verdict."""
    said = [difference for difference in differences if difference.p is not None]
    corrected = iter(holm([difference.p for difference in said]))
    rows = []
    for difference in differences:
        p = None if difference.p is None else next(corrected)
        rows.append({"difference": difference, "p": p, "verdict": verdict(difference, p)})
    return rows


def _recipes(held_out):
    """Return lists of the positions of runs that share a recipe and the images, their seeds apart; none if none do."""
    groups = []
    for number, one in enumerate(held_out):
        values, seeds = one.recipe
        for group in groups:
            other = held_out[group[0]]
            taken = [held_out[member].recipe[1] for member in group]
            if other.recipe[0] == values and other.known == one.known and seeds not in taken:
                group.append(number)
                break
        else:
            groups.append([number])
    several = any(len(group) > 1 for group in groups)
    return [(group, [held_out[number].recipe[1][0] for number in group]) for group in groups] if several else []


def _compare_recipes(labels, outputs, task, names, recipes):
    if not recipes:
        return []
    found = compare_groups(labels, [[outputs[number] for number in group] for group, _ in recipes], task)
    judged = [{}, *_judged([figures.difference for figures in found[1:]])]
    return [
        ComparedSeeds(
            runs=[names[number] for number in group],
            seeds=seeds,
            values=figures.values,
            mean=figures.mean,
            low=min(figures.values),
            high=max(figures.values),
            **extra,
        )
        for (group, seeds), figures, extra in zip(recipes, found, judged, strict=bool(found))
    ]


def _short_names(paths):
    """Return the folders' names, less what all of them begin with."""
    common = os.path.commonpath([path.absolute().parent for path in paths])
    return [Path(os.path.relpath(path.absolute(), common)).as_posix() for path in paths]
