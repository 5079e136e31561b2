"""What each tool is worth: cross-validated accuracy with it and without, on the same images, paired.

    python tests/benchmarks/ablation.py DATA [--tools FILE | --only NAME...] [--folds 5] [--set KEY=VALUE]...

Every image is predicted once by a model that had not seen it. All rows share the folds, the seeds and one feature pass
(TLKIT_CACHE), and each row is kept in --out, so that a stopped run goes on where it was. The difference from the first
row is tested by McNemar's exact test (accuracy) and by a paired t-test (log loss); p-values are corrected by Holm.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

# Tool to what turns it on (or, where the default recipe has it on, off).
TOOLS = {
    "default": [],
    "label smoothing 0.1": ["loss.label_smoothing=0.1"],
    "mixup 0.2": ["data.mixup=0.2"],
    "CutMix 1.0": ["data.cutmix=1.0"],
    "L2-SP 0.01": ["training.l2_sp=0.01"],
    "EMA 0.98": ["training.ema=0.98"],
    "mean of the 3 best epochs": ["training.average_best=3"],
    "BatchNorm trains": ["training.batch_norm=train"],
    "BatchNorm recalibrated": ["training.batch_norm=recalibrate"],
    "augment medium": ["data.augment=medium"],
    "augment trivialaugment": ["data.augment=trivialaugment"],
    "head random, no floor": ["head.init=random"],
    "stages gradual": ["stages=gradual"],
}
# What the default recipe is compared with.
RIVALS = {
    "default": [],
    "frozen linear probe": ["stages=probe"],
    "head trained, no probe": ["stages=head", "head.init=random"],
    "all unfrozen from the start": ["stages=all", "head.init=random"],
    "plain Keras script": [],
}
GUIDE = Path(__file__).with_name("keras_guide.py")
GUIDE_EPOCHS = ["--frozen-epochs", "10", "--fine-epochs", "5"]


def main():
    options = _options()
    sets = {"tools": TOOLS, "rivals": RIVALS}[options.table]
    rows = {name: sets[name] for name in sets if name == "default" or not options.only or name in options.only}
    for text in options.row:
        name, _, overrides = text.partition(": ")
        rows[name] = overrides.split()
    found = {}
    for name, overrides in rows.items():
        started = time.monotonic()
        found[name] = _predictions(options, name, [*options.set, *overrides])
        print(f"{name}: {_accuracy(found[name]):.3f}, {time.monotonic() - started:.0f} s", flush=True)
    print("\n" + table(found))


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--table", choices=["tools", "rivals"], default="tools")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows besides the default")
    parser.add_argument("--row", action="append", default=[], help="another row: 'NAME: KEY=VALUE KEY=VALUE'")
    parser.add_argument("--folds", type=int, default=5, help="0: the splits as given")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all rows")
    parser.add_argument("--task", action="append", default=[], metavar="NAME=KIND")
    parser.add_argument("--out", default="ablation", help="folder of the runs")
    return parser.parse_args()


def _predictions(options, name, overrides):
    """Return dict of path to `(right, log loss)` under one row's settings; runs that are complete are read."""
    from tlkit.api import load_data
    from tlkit.data.index import fold_splits, with_split
    from tlkit.recipe import read_recipe

    recipe = read_recipe("default", overrides)
    data = load_data(options.data)
    splits = fold_splits(data, options.folds, recipe.seed) if options.folds else [None]
    found = {}
    for number, split in enumerate(splits):
        out = Path(options.out) / Path(options.data).stem / name.replace(" ", "_") / str(number)
        own = data if split is None else with_split(data, split)
        if not (out / "metrics.json").is_file():
            (_run_guide if name == "plain Keras script" else _run)(recipe, own, out)
        found |= _read(out)
    return found


def _run(recipe, data, out):
    from tlkit.api import _build
    from tlkit.api.job import Job
    from tlkit.catalog import BACKBONES
    from tlkit.progress import Listener

    ends = BACKBONES[recipe.backbone.name].block_ends
    job = Job(recipe, data, ends, lambda recipe, tasks: _build(recipe, tasks, None), Listener())
    out.parent.mkdir(parents=True, exist_ok=True)
    replace(job, pool=np.arange(len(data))).resolve().open(out, resume=True).run()


def _run_guide(recipe, data, out):
    """Follow Keras's guide on the same split, laid out as folders of links; names tell the images apart."""
    out.mkdir(parents=True, exist_ok=True)
    size = recipe.data.image_size if recipe.data.image_size != "auto" else 224
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(data.paths):
            link = Path(folder, data.split[number], data.tasks["label"].classes[data.labels["label"][number]])
            link.mkdir(parents=True, exist_ok=True)
            (link / path.replace("/", "__")).symlink_to((data.root / path).resolve())
        command = [sys.executable, str(GUIDE), folder, "--backbone", recipe.backbone.name, "--image-size", str(size)]
        split = "test" if Path(folder, "test").is_dir() else "val"
        predictions = ["--predictions", str(out / f"predictions_{split}.csv")]
        answer = subprocess.run([*command, *GUIDE_EPOCHS, *predictions], check=True, stdout=subprocess.PIPE)
    rows = list(csv.DictReader((out / f"predictions_{split}.csv").open(encoding="utf-8", newline="")))
    with (out / f"predictions_{split}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"path": row["path"].replace("__", "/")} for row in rows)
    (out / "metrics.json").write_bytes(answer.stdout)


def _read(out):
    split = "test" if (out / "predictions_test.csv").is_file() else "val"
    with (out / f"predictions_{split}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    loss = [-np.log(max(float(row[f"label.{row['label']}"]), 1e-7)) for row in rows]
    return {row["path"]: (row["label"] == row["label.prediction"], of) for row, of in zip(rows, loss, strict=True)}


def _accuracy(found):
    return float(np.mean([right for right, _ in found.values()]))


def table(found):
    """Return a Markdown table of the rows, each against the first."""
    from scipy.stats import binomtest, ttest_rel

    (first, reference), *others = found.items()
    paths = sorted(reference)
    right = {name: np.array([of[path][0] for path in paths]) for name, of in found.items()}
    loss = {name: np.array([of[path][1] for path in paths]) for name, of in found.items()}
    p_accuracy, p_loss = {}, {}
    for name, _ in others:
        won, lost = int((right[name] & ~right[first]).sum()), int((~right[name] & right[first]).sum())
        p_accuracy[name] = binomtest(won, won + lost).pvalue if won + lost else 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # equal losses have no t
            p = ttest_rel(loss[name], loss[first]).pvalue
        p_loss[name] = 1.0 if np.isnan(p) else float(p)
    p_accuracy, p_loss = holm(p_accuracy), holm(p_loss)
    lines = [
        "| row | accuracy | 95 % interval | points gained | p, Holm | log loss | p, Holm |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in found:
        interval = binomtest(int(right[name].sum()), len(paths)).proportion_ci(method="wilson")
        gained = 100 * (right[name].mean() - right[first].mean())
        against = ["", ""] if name == first else [f"{p_accuracy[name]:.2f}", f"{p_loss[name]:.2g}"]
        points = "" if name == first else f"{gained:+.1f}"
        within = f"{interval.low:.3f} to {interval.high:.3f}"
        cells = [name, f"{right[name].mean():.3f}", within, points, against[0], f"{loss[name].mean():.3f}", against[1]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def holm(p_values):
    """Return p-values corrected for their number by Holm's step-down method.

    Reference:
        Holm 1979, https://www.jstor.org/stable/4615733.
    """
    corrected, highest = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        corrected[name] = highest
    return corrected


if __name__ == "__main__":
    main()
