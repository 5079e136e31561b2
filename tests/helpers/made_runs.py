"""Run folders made without training, complete but for their model: predictions are drawn, metrics are computed."""

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tlkit.evaluation.metrics import split_metrics
from tlkit.tasks import Task

SINGLE = {"label": Task("single_label", ("ant", "bee", "wasp"))}
TWO = {"label": Task("single_label", ("no", "yes"))}
MULTI = {"label": Task("multilabel", ("red", "green", "blue"))}
NUMBER = {"label": Task("regression", (), 10.0, 4.0)}
SEVERAL = {
    "species": Task("single_label", ("ant", "bee", "wasp")),
    "marks": Task("multilabel", ("red", "green")),
    "size": Task("regression", (), 10.0, 4.0),
}

RECIPE = """seed = 0

[tasks]
label = "single_label"

[data]
image_size = 32

[backbone]
name = "efficientnet_lite0"
weights = "imagenet"

[head]
custom = ""

[training]
monitor = "loss"

[[stages]]
unfreeze = 0
epochs = 2
learning_rate = 0.01
schedule = "cosine"
"""


def draw_labels(task, count, random):
    """Return drawn labels of a task."""
    if task.kind == "regression":
        return random.normal(10, 4, count).round(2)
    if task.kind == "multilabel":
        return (random.random((count, len(task.classes))) < 0.4).astype(np.int8)
    return random.integers(0, len(task.classes), count).astype(np.int32)


def draw_outputs(task, labels, random, quality):
    """Return drawn outputs for labels, the better the higher `quality`."""
    if task.kind == "regression":
        return (labels + random.normal(0, 2 / quality, len(labels))).astype(np.float32)[:, None]
    noise = random.normal(0, 1, (len(labels), len(task.classes)))
    if task.kind == "multilabel":
        return (1 / (1 + np.exp(-quality * (2.0 * labels - 1) - noise))).astype(np.float32)
    noise[np.arange(len(labels)), labels] += 2 * quality
    odds = np.exp(noise)
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def label_text(task, label):
    """Return a label as `splits.csv` has it."""
    if task.kind == "regression":
        return "" if np.isnan(label) else repr(float(label))
    if task.kind == "single_label":
        return "" if label < 0 else task.classes[label]
    if label[0] < 0:
        return ""
    return "|".join(name for name, has in zip(task.classes, label, strict=True) if has) or "-"


def write_predictions(path, tasks, paths, labels, outputs):
    """Write a `predictions_<split>.csv`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        heads = [[name, f"{name}.prediction", *(f"{name}.{c}" for c in task.classes)] for name, task in tasks.items()]
        writer.writerow(["path", *(head for of_task in heads for head in of_task)])
        for i, image in enumerate(paths):
            row = [image]
            for name, task in tasks.items():
                row.append(label_text(task, labels[name][i]))
                row += [f"{value:.7g}" for value in outputs[name][i]] if task.kind == "regression" else ["?"]
                row += [f"{value:.7g}" for value in outputs[name][i]] if task.kind != "regression" else []
            writer.writerow(row)


def make_run(
    path, tasks=None, *, count=40, split="test", used_for=(), seed=0, quality=1.0, pictures=True, findings=(), more=None
):
    """Write a run folder and the images beside it, and return its path.

    Args:
        path: The folder.
        tasks: Dict of name to `Task`; by default three classes.
        count: Number of images in the headline split.
        split, used_for: The headline split, and what it was used to choose.
        seed, quality: Of the predictions; the labels are the same for all seeds.
        pictures: Whether the images exist.
        findings: For `data.json`.
        more: Dict of further keys for `metrics.json`.
    """
    tasks = SINGLE if tasks is None else tasks
    path, random = Path(path), np.random.default_rng(seed)
    path.mkdir(parents=True)
    source = path.parent / "images"
    paths = [f"{k:05}.png" for k in range(count)]
    labels = {name: draw_labels(task, count, np.random.default_rng(0)) for name, task in tasks.items()}
    outputs = {name: draw_outputs(task, labels[name], random, quality) for name, task in tasks.items()}
    metrics = {"primary": f"{split}.tasks.{next(iter(tasks))}.x"}
    metrics[split] = split_metrics(labels, outputs, tasks, list(used_for))
    hashes = _write_images(source, paths) if pictures else ["0" * 64] * count
    _write_json(path / "metrics.json", metrics | (more or {}))
    _write_json(path / "inputs.json", _inputs(tasks))
    _write_json(path / "data.json", _data(tasks, labels, split, source, findings))
    _write_json(path / "environment.json", {"command": "tlkit finetune --data images", "started": "2026-01-02T03:04:05",
                                            "packages": {"tlkit": "0.1.0"}, "device": "CPU"})  # fmt: skip
    _write_json(path / "timing.json", {"total_seconds": 12.5, "stages": [{"stage": 0, "seconds": 11.0}]})
    shipped = {"stage": 0, "epoch": 1, "val_loss": 0.5, "val_accuracy": 0.8}
    contest = shipped | {"difference": -0.25, "standard_error": 0.05, "against": "the probe", "taken": True}
    _write_json(path / "selection.json", {"shipped": shipped, "contests": [contest]})
    (path / "history.csv").write_text(
        "stage,epoch,step,loss,accuracy,val_loss,val_accuracy,learning_rate\n"
        "0,0,5,0.9,0.6,0.7,0.7,0.01\n0,1,10,0.6,0.75,0.5,0.8,0.001\n"
    )
    (path / "recipe.toml").write_text(RECIPE)
    (path / "model.keras").touch()
    write_predictions(path / f"predictions_{split}.csv", tasks, paths, labels, outputs)
    texts = [[label_text(task, label) for label in labels[name]] for name, task in tasks.items()]
    with (path / "splits.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["path", "split", "sha256", *tasks],
                                    *zip(paths, [split] * count, hashes, *texts, strict=True)])  # fmt: skip
    return path


def edit(path, name, change):
    """Change a JSON file of a run in place: `change(value)` may change it, or return another."""
    value = json.loads((path / name).read_text("utf-8"))
    changed = change(value)
    _write_json(path / name, value if changed is None else changed)


def _write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def _write_images(source, paths):
    source.mkdir(exist_ok=True)
    hashes = []
    for k, name in enumerate(paths):
        if not (source / name).exists():
            pixels = np.random.default_rng(k).integers(0, 255, (24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(source / name)
        hashes.append(hashlib.sha256((source / name).read_bytes()).hexdigest())
    return hashes


def _inputs(tasks):
    described = {
        name: {"kind": task.kind, "classes": list(task.classes)}
        | ({"mean": task.mean, "scale": task.scale} if task.kind == "regression" else {})
        for name, task in tasks.items()
    }
    return {"image_size": 32, "fit": "crop", "block_ends": ["end"], "batch_size": 8, "tasks": described}


def _data(tasks, labels, split, source, findings):
    """Return `data.json` with as many training images of each class as the headline split has."""
    counts, values = {}, {}
    for name, task in tasks.items():
        if task.kind == "regression":
            spread = {"mean": 10.0, "std": 4.0, "min": 1.0, "max": 20.0}
            values[name] = {"train": spread, split: spread}
        else:
            hits = labels[name] if task.kind == "multilabel" else labels[name][:, None] == np.arange(len(task.classes))
            of_class = dict(zip(task.classes, hits.sum(axis=0).tolist(), strict=True))
            counts[name] = {"train": of_class, split: of_class}
    n = len(next(iter(labels.values())))
    return {
        "source": str(source),
        "fingerprint": "f" * 64,
        "splits_given": False,
        "counts": {"train": n, split: n},
        "kinds": {name: task.kind for name, task in tasks.items()},
        "classes": {name: list(task.classes) for name, task in tasks.items()},
        "class_counts": counts,
        "values": values,
        "missing": {name: {"train": 0, split: 0} for name in tasks},
        "findings": list(findings),
    }
