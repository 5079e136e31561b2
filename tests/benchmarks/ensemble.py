"""Several nets averaged: accuracy and log loss of 1, 2, ... runs, as a table.

Run:     python tests/benchmarks/ensemble.py DATA [--runs 7] [--member "KEY=VALUE ..."]... [--set KEY=VALUE]...
             [--out DIR]

Run k is `tlkit finetune` in a process of its own with seed k on the same split; it has the settings of --set, and those
of one --member, which take turns. With --out the runs stay there: complete ones are not made again, others continued.
First come the runs alone, each with the paired test of the average of all against it; then the averages: each row is
the mean over all subsets of that many runs, and the range over them. Nothing is weighed, and no run is chosen.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from tlkit.api.ensemble import average_members
from tlkit.delivery.predict import Run
from tlkit.evaluation.compare import holm, paired_difference
from tlkit.evaluation.metrics import split_metrics
from tlkit.evaluation.predictions import read_predictions


def finetune(source, seed, settings, out):
    """Make a run, unless it is there, and return it."""
    if not (out / "metrics.json").is_file():
        words = [word for setting in ("data.split_seed=0", *settings) for word in ("--set", setting)]
        command = [sys.executable, "-m", "tlkit", "finetune", "--data", source, "--out", str(out), "--seed", str(seed)]
        resume = ["--resume"] if (out / "recipe.toml").is_file() else []
        subprocess.run([*command, *words, *resume], check=True, stdout=subprocess.DEVNULL)
    return Run(out)


def print_members(runs, labels, predicted):
    """Print each run alone, and the paired test of the average of all against it."""
    (name, task), averaged = next(iter(runs[0].tasks.items())), average_members(predicted, runs[0].tasks)
    tests = [paired_difference(labels[name], member[name], averaged[name], task) for member in predicted]
    print("| run | accuracy | log loss | only the average right : only the run | p (Holm) |\n|---|---|---|---|---|")
    for run, member, test, p in zip(runs, predicted, tests, holm([test.p for test in tests]), strict=True):
        entry = split_metrics(labels, member, run.tasks, [])
        print(f"| {run.path.name} | {test.first:.3f} | {entry['loss']:.3f} | {test.won} : {test.lost} | {p:.2g} |")


def print_curve(tasks, labels, predicted):
    """Print the mean and the range, over subsets of each size, of the averages' figures."""
    print("\n| runs averaged | subsets | accuracy | range | top-5 error | log loss | range |")
    print("|---|---|---|---|---|---|---|")
    for size in range(1, len(predicted) + 1):
        entries = [
            split_metrics(labels, average_members(subset, tasks), tasks, [])
            for subset in itertools.combinations(predicted, size)
        ]
        first = [next(iter(entry["tasks"].values())) for entry in entries]
        accuracies, losses = ([e["accuracy"] for e in first], [entry["loss"] for entry in entries])
        top5 = "" if first[0]["top5"] is None else f"{1 - np.mean([e['top5'] for e in first]):.3f}"
        print(
            f"| {size} | {len(entries)} | {np.mean(accuracies):.3f} | {min(accuracies):.3f} to {max(accuracies):.3f} | "
            f"{top5} | {np.mean(losses):.3f} | {min(losses):.3f} to {max(losses):.3f} |",
            flush=True,
        )


@click.command()
@click.argument("source")
@click.option("--runs", "count", default=7)
@click.option("--member", "members", multiple=True, default=("",))
@click.option("--set", "settings", multiple=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(source, count, members, settings, out):
    """Make the runs and print both tables."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        runs = [
            finetune(source, seed, [*settings, *members[seed % len(members)].split()], folder / str(seed))
            for seed in range(count)
        ]
        read = [read_predictions(run.path, "test", run.tasks) for run in runs]
        if any(predictions.paths != read[0].paths for predictions in read):
            raise SystemExit("the runs tested different images")
        predicted = [predictions.probabilities for predictions in read]
        print(f"{source}: {len(read[0].paths)} test images\n")
        print_members(runs, read[0].labels, predicted)
        print_curve(runs[0].tasks, read[0].labels, predicted)


if __name__ == "__main__":
    main()
