"""Accuracy against budget: does each run end on time, does more time do no harm, does a killed one predict?

Run:     python tests/benchmarks/budget.py DATA [--budget 1m]... [--kill 1m] [--out DIR]

Each run is a process of its own with an empty feature store. With --kill a further run is killed (SIGKILL) halfway
through its budget; what it has left then predicts the test images. With --out the runs stay there.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from tlkit.api import evaluate, load_data, load_run
from tlkit.evaluation.metrics import Result, split_metrics
from tlkit.search.budget import parse_duration


def command(source, budget, out):
    return [sys.executable, "-m", "tlkit", "finetune", "--data", source, "--budget", budget, "--out", str(out)]


def run_within(source, budget, out):
    """Make a run; return a row of the table."""
    with tempfile.TemporaryDirectory() as cache:
        started = time.monotonic()
        environment = os.environ | {"TLKIT_CACHE": cache}
        subprocess.run(command(source, budget, out), check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
    plan = json.loads((out / "plan.json").read_text())
    way, cut = plan["ways"][plan["chosen"]], plan["outcome"]["cut_short"]
    what = f"{plan['backbone']}, {way['image_size']} pixels, {way['views']} views"
    if way["unfreeze"] is not None:
        what += f", {way['unfreeze']} unfrozen for {way['epochs']}{' (cut short)' if cut is not None else ''}"
    shipped = json.loads((out / "selection.json").read_text())["shipped"]
    what += "; the probe ships" if shipped["stage"] < 0 and way["unfreeze"] is not None else ""
    result = evaluate(out)
    return budget, f"{seconds:.1f}", f"{seconds / parse_duration(budget):.2f}", what, *accuracy(result)


def accuracy(result):
    low, high = result.accuracy_interval
    return f"{result.accuracy:.3f}", f"{low:.3f} to {high:.3f}"


def killed(source, budget, out):
    """Kill a run halfway; return a row of the table with what it predicts then."""
    after = parse_duration(budget) / 2
    with tempfile.TemporaryDirectory() as cache:
        process = subprocess.Popen(
            command(source, budget, out), env=os.environ | {"TLKIT_CACHE": cache}, stdout=subprocess.DEVNULL
        )
        time.sleep(after)
        process.kill()
        process.wait()
    run = load_run(out, unfinished=True)
    data = load_data(source)
    split = "test" if len(data.indices("test")) else "val"
    indices = data.indices(split)
    labels = {name: values[indices] for name, values in data.labels.items()}
    metrics = split_metrics(labels, run.probabilities(data, indices), data.tasks, used_for=[])
    return f"{budget}, killed", f"{after:.1f}", "", "the best model so far", *accuracy(Result(split, metrics))


@click.command()
@click.argument("source")
@click.option("--budget", "budgets", multiple=True)
@click.option("--kill")
@click.option("--out", type=click.Path(path_type=Path))
def main(source, budgets, kill, out):
    """Print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        print(
            "| budget | seconds | of the budget | what it did | accuracy | 95 % interval |\n|---|---|---|---|---|---|"
        )
        for budget in budgets:
            print("|", " | ".join(run_within(source, budget, folder / budget)), "|", flush=True)
        if kill:
            print("|", " | ".join(killed(source, kill, folder / f"{kill}-killed")), "|", flush=True)


if __name__ == "__main__":
    main()
