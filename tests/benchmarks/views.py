"""How many views of an image are enough: `data.views = K` beside fresh views every epoch, as a table.

Run:     python tests/benchmarks/views.py DATA... [--views 1,2,4,8,0] [--seeds 0,1,2] [--folds 0] [--recipe default]

Every run is `tlkit finetune` in a process of its own, with an empty feature store, so the seconds are those of a first
run, from its first stage on. 0 views stands for fresh ones. With --folds every image is tested once; without, the
accuracy is that of the test split, or of the validation split where there is no other. Behind it, images over all seeds
that K gets right and fresh views get wrong, and the other way around, with the exact binomial p of McNemar's test.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

import click
from scipy.stats import binomtest


def finetune(source, views, seed, folds, recipe, out):
    """Make a run; return its accuracy, its seconds, and for each image of its headline whether it was right."""
    settings = ["--set", f"data.views={views}", "--seed", str(seed), *(["--folds", str(folds)] if folds else [])]
    command = [sys.executable, "-m", "tlkit", "finetune", "--recipe", recipe, "--data", source, "--out", str(out)]
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"TLKIT_CACHE": cache}
        subprocess.run([*command, *settings], check=True, env=environment, capture_output=True)
    metrics = json.loads((out / "metrics.json").read_text())
    split = metrics["primary"].partition(".")[0]
    accuracy = next(iter(metrics[split]["tasks"].values()))["accuracy"]
    folders = sorted((out / "folds").iterdir()) if folds else [out]
    seconds = sum(json.loads((folder / "timing.json").read_text())["total_seconds"] for folder in {*folders, out})
    right = {}
    for folder in folders:
        with (folder / f"predictions_{'test' if folds else split}.csv").open() as file:
            for row in csv.DictReader(file):
                right[seed, row["path"]] = row["label"] == row["label.prediction"]
    return accuracy, seconds, right


def compare(right, fresh):
    """Return `"won:lost, p"` of paired right and wrong answers."""
    won = sum(right[image] and not fresh[image] for image in fresh)
    lost = sum(fresh[image] and not right[image] for image in fresh)
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    return f"{won}:{lost}, p {p:.2f}"


def numbers(_context, _parameter, text):
    """Read `"1,2,4"`."""
    return [int(number) for number in text.split(",")]


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--views", default="0,1,2,4,8", callback=numbers)
@click.option("--seeds", default="0,1,2", callback=numbers)
@click.option("--folds", default=0)
@click.option("--recipe", default="default")
def main(sources, views, seeds, folds, recipe):
    """Print one row for each data set and number of views."""
    print("| data | views | accuracy by seed | mean | better:worse than fresh | seconds |\n|---|---|---|---|---|---|")
    for source in sources:
        fresh = None
        for count in views:
            accuracies, seconds, right = [], [], {}
            for seed in seeds:
                with tempfile.TemporaryDirectory() as folder:
                    found = finetune(source, count, seed, folds, recipe, Path(folder) / "run")
                accuracies.append(found[0])
                seconds.append(found[1])
                right |= found[2]
            fresh = right if count == 0 else fresh
            against = compare(right, fresh) if fresh and count else ""
            by_seed = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
            what = "fresh" if count == 0 else count
            name = Path(source).name
            print(
                f"| {name} | {what} | {by_seed} | {mean(accuracies):.3f} | {against} | {median(seconds):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
