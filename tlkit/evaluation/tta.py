"""Test-time augmentation: what several views of an image predict becomes one prediction, if that helps."""

import numpy as np

from tlkit.errors import RecipeError, did_you_mean
from tlkit.evaluation.compare import holm, paired_difference
from tlkit.evaluation.metrics import headline_metric, task_metrics

AVERAGES = ("probabilities", "logits", "geometric")
LEVEL = 0.05  # a set of views is kept only below this p, corrected for the number of candidates
SMALLEST_PROBABILITY = 1e-7  # what a probability counts for at least, so that no single view rules a class out
PARTS = 5  # of images on which sets of views are both chosen and measured, each part by the choice on the others


def check_average(how):
    """Refuse a name that is none of `AVERAGES`.

    Raises:
        RecipeError: If it is so.
    """
    if how not in AVERAGES:
        raise RecipeError(
            f"average: expected one of {', '.join(AVERAGES)}. Received: {how!r}.{did_you_mean(how, AVERAGES)}"
        )


def average(values, kind, how="probabilities"):
    """Average what several views predict.

    For single labels the normalized geometric mean of softmax outputs is the softmax of the mean logits, so
    `"geometric"` and `"logits"` are the same. For several labels they are not: the mean logit normalizes the geometric
    mean of p with that of 1 - p, while `"geometric"` is that of p alone, hence never more than the arithmetic mean.
    Numbers (regression) are averaged as they are in any case.

    Args:
        values: float32 `(views, images, outputs)`: probabilities, or the numbers of a regression.
        kind: The task's kind.
        how: `"probabilities"`, `"logits"` or `"geometric"`.

    Returns:
        float32 `(images, outputs)`; of a single view, what it predicts.

    Raises:
        RecipeError: If `how` is none of these.
    """
    check_average(how)
    if len(values) == 1:
        return values[0]
    if kind == "regression" or how == "probabilities":
        return values.mean(axis=0, dtype=np.float64).astype(np.float32)  # whatever their order
    small = SMALLEST_PROBABILITY
    probable = np.log(np.clip(values, small, None, dtype=np.float64)).mean(axis=0)
    if kind == "single_label":
        shares = np.exp(probable - probable.max(axis=1, keepdims=True))
        return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    if how == "geometric":
        return np.exp(probable).astype(np.float32)
    improbable = np.log(np.clip(1 - values.astype(np.float64), small, None)).mean(axis=0)
    return (1 / (1 + np.exp(improbable - probable))).astype(np.float32)


def measure_views(name, views, split, labels, plain, averaged, tasks):
    """Return what a set of views changes, task by task, compared to the evaluation view alone.

    Args:
        name: Name of the set.
        views: Number of its views.
        split: What the images are called, such as `"test"`.
        labels: Dict of task name to labels, as for `tlkit.evaluation.metrics.task_metrics`.
        plain: Dict of task name to what the evaluation view alone predicts.
        averaged: Dict of task name to what the set predicts.
        tasks: Dict of task name to `Task`.

    Returns:
        List of dicts, one per task that has labels: `name`, `views`, `split`, `task`, `metric`, its `value` with the
        views and its `interval`, the `gain` (positive: better) with its `gain_interval`, `flipped_right` and
        `flipped_wrong` (single-label: predictions that become right or wrong; else None), and the paired test's `p`.
    """
    rows = []
    for task_name, task in tasks.items():
        metric, interval = headline_metric(task.kind)
        entry = task_metrics(labels[task_name], averaged[task_name], task)
        if entry[metric] is None:
            continue
        change = paired_difference(labels[task_name], plain[task_name], averaged[task_name], task)
        row = {"name": name, "views": views, "split": split, "task": task_name, "metric": metric}
        row |= {"value": entry[metric], "interval": entry[interval]}
        row |= {"gain": change.gain, "gain_interval": change.interval}
        row |= {"flipped_right": change.won, "flipped_wrong": change.lost, "p": change.p}
        rows.append(row)
    return rows


def choose_views(rows):
    """Choose the set of views that is surest to help, if one helps by more than chance makes likely.

    Each p-value is corrected by Holm's method for all candidates and tasks. A set is kept if some task is better with a
    corrected p below 0.05, and no task is worse with an uncorrected one below 0.05.

    Args:
        rows: As from `measure_views`: those of all candidates, on images that are not the headline's.

    Returns:
        `(name, reason)`: the set's name, or `"none"`; one sentence that says why.

    Reference:
        Holm 1979, https://www.jstor.org/stable/4615733
    """
    if not rows:
        return "none", "no set of views can be chosen: there is nothing to choose it by"
    corrected = holm([row["p"] if row["gain"] > 0 else 1.0 for row in rows])
    harmful = {row["name"] for row in rows if row["gain"] < 0 and row["p"] < LEVEL}
    order = sorted(range(len(rows)), key=lambda n: _rank(rows[n], corrected[n]))
    for n in order:
        if corrected[n] < LEVEL and rows[n]["gain"] > 0 and rows[n]["name"] not in harmful:
            return rows[n]["name"], f"{rows[n]['name']} helps: {_in_words(rows[n], corrected[n], rows)}"
    best = rows[order[0]]
    why = f"{best['name']}: {_in_words(best, corrected[order[0]], rows)}"
    if corrected[order[0]] < LEVEL:
        return "none", f"no set of views helps one task without hurting another; {why}"
    return "none", f"no set of views helps by more than chance makes likely; the best, {why}"


def _rank(row, corrected):
    """Return what puts the row that is surest to help first, and of equally sure ones that with the fewest views."""
    better = row["gain"] > 0
    return not better, corrected, row["p"] if better else 0.0, -row["gain"], row["views"]


def _in_words(row, corrected, rows):
    tried = f", corrected for {len(rows)} tests" if len(rows) > 1 else ""
    flipped = ""
    if row["flipped_right"] is not None:
        flipped = f", predictions that become right: {row['flipped_right']}, wrong: {row['flipped_wrong']}"
    return f"{describe_gain(row)} on {row['split']}{flipped} (p {corrected:.2g}{tried})"


def describe_gain(row):
    """Return a row's figure and its change in words: `"accuracy 0.905 (+0.024)"`; a lower error is a minus."""
    figure = row["metric"].replace("_", " ")
    digits, sign = ("g", -1) if row["metric"] == "mae" else ("f", 1)
    of_task = "" if row["task"] == "label" else f"{row['task']} "
    return f"{of_task}{figure} {row['value']:.3{digits}} ({sign * row['gain']:+.3{digits}})"


def cross_fit(split, labels, plain, candidates, tasks, seed=0):
    """Choose views and measure them on the same images, no image by a choice that it took part in.

    The images are dealt into five parts; each is predicted with the set that `choose_views` finds on the other four.

    Args:
        split, labels, plain, tasks: As for `measure_views`.
        candidates: Dict of set to `(number of views, dict of task name to what the set predicts)`.
        seed: Seed of the parts.

    Returns:
        `(averaged, chosen)`: dict of task name to predictions, and for each part the name of its set.
    """
    images = len(next(iter(plain.values())))
    part = np.random.default_rng(seed).permutation(images) % PARTS
    averaged, chosen = {name: values.copy() for name, values in plain.items()}, []
    for number in range(PARTS):
        others, own = np.flatnonzero(part != number), np.flatnonzero(part == number)
        rows = []
        for name, (views, predicted) in candidates.items():
            taken = ({task: values[others] for task, values in by.items()} for by in (labels, plain, predicted))
            rows += measure_views(name, views, split, *taken, tasks)
        best, _ = choose_views(rows)
        chosen.append(best)
        if best != "none":
            for task, values in candidates[best][1].items():
                averaged[task][own] = values[own]
    return averaged, chosen
