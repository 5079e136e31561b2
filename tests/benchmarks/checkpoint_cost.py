"""What checkpoints and determinism cost in time, beside the same command against itself.

Run:     python tests/benchmarks/checkpoint_cost.py cost DATA [--rounds 5] [--epochs 20]
         [--backbone NAME] [--image-size 224]

Each round makes one run of each kind, in processes of their own and in an order that changes from round to round, with
the frozen layers' features in memory and two blocks unfrozen; seconds are those of the stage. Ratios are to the run
"as it is" of the same round: what can't be told from that of "as it is, again" costs nothing that shows.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

AS_IT_IS = "as it is"
KINDS = {
    AS_IT_IS: [],
    "as it is, again": [],
    "no checkpoints": ["training.checkpoint_seconds=1e9"],
    "checkpoints as often as can be": ["training.checkpoint_seconds=0"],
    "no determinism": [],
}


@click.group()
def main():
    """Measure."""


@main.command(hidden=True)
@click.argument("kind")
@click.argument("data")
@click.argument("out")
@click.argument("overrides", nargs=-1)
def child(kind, data, out, overrides):
    """Make one run."""
    from tlkit.api import finetune_recipe
    from tlkit.recipe import read_recipe

    if kind == "no determinism":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism = lambda: None
    finetune_recipe(read_recipe("default", overrides), data, out=out)


@main.command()
@click.argument("data", type=click.Path(exists=True))
@click.option("--rounds", default=5)
@click.option("--epochs", default=20)
@click.option("--backbone", default="efficientnet_lite0")
@click.option("--image-size", default=224)
def cost(data, rounds, epochs, backbone, image_size):
    """Make the runs and print the table."""
    settings = [
        f"backbone.name={backbone}",
        f"data.image_size={image_size}",
        "training.cache=ram",
        "head.init=random",
        f"stages=[{{unfreeze=2,epochs={epochs},learning_rate=1e-4}}]",
    ]
    seconds = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for kind in random.Random(number).sample(list(KINDS), len(KINDS)):
                out = Path(folder) / f"{kind}-{number}"
                command = [sys.executable, __file__, "child", kind, data, str(out), *settings, *KINDS[kind]]
                environment = os.environ | {"TLKIT_CACHE": folder, "TF_CPP_MIN_LOG_LEVEL": "3"}
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
                timing = json.loads((out / "timing.json").read_text())
                seconds[kind].append(timing["stages"][0]["seconds"] - timing["feature_pass_seconds"])
    click.echo("| run | stage s, median | ratio, median | from | to |\n| --- | --- | --- | --- | --- |")
    for kind, taken in seconds.items():
        ratios = [mine / base for mine, base in zip(taken, seconds[AS_IT_IS], strict=True)]
        figures = (statistics.median(taken), statistics.median(ratios), min(ratios), max(ratios))
        click.echo(f"| {kind} | {' | '.join(f'{figure:.3g}' for figure in figures)} |")


if __name__ == "__main__":
    main()
