"""Run folders as `compare` and ensembles read them, written from arrays: no model, no images."""

import csv
import json

import numpy as np
import tomli_w

from tlkit.data.labels import label_texts
from tlkit.evaluation.metrics import headline_metric, predicted_labels
from tlkit.evaluation.predictions import prediction_header
from tlkit.tasks import Task

LABEL = {"label": Task("single_label", ("cat", "dog", "owl"))}


INPUTS = {"image_size": 8, "fit": "crop", "batch_size": 8, "block_ends": ["end"]}


def write_run(folder, images, labels, outputs, *, tasks=None, split="test", others=None, recipe=None, used_for=()):
    """Write a completed run that predicts `images`, and return its folder.

    Args:
        images: What the images are: equal ones have equal contents, wherever and whatever they are called.
        labels, outputs: Dicts of task to arrays, as for `task_metrics`.
        tasks: Dict of name to `Task`.
        split: The split that `images` are, the headline.
        others: Dict of image to another split.
        recipe: What the recipe says besides seeds.
        used_for: What the split chose.
    """
    tasks = tasks or LABEL
    folder.mkdir(parents=True)
    (folder / "model.keras").touch()
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe or {"seed": 0, "data": {"split_seed": 0}}))
    kinds = {
        name: {"kind": task.kind, "classes": task.classes, "mean": task.mean, "scale": task.scale}
        for name, task in tasks.items()
    }
    (folder / "inputs.json").write_text(json.dumps(INPUTS | {"tasks": kinds}))
    name, task = next(iter(tasks.items()))
    figures = {"kind": task.kind} | dict.fromkeys(headline_metric(task.kind))
    metrics = {"primary": f"{split}.tasks.{name}.{headline_metric(task.kind)[0]}"}
    metrics[split] = {"used_for": list(used_for), "tasks": {name: figures}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    paths = [f"{folder.name}/{image}-{number}.png" for number, image in enumerate(images)]
    rows = [(path, split, f"hash of {image}") for path, image in zip(paths, images, strict=True)]
    rows += [(f"{image}.png", other, f"hash of {image}") for image, other in (others or {}).items()]
    write_table(folder / "splits.csv", ("path", "split", "sha256"), rows)
    columns = [paths]
    for name, task in tasks.items():
        columns.append(label_texts(task, np.asarray(labels[name])))
        values = np.asarray(outputs[name])
        if task.kind != "regression":
            columns.append(label_texts(task, predicted_labels(values, task)))
        columns += [[f"{value:.7g}" for value in column] for column in values.T]
    write_table(folder / f"predictions_{split}.csv", prediction_header(tasks), list(zip(*columns, strict=True)))
    return folder


def write_table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def says(answers, classes=3, certainty=0.7):
    """Return probabilities of a model that gives those classes."""
    return np.eye(classes)[answers] * certainty + (1 - certainty) / classes


def recipe(seed, **keys):
    """Return a recipe with that seed."""
    return {"seed": seed, **keys, "data": {"split_seed": 0, "image_size": 8}}
