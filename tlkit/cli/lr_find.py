"""`tlkit lr-find`: which learning rates make a stage's loss fall."""

import json
from pathlib import Path

import click

from tlkit.cli.training import data_option, head_option, parse_tasks, task_option
from tlkit.errors import DataError, RunError
from tlkit.recipe import read_recipe


@click.command("lr-find")
@click.argument("recipe", metavar="RECIPE")
@data_option
@click.option("--stage", type=int, default=0, help="Which stage of the recipe, from 0. Default: 0.")
@click.option("--steps", type=int, default=100, help="Training steps from a rate of 1e-7 to 1. Default: 100.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a recipe key.")
@task_option
@head_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of all that is random. Default: 0.")
@click.option("--out", metavar="FILE.png", default="lr-find.png", help="The plot. Default: lr-find.png.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def lr_find(recipe, data, stage, steps, overrides, tasks, head, seed, out, as_json):
    """Train one stage of RECIPE at rising learning rates, plot the loss, and suggest a rate."""
    if not data:
        raise DataError("--data: missing. Give a folder of images, or a CSV file.")
    if Path(out).exists():
        raise RunError(f"--out {out}: exists already. Choose another file, or remove it.")
    if not Path(out).parent.is_dir():
        raise RunError(f"--out {out}: there is no such folder as {Path(out).parent}. Make it, or choose another.")
    settings = {"tasks": parse_tasks(tasks) or None, "head.custom": head, "seed": seed}
    settings = {key: value for key, value in settings.items() if value is not None}
    checked = read_recipe(recipe, overrides, settings)
    from tlkit.cli.screen import Screen

    with Screen() as screen:
        from tlkit.api import find_learning_rate

        found = find_learning_rate(checked, data, stage=stage, steps=steps, listener=screen)
    _plot(found, stage, out)
    if as_json:
        click.echo(json.dumps({"suggestion": found.suggestion, "rates": found.rates, "losses": found.losses}))
        return
    click.echo(f"plot: {out}")
    if found.suggestion is None:
        click.echo("no suggestion: the mean loss never falls clearly. More --steps, or a harder stage, would tell more")
        return
    click.echo(f"mean loss lowest ({min(found.losses):.3f}) at a learning rate of {10 * found.suggestion:.1e}")
    click.echo(f"suggestion, a tenth of that: learning_rate = {found.suggestion:.1e} for stage {stage} of the recipe")


def _plot(found, stage, out):
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.semilogx(found.rates, found.losses, color="#1f5fa8")
    if found.suggestion is not None:
        axes.axvline(found.suggestion, color="#b8461b", linestyle="--", label=f"suggestion {found.suggestion:.1e}")
        axes.legend()
    axes.set(xlabel="learning rate", ylabel="mean training loss", title=f"Learning-rate range test, stage {stage}")
    axes.set_ylim(0, 1.05 * max(found.losses[0], min(found.losses) * 2))
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=120, format="png")
