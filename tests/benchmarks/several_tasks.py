"""Cells and their count in blood smears: together, alone, with other weights, with labels missing.

    python tests/benchmarks/several_tasks.py [BCCD/labels.csv] [--recipe NAME] [--only ROW]... [--seeds 0 1 2]
        [--set KEY=VALUE]... [--out DIR]

Each row is a run of the recipe (of the default one, unless another is named) on the given splits; the figures are of
the test split, which chose nothing.
"""

import argparse
import csv
import random
from pathlib import Path

from datasets import data_folder

BOTH = {"cells": "multilabel", "rbc_count": "regression"}
ROWS = {
    "cells alone": ({"cells": "multilabel"}, {}, 0.0),
    "count alone": ({"rbc_count": "regression"}, {}, 0.0),
    "together": (BOTH, {}, 0.0),
    "together, lambda of the count 0.1": (BOTH, {"loss.weights": {"rbc_count": 0.1}}, 0.0),
    "together, lambda of the count 10": (BOTH, {"loss.weights": {"rbc_count": 10.0}}, 0.0),
    "together, learned weights": (BOTH, {"loss.weights": "uncertainty"}, 0.0),
    "together, 30 % of the labels missing": (BOTH, {}, 0.3),
    "together, frozen linear probe": (BOTH, {"stages": "probe"}, 0.0),
    "together, head trained, no probe": (BOTH, {"stages": "head", "head.init": "random"}, 0.0),
    "together, all unfrozen from the start": (BOTH, {"stages": "all", "head.init": "random"}, 0.0),
}


def main():
    options = _options()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    head = [
        "row",
        "seed",
        "AP of Platelets",
        "of a constant",
        "mean AP",
        "error of the count",
        "of a constant",
        "labelled",
    ]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
    for name, (tasks, settings, missing) in ROWS.items():
        if options.only and name not in options.only:
            continue
        for seed in options.seeds:
            labels = _with_missing(Path(options.labels), missing, out / f"missing_{missing}.csv")
            row = _row(labels, tasks, settings, seed, options, out / f"{name.replace(' ', '_')}_{seed}")
            print(f"| {name} | {seed} | {' | '.join(row)} |", flush=True)


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", nargs="?", default=str(data_folder() / "bccd" / "labels.csv"))
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", default="several_tasks")
    return parser.parse_args()


def _with_missing(labels, share, path):
    """Write the CSV with absolute paths and a share of each task's labels removed at random."""
    chance = random.Random(0)
    with labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            lost = {name: "" for name in BOTH if chance.random() < share}
            writer.writerow(row | {"path": str(labels.parent.resolve() / row["path"])} | lost)
    return path


def _row(labels, tasks, settings, seed, options, out):
    from tlkit.api import finetune_recipe, load_run
    from tlkit.recipe import read_recipe

    if not (out / "metrics.json").is_file():
        recipe = read_recipe(options.recipe, options.set, {"tasks": tasks, "seed": seed, **settings})
        finetune_recipe(recipe, labels, out=out, resume=True)
    found = load_run(out).metrics["test"]["tasks"]
    cells = ["", "", "", "", "", ""]
    if "cells" in found:
        platelets = found["cells"]["per_class"]["Platelets"]
        cells[:3] = [
            _within(platelets["average_precision"], platelets["average_precision_interval"]),
            f"{platelets['constant_average_precision']:.3f}",
            _within(found["cells"]["mean_average_precision"], found["cells"]["mean_average_precision_interval"]),
        ]
    if "rbc_count" in found:
        count = found["rbc_count"]
        cells[3:5] = [_within(count["mae"], count["mae_interval"]), f"{count['training_mean_mae']:.3f}"]
    cells[5] = ", ".join(str(of["n_labelled"]) for of in found.values())
    return cells


def _within(value, interval):
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


if __name__ == "__main__":
    main()
