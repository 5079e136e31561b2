"""A completed run of three tasks, one of each kind, whose model is a table: what each image is told to be."""

import json

import numpy as np

INPUTS = {
    "image_size": 8,
    "fit": "crop",
    "batch_size": 8,
    "block_ends": ["end"],
    "tasks": {
        "cells": {"kind": "multilabel", "classes": ["Platelets", "RBC", "WBC"]},
        "count": {"kind": "regression", "classes": [], "mean": 11.5, "scale": 4.0},
        "stage": {"kind": "single_label", "classes": ["early", "late"]},
    },
}
OUTPUTS = {
    "cells": [[0.2, 0.9, 0.6], [0.1, 0.3, 0.4], [0.5, 0.8, 0.1]],
    "count": [[12.25], [3.0], [20.5]],
    "stage": [[0.75, 0.25], [0.125, 0.875], [0.5, 0.5]],
}
METRICS = {
    "primary": "test.tasks.cells.mean_average_precision",
    "test": {
        "n": 72,
        "loss": 1.25,
        "used_for": [],
        "tasks": {
            "cells": {
                "kind": "multilabel",
                "n_labelled": 70,
                "mean_average_precision": 0.9312,
                "mean_average_precision_interval": [0.9012, 0.9555],
                "constant_mean_average_precision": 0.8121,
            },
            "count": {
                "kind": "regression",
                "n_labelled": 68,
                "mae": 2.1234,
                "mae_interval": [1.9123, 2.4123],
                "training_mean_mae": 4.5432,
            },
        },
    },
}


def write_run(path):
    """Write the folder of such a run and return it."""
    path.mkdir()
    (path / "recipe.toml").touch()
    (path / "model.keras").touch()
    (path / "splits.csv").write_text("path,split,sha256\n")
    (path / "inputs.json").write_text(json.dumps(INPUTS))
    (path / "metrics.json").write_text(json.dumps(METRICS))
    return path


def outputs(_run, _data, indices, **_settings):
    """Stand in for `Run.probabilities`: image i is given row i mod 3."""
    return {name: np.array(rows, np.float32)[np.asarray(indices) % 3] for name, rows in OUTPUTS.items()}
