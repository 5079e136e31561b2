"""What `finetune`, `train` and `demo` share: their options, and how a run is started and reported."""

from pathlib import Path

import click

from tlkit import run as run_folder
from tlkit.errors import DataError, RecipeError, RunError
from tlkit.recipe import DEFAULT_RECIPE, read_recipe
from tlkit.training.sizes import parse_size

data_option = click.option("--data", metavar="DIR|FILE.csv", help="The labelled images.")
head_option = click.option("--head", metavar="MODULE:FUNCTION", help="Function from features to logits.")

_SETTING_OPTIONS = (
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a recipe key, e.g. stages.0.epochs=3."
    ),
    click.option(
        "--task", "tasks", multiple=True, metavar="NAME=KIND", help="A label column, e.g. species=single_label."
    ),
    click.option("--group-by", metavar="REGEX", help="Images whose path gives the same first group share a split."),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of all that is random. Default: 0."),
    click.option(
        "--cache",
        type=click.Choice(["auto", "ram", "disk", "off"]),
        help="Where the frozen layers' features are kept. Results don't depend on it. Default: auto.",
    ),
    click.option("--cache-size", metavar="SIZE", help="Most that they may take on disk, e.g. 20GB."),
    click.option("--folds", type=click.IntRange(2, 100), help="Cross-validate: every image is tested once."),
)
_OUT_OPTIONS = (
    click.option("--out", metavar="DIR", help="The run folder. Default: a new one under runs/."),
    click.option("--resume", is_flag=True, help="Continue the run in --out exactly where it was stopped or killed."),
)


_USES = {"epoch": "choosing the epoch", "training": "training"}


def setting_options(command):
    """Add the options that set recipe keys."""
    for option in reversed(_SETTING_OPTIONS):
        command = option(command)
    return command


def out_options(command):
    """Add `--out` and `--resume`."""
    for option in reversed(_OUT_OPTIONS):
        command = option(command)
    return command


def run_and_report(recipe, settings, overrides, tasks, data, out, resume, cache_size=None):
    """Start or continue a run and print its result.

    Args:
        recipe: Name or path, or None for the default one.
        settings: Dict of dotted recipe key to the value of its own option; None where the option was not given.
        overrides: The `--set` texts; they win over `settings`.
        tasks: The `--task` texts.
        data: The images, or None to take the resumed run's.
        out, resume, cache_size: As the options of the same names.
    """
    from tlkit.cli.screen import Screen

    if not data and not resume:
        raise DataError("--data: missing. Give a folder of images, or a CSV file.")
    given = {key: value for key, value in settings.items() if value is not None}
    if tasks:
        given["tasks"] = parse_tasks(tasks)
    if resume and not out:
        raise RunError("--resume: say which run with --out, the folder that the run named when it started.")
    if resume and not data:
        data = _recorded_source(out)
    if resume and recipe is None and (Path(out) / run_folder.RECIPE).is_file():
        recipe = Path(out) / run_folder.RECIPE
    checked = read_recipe(recipe or DEFAULT_RECIPE, overrides, given)
    limit = None if cache_size is None else parse_size(cache_size)
    with Screen() as screen:
        from tlkit.api import finetune_recipe

        run = finetune_recipe(checked, data, out=out, resume=resume, cache_size=limit, listener=screen)
    print_result(run)


def print_result(run):
    """Print the last screen: the accuracy with its interval on stdout; where the run lies and what to do next."""
    split, entry = run.headline
    click.echo(headline(split, next(iter(entry["tasks"].values())), entry["used_for"]))
    click.echo(f"run: {run.path}")
    click.echo(f"predict with: tlkit predict {run.path} PHOTO.jpg")


def headline(what, entry, used_for):
    """Return a task's accuracy with its interval in one line, and what else the images were used for, if anything."""
    low, high = entry["accuracy_interval"]
    uses = " and ".join(_USES[use] for use in used_for)
    caveat = f" (optimistic: these images were used for {uses})" if uses else ""
    figures = f"accuracy {entry['accuracy']:.3f}, 95 % interval {low:.3f} to {high:.3f}"
    return f"{what} {figures}, {entry['n_labelled']} images{caveat}"


def parse_tasks(texts):
    """Return the dict of label column to kind that `--task NAME=KIND` texts say."""
    tasks = {}
    for text in texts:
        name, equals, kind = text.partition("=")
        if not equals or not name:
            raise RecipeError(f"--task: expected NAME=KIND, such as species=single_label. Received: {text!r}")
        tasks[name] = kind
    return tasks


def _recorded_source(out):
    """Return where the images of the run in `out` are."""
    path = run_folder.find_run(out)
    source = run_folder.read_json(path / run_folder.DATA)["source"]
    if source == "arrays":
        raise RunError(f"{path}: the run was trained on arrays; resume it from Python.")
    return source
