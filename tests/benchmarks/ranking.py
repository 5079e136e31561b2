"""The ranking of backbones by probes against their order after fine-tuning: a table and its rank correlation.

Run:     python tests/benchmarks/ranking.py DATA [--backbone NAME]... [--weights NAME=PATH]... [--folds 5]
             [--set KEY=VALUE]... [--out DIR]

`tlkit rank` and, for each backbone, `tlkit finetune` are processes of their own, with nothing kept from one to the
other. Without --folds the runs' test images are few and are not those of the ranking; with it every image is tested
once. With --out the runs stay there: complete ones are not made again, others continued.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from scipy.stats import kendalltau, spearmanr

from tlkit.delivery.predict import Run


def timed(words, cache, **keywords):
    """Run a tlkit command with a feature store of its own; return what it prints, and its seconds."""
    started = time.monotonic()
    environment = os.environ | {"TLKIT_CACHE": str(cache)}
    command = [sys.executable, "-m", "tlkit", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, **keywords)
    return done.stdout, time.monotonic() - started


def options(name, values):
    return [word for value in values for word in (name, value)]


def finetuned(source, backbone, weights, folds, settings, out):
    """Make a run, unless it is there; return its headline figure, its interval, and its seconds."""
    if not (out / "metrics.json").is_file():
        words = ["finetune", "--data", source, "--backbone", backbone, "--out", str(out), *options("--set", settings)]
        words += ["--weights", weights] if weights else []
        words += ["--folds", str(folds)] if folds else []
        words += ["--resume"] if (out / "recipe.toml").is_file() else []
        with tempfile.TemporaryDirectory() as cache:
            seconds = timed(words, cache)[1]
        (out / "benchmark_seconds").write_text(str(seconds))
    entry = next(iter(Run(out).headline[1]["tasks"].values()))
    return entry["accuracy"], entry["accuracy_interval"], float((out / "benchmark_seconds").read_text())


@click.command()
@click.argument("source")
@click.option("--backbone", "backbones", multiple=True)
@click.option("--weights", multiple=True)
@click.option("--folds", default=0)
@click.option("--set", "settings", multiple=True)
@click.option("--out", type=click.Path(path_type=Path))
def main(source, backbones, weights, folds, settings, out):
    """Print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        words = ["rank", "--data", source, "--json", *options("--backbone", backbones), *options("--weights", weights)]
        found, seconds = timed(words, Path(temporary) / "cache")
        ranked = json.loads(found)["backbones"]
        paths = dict(text.split("=", 1) for text in weights)
        print("| backbone | probe | log loss | LogME | s | fine-tuned | 95 % interval | s |\n" + "|---" * 8 + "|")
        after = []
        for one in ranked:
            name = one["backbone"]
            value, interval, taken = finetuned(source, name, paths.get(name), folds, settings, folder / name)
            after.append((value, taken))
            probe = next(iter(one["tasks"].values()))["accuracy"]
            print(
                f"| {name} | {probe:.3f} | {one['loss']:.3f} | {one['log_evidence']:.3f} | {one['seconds']:.0f} "
                f"| {value:.3f} | {interval[0]:.3f} to {interval[1]:.3f} | {taken:.0f} |",
                flush=True,
            )
        values = [value for value, _ in after]
        for what, scores in (
            ("probe's accuracy", [next(iter(one["tasks"].values()))["accuracy"] for one in ranked]),
            ("probe's log loss", [-one["loss"] for one in ranked]),
            ("LogME", [one["log_evidence"] for one in ranked]),
        ):
            rho, tau = spearmanr(scores, values).statistic, kendalltau(scores, values).statistic
            print(f"\nrank correlation with the {what}: Spearman {rho:.2f}, Kendall {tau:.2f}")
        print(f"\nminutes: ranking {seconds / 60:.1f}, fine-tuning each {sum(taken for _, taken in after) / 60:.1f}")


if __name__ == "__main__":
    main()
