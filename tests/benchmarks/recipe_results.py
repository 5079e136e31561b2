"""The results in the headers of recipes, measured again.

Run:     python tests/benchmarks/recipe_results.py [RECIPE]... [--data-dir DIR] [--out DIR] [--list]

Each header says how its recipe is run and what came of it. The command is run, with the data that the result names and
each of its seeds, and the headline figure, the first that is stated, held against it: it agrees if it lies in the
stated 95 % interval. A range over seeds is none; there, it is Wilson's of the stated mean. "to the digit" is more: the
same machine, versions and number of threads give that. What a header states as published, and not rerun, is skipped.

--data-dir holds the data by the names in `SOURCES`; by default it is the folder in TLKIT_TEST_DATA, or
`../shared/data` seen from the project's root. With --out the runs stay, and a second call goes on with them. --list
runs nothing. The exit status is 1 if a figure disagrees.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import click

from tlkit import run as run_folder
from tlkit.evaluation.metrics import wilson_interval
from tlkit.experiments.study import RESULT
from tlkit.recipe import recipe_names, recipe_text
from tlkit.unpack import unpack

PROJECT = Path(__file__).resolve().parents[2]
FIELD = re.compile(r"# (Run|Result|Paper): +(.+)")
PUBLISHED = re.compile(r"Published: .+, not rerun\.")
MEASURED = re.compile(
    r"(?P<data>.+?), seeds? (?P<first>\d+)(?: to (?P<last>\d+))?: "
    r"(?P<split>test|validation) (?:(?P<metric>error|mean average precision) )?(?P<value>[\d.]+)(?P<percent> %)? "
    r"(?:\[(?P<low>[\d.]+), (?P<high>[\d.]+)\]|\((?P<least>[\d.]+) to (?P<most>[\d.]+)\)) of (?P<n>[\d,]+)"
)
# What a result calls its data, up to the first comma or bracket, to where they lie; None: the command brings its own.
SOURCES = {
    "hymenoptera": "hymenoptera",
    "bccd": "bccd/labels.csv",
    "MNIST": "mnist.npz",
    "2,000 photos of CIFAR-10": "cifar10.tar.gz",
    "CIFAR-10 saved as JPEG of quality 75": "cifar10.tar.gz",
    "scikit-learn's digits": None,
}
SPLITS = {"test": "test", "validation": "val"}


class Stated(NamedTuple):
    """What a header says: the command, and of a measured result the data, seeds, split, metric and figures.

    `metric` is the key in `metrics.json`; `value`, `low` and `high` are in its unit, so that an error has become an
    accuracy; `digits` are those after the point. A published result has the command and its own `words` only.
    """

    command: list
    words: str
    data: str = ""
    seeds: range = range(0)
    split: str = ""
    metric: str = ""
    value: float = 0.0
    low: float = 0.0
    high: float = 0.0
    digits: int = 0

    @property
    def published(self):
        """Whether nothing was measured."""
        return not self.data


def parse_header(text):
    """Return what the header of a recipe's text states.

    Raises:
        ValueError: If it isn't of the form that all recipes have.
    """
    fields, last = {}, None
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if match := FIELD.fullmatch(line):
            last = match[1]
            fields[last] = match[2]
        elif last:
            fields[last] += f" {line.removeprefix('#').strip()}"
    if not fields.get("Run", "").startswith("tlkit ") or "Result" not in fields:
        raise ValueError("expected the lines `# Run:     tlkit ...` and `# Result:  ...`")
    command = shlex.split(re.sub(r"\s+\(.*\)$", "", fields["Run"]))
    words = fields["Result"]
    if PUBLISHED.fullmatch(words):
        return Stated(command, words)
    match = MEASURED.match(words)
    if not match:
        raise ValueError(
            f"expected DATA, seed N: SPLIT FIGURE [LOW, HIGH] of N, or `Published: ..., not rerun.`: {words}"
        )
    return _stated(command, words, match)


def _stated(command, words, match):
    unit, count = 100 if match["percent"] else 1, int(match["n"].replace(",", ""))
    value, low, high = (float(match[key]) / unit if match[key] else None for key in ("value", "low", "high"))
    if low is None:
        low, high = wilson_interval(round(value * count), count)
    if match["metric"] == "error":
        value, low, high = 1 - value, 1 - high, 1 - low
    return Stated(
        command,
        words,
        data=next((name for name in SOURCES if match["data"].startswith(name)), match["data"]),
        seeds=range(int(match["first"]), int(match["last"] or match["first"]) + 1),
        split=SPLITS[match["split"]],
        metric="mean_average_precision" if match["metric"] == "mean average precision" else "accuracy",
        value=value,
        low=low,
        high=high,
        digits=len(match["value"].partition(".")[2]) + (2 if match["percent"] else 0),
    )


def find_source(data, data_dir, work):
    """Return the path that `--data` takes for what a result calls its data; CIFAR-10 is laid out in `work`."""
    if SOURCES[data] is None:
        return None
    path = data_dir / SOURCES[data]
    if not path.exists():
        raise click.ClickException(f"{path}: there are no such data. Say with --data-dir where they are.")
    if path.suffix != ".gz":
        return path
    folder = work / re.sub(r"\W+", "_", data)
    if not folder.is_dir():
        begun = folder.with_suffix(".begun")
        if data.startswith("2,000"):
            from datasets import lay_out_cifar10  # beside this script

            os.environ["TLKIT_TEST_DATA"] = str(data_dir)
            lay_out_cifar10(2000, begun)
        else:
            begun.mkdir()
            unpack(path, begun)
        begun.rename(folder)
    return folder


def measure(name, stated, data_dir, work):
    """Run a header's command once for each seed; return the mean of the headline figure over the seeds."""
    source = find_source(stated.data, data_dir, work)
    if stated.command[1] == "experiment":
        out = work / f"experiment-{stated.command[2]}"
        run(stated.command, source, ["--seeds", str(len(stated.seeds)), "--out", str(out)])
        figures = json.loads((out / RESULT).read_text("utf-8"))["figures"]["accuracy"]
        return mean(of_seed[stated.split] for of_seed in figures[name.rpartition("/")[2]])
    found = []
    for seed in stated.seeds:
        out = work / f"{name.replace('/', '-')}-{seed}"
        begun = ["--resume"] if (out / run_folder.RECIPE).is_file() else []
        run(stated.command, source, ["--seed", str(seed), "--out", str(out), *begun])
        tasks = run_folder.read_json(out / run_folder.METRICS)[stated.split]["tasks"].values()
        found.append(next(of_task[stated.metric] for of_task in tasks if stated.metric in of_task))
    return mean(found)


def run(command, source, options):
    """Run a header's command in a process of its own, with the data at `source`."""
    command = [sys.executable, "-m", *command]
    if "--data" in command:
        command[command.index("--data") + 1] = str(source)
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([*command, *options], check=True, env=environment, stdout=subprocess.DEVNULL)


def verdict(stated, measured):
    """Say whether a measured figure agrees with the stated one."""
    if round(measured, stated.digits) == round(stated.value, stated.digits):
        return "agrees, to the digit"
    return "agrees" if stated.low <= measured <= stated.high else "DISAGREES"


def row_of(name, stated, data_dir, work):
    """Return the table's row of one recipe."""
    if stated.published:
        return name, "", stated.words, "", "", "skipped: published, not rerun"
    figures = f"{stated.value:.{stated.digits}f} in {stated.low:.{stated.digits}f} to {stated.high:.{stated.digits}f}"
    what = f"{stated.data}, {len(stated.seeds)} seed{'s' if len(stated.seeds) > 1 else ''}"
    if data_dir is None:
        return name, what, figures, "", "", "not run"
    started = time.monotonic()
    measured = measure(name, stated, data_dir, work)
    seconds = f"{time.monotonic() - started:.0f}"
    return name, what, figures, f"{measured:.{stated.digits}f}", seconds, verdict(stated, measured)


@click.command()
@click.argument("recipes", nargs=-1)
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--list", "only_list", is_flag=True, help="Print what the headers state; run nothing.")
def main(recipes, data_dir, out, only_list):
    """Print the table for RECIPES, by default all."""
    data_dir = data_dir or Path(os.environ.get("TLKIT_TEST_DATA") or PROJECT.parent / "shared" / "data").resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = out or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        print("| recipe | data | stated | measured | seconds | verdict |\n|---|---|---|---|---|---|")
        disagree = 0
        for name in recipes or recipe_names():
            row = row_of(name, parse_header(recipe_text(name)), None if only_list else data_dir, work)
            disagree += row[-1] == "DISAGREES"
            print("|", " | ".join(row), "|", flush=True)
    sys.exit(1 if disagree else 0)


if __name__ == "__main__":
    main()
