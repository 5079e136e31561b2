"""What temperature scaling does to probabilities: log loss and calibration error before and after, on unseen images.

    python tests/benchmarks/calibration.py --runs NAME RUN... [--runs NAME RUN...]... [--small 20 50] [--draws 60]
           [--alpha 0.1]

A row pools the runs of one name, such as the folds of a cross-validation: each has its own temperature, fitted on its
validation images by the rule that runs follow, and is judged on its test images. A run without test images is judged
cross-fitted: ten parts of its validation images, each scaled by what the others say. "always" is the plain fit, kept
without asking. The change of the log loss has the paired bootstrap interval over images. With --small, temperatures
are fitted on that many of the validation images, drawn anew several times. With --alpha, a second table: conformal
sets of single-label tasks, with thresholds from each run's validation images, checked on its test images.

Runs that are calibrated already are taken as they were before.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from tlkit import run as run_folder
from tlkit.evaluation.bootstrap import mean_interval
from tlkit.evaluation.calibration import choose_temperature, fit_temperature, log_losses, logits_from, scaled
from tlkit.evaluation.conformal import fit_threshold, prediction_sets
from tlkit.evaluation.figures import wilson_interval
from tlkit.evaluation.reliability import calibration_error
from tlkit.tasks import Task

FOLDS = 10
RULES = ("kept if it helps", "always")


def main():
    options = _options()
    header = [
        "data",
        "task",
        "rule",
        "runs",
        "val",
        "test",
        "kept",
        "T",
        "log loss",
        "after",
        "change (95 %)",
        "ECE",
        "after",
    ]
    rows = []
    for name, *paths in options.runs:
        runs = [read_run(Path(path)) for path in paths]
        for task_name, task in runs[0]["tasks"].items():
            if task.kind != "regression":
                of_task = [{split: run[split][task_name] for split in ("val", "test") if run[split]} for run in runs]
                rows += [[name, task_name, *row(of_task, task, rule)] for rule in RULES]
                rows += [[name, task_name, *small_row(of_task, task, n, options.draws)] for n in options.small]
    _print(header, rows)
    if options.alpha:
        header = ["data", "task", "runs", "alpha", "threshold", "test", "coverage", "95 % interval", "classes a set"]
        _print(header, [cells for name, *paths in options.runs for cells in set_rows(name, paths, options.alpha)])


def _print(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    print("\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n")


def set_rows(name, paths, alpha):
    """Yield the cells on conformal sets for each single-label task of the runs: pooled test images."""
    runs = [run for run in (read_run(Path(path)) for path in paths) if run["test"]]
    for task_name, task in runs[0]["tasks"].items() if runs else ():
        if task.kind != "single_label":
            continue
        thresholds, covered, sizes = [], [], []
        for run in runs:
            labels, probabilities = run["test"][task_name]
            thresholds.append(fit_threshold(*run["val"][task_name], alpha))
            sets = prediction_sets(probabilities, thresholds[-1])
            covered.append(sets[np.arange(len(labels)), labels])
            sizes.append(sets.sum(axis=1))
        covered, sizes = np.concatenate(covered), np.concatenate(sizes)
        low, high = wilson_interval(covered.sum(), len(covered))
        span = f"{min(thresholds):.3f} to {max(thresholds):.3f}"
        found = [f"{covered.mean():.3f}", f"{low:.3f} to {high:.3f}", f"{sizes.mean():.2f}"]
        yield [name, task_name, str(len(runs)), f"{alpha:g}", span, str(len(covered)), *found]


def row(runs, task, rule):
    """Return the cells of the pooled runs under one rule."""
    found = [judge(run, task, rule) for run in runs]
    temperatures = [temperature for _, _, _, of_run in found for temperature in of_run]
    labels, before, after = (np.concatenate([of_run[k] for of_run in found]) for k in range(3))
    losses = [log_losses(labels, logits_from(p, task), task) for p in (before, after)]
    change = losses[1] - losses[0]
    low, high = mean_interval(change)
    errors = [calibration_error(labels, p, task) for p in (before, after)]
    kept = sum(temperature != 1 for temperature in temperatures)
    return [
        rule,
        str(len(runs)),
        "+".join(str(len(run["val"][0])) for run in runs),
        str(len(labels)) if "test" in runs[0] else f"{len(labels)} cross-fitted",
        f"{kept} of {len(temperatures)}",
        f"{min(temperatures):.2f} to {max(temperatures):.2f}",
        *(f"{of.mean():.3f}" for of in losses),
        f"{change.mean():+.4f} ({low:+.4f} to {high:+.4f})",
        *(f"{error:.3f}" for error in errors),
    ]


def judge(run, task, rule):
    """Return labels, probabilities before and after on images that were not fitted on, and the temperatures."""
    if "test" in run:
        temperature, (labels, probabilities) = fit(*run["val"], task, rule), run["test"]
        return labels, probabilities, scaled(probabilities, temperature, task), [temperature]
    labels, probabilities = run["val"]
    after, temperatures, part = np.empty_like(probabilities), [], np.arange(len(labels)) % FOLDS
    for number in range(FOLDS):
        inside, others = part == number, part != number
        temperatures.append(fit(labels[others], probabilities[others], task, rule))
        after[inside] = scaled(probabilities[inside], temperatures[-1], task)
    return labels, probabilities, after, temperatures


def fit(labels, probabilities, task, rule):
    """Return the temperature that is applied: 1 where none is kept."""
    if rule == "always":
        return fit_temperature(labels, logits_from(probabilities, task), task, prior_images=0)
    return choose_temperature(labels, probabilities, task).applied


def small_row(runs, task, n, draws):
    """Return the cells for temperatures fitted on `n` validation images, over random draws of them."""
    random, changes, kept, fitted = np.random.default_rng(0), [], 0, []
    for run in runs:
        labels, probabilities = run["val"]
        if "test" not in run or len(labels) < n:
            continue
        tested, as_was = run["test"][0], logits_from(run["test"][1], task)
        before = log_losses(tested, as_was, task).mean()
        for _ in range(draws):
            chosen = np.sort(random.permutation(len(labels))[:n])
            temperature = fit(labels[chosen], probabilities[chosen], task, RULES[0])
            changes.append(log_losses(tested, as_was / temperature, task).mean() - before)
            kept += temperature != 1
            fitted.append(temperature)
    if not changes:
        return [RULES[0], "0", str(n), *[""] * 8]
    span = f"{min(fitted):.2f} to {max(fitted):.2f}"
    change = f"{np.mean(changes):+.4f} (mean of draws)"
    return [RULES[0], str(len(runs)), f"{n} drawn", "", f"{kept} of {len(changes)}", span, "", "", change, "", ""]


def read_run(path):
    """Return a run's tasks, and for val and test a dict of task to labels and probabilities before calibration."""
    tasks = {
        name: Task(task["kind"], tuple(task["classes"]))
        for name, task in run_folder.read_json(path / run_folder.INPUTS)["tasks"].items()
    }
    calibrated = run_folder.read_json(path / run_folder.METRICS).get("calibration", {}).get("tasks", {})
    run = {"tasks": tasks}
    for split in ("val", "test"):
        file = path / f"predictions_{split}.csv"
        run[split] = read_predictions(file, tasks) if file.is_file() else None
        for name, (labels, probabilities) in (run[split] or {}).items():
            if calibrated.get(name, {}).get("kept"):
                undone = scaled(probabilities, 1 / calibrated[name]["temperature"], tasks[name])
                run[split][name] = labels, undone
    return run


def read_predictions(path, tasks):
    """Return dict of task of classes to `(labels, probabilities)` of the images that have a label."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name, task in tasks.items():
        known = [row for row in rows if row[name]]
        if task.kind == "regression" or not known:
            continue
        cells = [row[name] for row in known]
        if task.kind == "multilabel":
            labels = np.array([[label in cell.split("|") for label in task.classes] for cell in cells], np.int8)
        else:
            labels = np.array([task.classes.index(cell) for cell in cells], np.int32)
        probabilities = [[float(row[f"{name}.{label}"]) for label in task.classes] for row in known]
        found[name] = labels, np.array(probabilities, np.float32)
    return found


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="+", action="append", required=True, help="a name, and folders of runs")
    parser.add_argument("--small", type=int, nargs="*", default=[], help="numbers of validation images to draw")
    parser.add_argument("--draws", type=int, default=60, help="draws of each")
    parser.add_argument("--alpha", type=float, default=0.0, help="how often a conformal set may miss the true class")
    return parser.parse_args()


if __name__ == "__main__":
    main()
