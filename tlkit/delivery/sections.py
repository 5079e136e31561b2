"""The sections of a report, as plain values for its template; one whose data a run lacks is None."""

import numpy as np

from tlkit.delivery import figures
from tlkit.delivery.explained import picture_mistakes
from tlkit.delivery.mistakes import confused_pairs, count_confusion, find_mistakes
from tlkit.delivery.pictures import matrix_uri
from tlkit.delivery.wording import FIGURES, SPLITS, probe_figures, score_name, stage_words

MOST_MISTAKES = (12, 8, 6)  # pictured, of each of one, two, or more tasks
MOST_PICTURED_TASKS = 6
MOST_PAIRS, MOST_PAIRS_BESIDE = 15, 8  # alone, and beside a confusion matrix
TABLE_CLASSES, MATRIX_CLASSES = 25, 200  # up to which a confusion matrix is a table of numbers, or a picture
FINDINGS_PICTURED, FINDINGS_LISTED = 8, 200  # of each kind
CLASS_COLUMNS = (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
LABEL_COLUMNS = (
    ("average_precision", "average precision"),
    ("constant_average_precision", "constant answer"),
    ("roc_auc", "ROC AUC"),
    *CLASS_COLUMNS,
)
# Kind of finding to its heading; findings without one are of an earlier version, and told by whether they count.
FINDING_KINDS = {
    "leak": "In two splits at once",
    "duplicate": "Identical images",
    "near_duplicate": "Nearly identical images",
    "conflicting_label": "One image, two labels",
    "label_error": "Labels that look wrong",
    "outlier": "Images unlike the others",
    "unreadable": "Files that can't be read",
    "extension": "File names with a wrong ending",
    "imbalance": "Classes of very different sizes",
    "tiny": "Tiny images",
    "orientation": "Images turned by a tag",
    "left_out": "Left out",
    "look": "Worth a look",
}


def task_section(folder, number, pictures, read_model, listener):
    """Return all that there is to say of one task.

    Args:
        folder: The run's `tlkit.delivery.folder.Folder`.
        number: The task's position.
        pictures: `tlkit.delivery.pictures.Pictures`.
        read_model: Function of a run folder to its model, or None.
        listener: `tlkit.progress.Listener`.
    """
    name, task = list(folder.tasks.items())[number]
    entry, predicted = folder.splits[folder.headline]["tasks"][name], folder.predicted
    section = {
        "name": name,
        "kind": task.kind,
        "id": f"task-{number}",
        "figures": _figures_table(folder, name),
        "per_class": _per_class(entry),
        "split": SPLITS[folder.headline],
    }
    if not entry["n_labelled"]:
        return section
    if task.kind == "single_label":
        section |= _confusion(entry, predicted, name, task)
    if task.kind == "regression" and predicted is not None:
        section["drawings"] = _number_drawings(f"t{number}", predicted, name)
    if predicted is not None:
        section["mistakes"] = _mistakes(folder, name, number, pictures, read_model, listener)
    section["calibration"] = _calibration(folder, name, f"t{number}")
    section["conformal"] = folder.metrics.get("conformal", {}).get(name)
    return section


def _figures_table(folder, name):
    """Return the table of a task's figures by split: `splits` and `rows`."""
    splits = {split: entry["tasks"][name] for split, entry in folder.splits.items() if name in entry["tasks"]}
    rows = []
    for key, title, style, meaning in FIGURES[folder.tasks[name].kind]:
        if any(entry.get(key) is not None for entry in splits.values()):
            cells = [{"value": e.get(key), "interval": e.get(f"{key}_interval")} for e in splits.values()]
            rows.append({"key": key, "title": title, "style": style, "meaning": meaning, "cells": cells})
    heads = [
        {"name": SPLITS[split], "n": entry["n_labelled"], "used_for": folder.splits[split]["used_for"]}
        for split, entry in splits.items()
    ]
    return {"splits": heads, "rows": rows}


def _per_class(entry):
    if not entry.get("per_class"):
        return None
    columns = LABEL_COLUMNS if entry["kind"] == "multilabel" else CLASS_COLUMNS
    rows = [
        {"name": label, "support": row["support"], "cells": [row.get(key) for key, _ in columns]}
        | {"interval": row.get("average_precision_interval")}
        for label, row in entry["per_class"].items()
    ]
    return {"columns": [title for _, title in columns], "rows": rows, "ranked": entry["kind"] == "multilabel"}


def _confusion(entry, predicted, name, task):
    given = entry.get("confusion")
    if given is None and predicted is None:
        return {}
    counts = np.asarray(given) if given is not None else count_confusion(predicted, name, task)
    most = MOST_PAIRS_BESIDE if len(counts) <= TABLE_CLASSES else MOST_PAIRS
    found = {"pairs": confused_pairs(counts, task.classes, most)}
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(counts) <= TABLE_CLASSES:
        rows = zip(task.classes, counts.tolist(), shares.round(3).tolist(), strict=True)
        found["confusion"] = {"classes": task.classes, "rows": [(label, list(zip(*row))) for label, *row in rows]}  # noqa: B905
    elif len(counts) <= MATRIX_CLASSES:
        right, wrong = int(np.trace(counts)), int(counts.sum() - np.trace(counts))
        alt = (
            f"Confusion matrix of {len(counts)} classes as a picture, true classes from top to bottom and predicted "
            f"ones from left to right in the order of the table per class: {right} images on the diagonal, which are "
            f"right, and {wrong} beside it."
        )
        found["matrix"] = {"uri": matrix_uri(shares), "alt": alt}
    return found


def _number_drawings(prefix, predicted, name):
    labels, outputs = predicted.labels[name], predicted.outputs[name][:, 0].astype(np.float64)
    known = ~np.isnan(labels)
    title = "number" if name == "label" else name
    return [
        figures.draw_scatter(f"{prefix}s", labels[known], outputs[known], title),
        figures.draw_residuals(f"{prefix}r", outputs[known] - labels[known], title),
    ]


def _mistakes(folder, name, number, pictures, read_model, listener):
    most = MOST_MISTAKES[min(len(folder.tasks), len(MOST_MISTAKES)) - 1] if number < MOST_PICTURED_TASKS else 0
    count, worst = find_mistakes(folder.predicted, name, folder.tasks[name], most)
    shown = picture_mistakes(folder, worst, pictures, read_model, listener)
    cards = [
        {"mistake": mistake, "path": folder.predicted.paths[mistake.row]} | pictured
        for mistake, pictured in zip(worst, shown, strict=True)
    ]
    return {"count": count, "cards": cards, "explained": any(card["overlay"] for card in cards)}


def _calibration(folder, name, prefix):
    """Return the reliability diagrams on the best split that has them: before and after, if anything was changed."""
    found = folder.metrics.get("calibration") or {}
    entry = found.get("tasks", {}).get(name)
    split = next((split for split in ("test", "val") if entry and entry.get(split)), None)
    if split is None or not entry[split].get("before"):
        return None
    words, titles = SPLITS[split], {"before": "Before calibration", "after": "After calibration"}
    if not entry.get("kept"):
        titles = {"after": "As trained"}
    drawings = [
        figures.draw_reliability(f"{prefix}{when}", entry[split][when], f"{title}, {words}")
        for when, title in titles.items()
        if (entry[split].get(when) or {}).get("reliability")
    ]
    rows = [
        {"title": title, "cells": [(entry[split].get(when) or {}).get(key) for when in titles]}
        for key, title in (("ece", "calibration error"), ("log_loss", "log loss"), ("brier", "Brier score"))
    ]
    return entry | {
        "fitted_on": SPLITS.get(found.get("fitted_on"), found.get("fitted_on")),
        "words": words,
        "titles": list(titles.values()),
        "drawings": drawings,
        "rows": rows,
    }


def training_section(folder):
    """Return the curves of the stages, which candidate ships, and what it contended with; None without a history."""
    history = [row for row in folder.history if "loss" in row]
    stages = [stage_words(stage) for stage in folder.recipe.get("stages", []) if isinstance(stage, dict)]
    if not history and not folder.selection:
        return None
    drawings = []
    if history:
        probe, shipped = probe_figures(folder) or {}, _shipped_row(folder, history)
        for column, title in (("loss", "loss"), ("accuracy", score_name(folder))):
            floor = probe.get(f"val_{column}")
            drawings.append(figures.draw_history(f"h-{column}", history, column, title, shipped=shipped, probe=floor))
        drawings.append(figures.draw_history("h-rate", history, "learning_rate", "learning rate"))
    return {"drawings": drawings, "stages": stages, "score": score_name(folder)}


def _shipped_row(folder, history):
    shipped = folder.selection.get("shipped")
    if not shipped:
        return None
    place = (shipped["stage"], shipped["epoch"])
    return next((k for k, row in enumerate(history) if (row["stage"], row["epoch"]) == place), None)


def data_section(folder, pictures):
    """Return how many images each split has of what, and what was found to be wrong with them; None if unknown."""
    data = folder.data
    if not data.get("counts"):
        return None
    splits = list(data["counts"])
    tables = []
    for name in folder.tasks:
        missing = [data["missing"][name][split] for split in splits]
        table = {"name": name, "kind": folder.tasks[name].kind, "missing": missing if any(missing) else None}
        if name in data.get("values", {}):
            spread = [data["values"][name][split] or {} for split in splits]
            words = (("mean", "mean"), ("standard deviation", "std"), ("least", "min"), ("largest", "max"))
            table["rows"] = [{"name": word, "cells": [of.get(key) for of in spread]} for word, key in words]
        else:
            counts = [data["class_counts"][name][split] for split in splits]
            table["rows"] = [{"name": c, "cells": [of[c] for of in counts]} for c in data["classes"][name]]
        tables.append(table)
    return {
        "source": data.get("source"),
        "splits": [SPLITS[split] for split in splits],
        "counts": [data["counts"][split] for split in splits],
        "total": sum(data["counts"].values()),
        "given": data.get("splits_given"),
        "tables": tables,
        "findings": _findings(data.get("findings", []), pictures),
    }


def _findings(findings, pictures):
    """Return the findings by kind, in order of `FINDING_KINDS`; the first few of each with their pictures."""
    by_kind = {}
    for finding in findings:
        kind = finding.get("kind") or ("left_out" if finding["left_out"] else "look")
        by_kind.setdefault(kind, []).append(finding)
    order = [*FINDING_KINDS, *sorted(set(by_kind) - set(FINDING_KINDS))]
    return [
        {
            "title": FINDING_KINDS.get(kind, kind.replace("_", " ")),
            "count": len(by_kind[kind]),
            "left_out": sum(finding["left_out"] for finding in by_kind[kind]),
            "cards": [_finding_card(finding, pictures) for finding in by_kind[kind][:FINDINGS_PICTURED]],
            "listed": by_kind[kind][FINDINGS_PICTURED:][:FINDINGS_LISTED],
            "unlisted": max(0, len(by_kind[kind]) - FINDINGS_PICTURED - FINDINGS_LISTED),
        }
        for kind in order
        if kind in by_kind
    ]


def _finding_card(finding, pictures):
    paths = [path for path in (finding["path"], finding.get("other")) if path]
    shown = [{"path": path, "uri": pictures.thumbnail(path)} for path in paths]
    return {"finding": finding, "pictures": shown, "pictured": any(one["uri"] for one in shown)}


def timing_rows(folder):
    """Return what took how long: `(title, seconds)` pairs, the total last."""
    timing = folder.timing
    rows = [("feature pass", timing.get("feature_pass_seconds")), ("linear probe", timing.get("probe_seconds"))]
    rows += [(f"stage {of['stage']}", of["seconds"]) for of in timing.get("stages", [])]
    rows += [("evaluation", timing.get("evaluation_seconds")), ("in all", timing.get("total_seconds"))]
    return [(title, seconds) for title, seconds in rows if seconds is not None]


def environment_rows(folder):
    """Return what the run ran on: `(title, text)` pairs."""
    environment = folder.environment
    rows = [(word, environment.get(word)) for word in ("started", "device", "threads", "seed", "platform", "python")]
    rows += [(name, version) for name, version in environment.get("packages", {}).items()]
    processor = environment.get("processor", {})
    rows += [("processor", processor.get("architecture")), ("instructions", " ".join(processor.get("features", [])))]
    rows += [("git revision", environment.get("git_revision"))]
    return [(title, text) for title, text in rows if text not in (None, "")]
