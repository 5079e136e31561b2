"""Several runs on one page: their headlines, what tells them apart, and whether their difference may be chance."""

from itertools import combinations, islice
from math import comb
from pathlib import Path

import numpy as np
from markupsafe import Markup

from tlkit import run as run_folder
from tlkit.delivery import figures, wording
from tlkit.delivery.folder import Folder
from tlkit.delivery.report import render
from tlkit.evaluation.compare import paired_difference
from tlkit.evaluation.metrics import headline_metric

MOST_PAIRS = 15
CHANCE = 0.05  # p-value from which on a difference is not told from chance


def write_side_by_side(paths, out):
    """Write a page that puts runs side by side.

    Args:
        paths: Folders of complete runs.
        out: The file to write.

    Returns:
        `out` as a path.

    Raises:
        RunError: If what a run must have is missing or damaged.
    """
    folders = [Folder(path) for path in paths]
    run_folder.write_text(out, render("compare.html.j2", _page(folders)))
    return Path(out)


def _page(folders):
    tasks = {}
    for folder in folders:
        for name, task in folder.tasks.items():
            tasks.setdefault((name, task.kind), []).append(folder)
    return {
        "title": _title(folders, tasks),
        "names": _names(folders),
        "tasks": [_task(name, kind, folders) for name, kind in tasks],
        "pairs": _pairs(folders),
        "pairs_left_out": max(0, comb(len(folders), 2) - MOST_PAIRS),
        "recipes": differing_keys([folder.recipe for folder in folders]),
        "data": differing_keys([_data_facts(folder) for folder in folders]),
        "drawings": _curves(folders),
        "styles": wording.STYLE_OF,
    }


def _names(folders):
    """Return the shortest ends of the paths that tell the runs apart."""
    for length in range(1, 1 + max(len(folder.path.parts) for folder in folders)):
        names = ["/".join(folder.path.parts[-length:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder.path) for folder in folders]


def _title(folders, tasks):
    (name, kind), having = next(iter(tasks.items()))
    key = headline_metric(kind)[0]
    values = [folder.splits[folder.headline]["tasks"][name][key] for folder in having]
    values = [value for value in values if value is not None]
    said = Markup("{} runs side by side").format(len(folders))
    if not values:
        return said
    low, high = (wording.figure(value, wording.STYLE_OF[key]) for value in (min(values), max(values)))
    return said + Markup(": {} from {} to {}").format(wording.TITLE_OF[key], low, high)


def _task(name, kind, folders):
    """Return a task's headlines, figures and classes, a cell for each run: None where it lacks the task."""
    entries = [
        folder.splits[folder.headline]["tasks"][name]
        if name in folder.tasks and folder.tasks[name].kind == kind
        else None
        for folder in folders
    ]
    summaries = [
        None if entry is None else wording.task_summary(folder, name)
        for folder, entry in zip(folders, entries, strict=True)
    ]
    _share_a_scale([summary for summary in summaries if summary and "bar" in summary])
    rows = [
        {"title": title, "style": style, "cells": [entry and entry.get(key) for entry in entries]}
        for key, title, style, _ in wording.FIGURES[kind]
    ]
    column, of_class = ("average_precision", "average precision") if kind == "multilabel" else ("f1", "F1")
    classes = {label: None for entry in entries if entry for label in entry.get("per_class", {})}
    return {
        "name": name,
        "heads": [_head(*row) for row in zip(folders, entries, summaries, strict=True)],
        "figures": [row for row in rows if any(value is not None for value in row["cells"])],
        "of_class": of_class,
        "classes": [
            (label, [(entry or {}).get("per_class", {}).get(label, {}).get(column) for entry in entries])
            for label in classes
        ],
    }


def _head(folder, entry, summary):
    if entry is None:
        return None
    return summary | {
        "n": entry["n_labelled"],
        "split": wording.SPLITS[folder.headline],
        "trust": wording.trust(folder),
        "seconds": folder.timing.get("total_seconds"),
    }


def _share_a_scale(summaries):
    """Give bars of errors, whose ends are where each run's errors end, one common end."""
    top = max((summary["bar"]["top"] for summary in summaries), default=1.0)
    for summary in summaries:
        bar = summary["bar"]
        ratio = bar["top"] / top
        summary["bar"] = {
            key: None if value is None else round(value * ratio, 2) for key, value in bar.items() if key != "top"
        } | {"top": top}


def _pairs(folders):
    """Return the paired verdict on each two runs that have predicted images in common."""
    found = []
    for (i, one), (j, other) in islice(combinations(enumerate(folders), 2), MOST_PAIRS):
        for name, task in one.tasks.items():
            if name not in other.tasks or other.tasks[name].kind != task.kind:
                continue
            if other.tasks[name].classes == task.classes and (difference := _difference(one, other, name, task)):
                found.append({"first": i, "second": j, "task": name, "difference": difference} | _verdict(difference))
    return found


def _difference(one, other, name, task):
    """Return the `Difference` on the images that both have predicted in their headline splits, or None."""
    if one.predicted is None or other.predicted is None:
        return None
    place = {(path, other.sha256.get(path)): k for k, path in enumerate(other.predicted.paths)}
    rows = [
        (k, place[path, one.sha256.get(path)])
        for k, path in enumerate(one.predicted.paths)
        if (path, one.sha256.get(path)) in place
    ]
    if not rows:
        return None
    first, second = np.array(rows).T
    labels, others = one.predicted.labels[name][first], other.predicted.labels[name][second]
    if not np.array_equal(labels, others, equal_nan=labels.dtype.kind == "f"):
        return None
    outputs = (one.predicted.outputs[name][first], other.predicted.outputs[name][second])
    difference = paired_difference(labels, *outputs, task)
    return difference if difference.gain is not None else None


def _verdict(difference):
    """Return a paired difference in words."""
    style = {"accuracy": "points", "mae": "g3"}.get(difference.metric, "signed")
    clear = difference.p < CHANCE
    if difference.gain == 0:
        words = "no difference"
    elif clear:
        words = "the second is better" if difference.gain > 0 else "the first is better"
    else:
        words = "not distinguishable"
    if difference.won is not None:
        words += f": {difference.won} images only the second got right, {difference.lost} only the first"
    return {"words": words, "style": style, "told_apart": clear}


def differing_keys(recipes):
    """Return the keys in which nested values differ: `(dotted key, values)` pairs, None where one lacks the key.

    Args:
        recipes: List of nested dicts and lists.
    """
    flat = [dict(_flatten(recipe)) for recipe in recipes]
    keys = dict.fromkeys(key for of_one in flat for key in of_one)
    rows = [(key, [of_one.get(key) for of_one in flat]) for key in keys]
    return [(key, values) for key, values in rows if any(value != values[0] for value in values)]


def _flatten(value, prefix=""):
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _data_facts(folder):
    data = folder.data
    return {"source": data.get("source"), "fingerprint": data.get("fingerprint", "")[:12]} | {
        f"{split} images": count for split, count in data.get("counts", {}).items()
    }


def _curves(folders):
    histories = [[row for row in folder.history if "val_loss" in row] for folder in folders]
    if not any(histories):
        return []
    return [
        figures.draw_histories(f"h-{column}", histories, column, f"validation {title}")
        for column, title in (("loss", "loss"), ("accuracy", "accuracy"))
    ]
