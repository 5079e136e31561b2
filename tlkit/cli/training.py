"""What `finetune`, `train` and `demo` share: their options, and how a run is started and reported."""

from pathlib import Path

import click

from tlkit import run as run_folder
from tlkit.cli import STARTED
from tlkit.cli.views import describe_views
from tlkit.errors import DataError, RecipeError, RunError
from tlkit.recipe import DEFAULT_RECIPE, read_recipe
from tlkit.training.sizes import parse_size

data_option = click.option("--data", metavar="DIR|FILE.csv", help="The labelled images.")
head_option = click.option("--head", metavar="MODULE:FUNCTION", help="Function from features to logits.")

task_option = click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="NAME=KIND",
    help="A label column and its kind: single_label, multilabel or regression; again for each further task.",
)
_SETTING_OPTIONS = (
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a recipe key, e.g. stages.0.epochs=3."
    ),
    task_option,
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
    click.option(
        "--allow-changed",
        multiple=True,
        type=click.Choice(run_folder.CHANGES),
        help="With --resume: go on although that has changed, which environment.json records; again for another.",
    ),
)


_HEADLINES = {
    "accuracy": "accuracy",
    "mean_average_precision": "mean average precision",
    "mae": "mean absolute error",
}
_USES = {"epoch": "choosing the epoch", "training": "training", "calibration": "calibrating the probabilities"}


def setting_options(command):
    """Add the options that set recipe keys."""
    for option in reversed(_SETTING_OPTIONS):
        command = option(command)
    return command


def out_options(command):
    """Add `--out`, `--resume` and `--allow-changed`."""
    for option in reversed(_OUT_OPTIONS):
        command = option(command)
    return command


def run_and_report(
    recipe, settings, overrides, tasks, data, out, resume, allow_changed=(), cache_size=None, budget=None
):
    """Start or continue a run and print its result.

    Args:
        recipe: Name or path, or None for the default one.
        settings: Dict of dotted recipe key to the value of its own option; None where the option was not given.
        overrides: The `--set` texts; they win over `settings`.
        tasks: The `--task` texts.
        data: The images, or None to take the resumed run's.
        out, resume, allow_changed, cache_size: As the options of the same names.
        budget: `tlkit.api.budgeting.Budget`, or None.
    """
    from tlkit.cli.screen import Screen

    if not data and not resume:
        raise DataError("--data: missing. Give a folder of images, or a CSV file.")
    given = {key: value for key, value in settings.items() if value is not None}
    if tasks:
        given["tasks"] = parse_tasks(tasks)
    refuse_alone(allow_changed, resume)
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

        where = {"out": out, "resume": resume, "allow_changed": allow_changed, "cache_size": limit}
        run = finetune_recipe(checked, data, **where, budget=budget, listener=screen)
    print_result(run)


def refuse_alone(allow_changed, resume):
    """Refuse `--allow-changed` without `--resume`."""
    if allow_changed and not resume:
        raise RecipeError("--allow-changed: it says what a run may go on with. Give --resume, too, or leave it out.")


def budget_of(text, choose_backbone=False):
    """Return the `tlkit.api.budgeting.Budget` that `--budget TIME` says, from the process's start on; None for None."""
    if text is None:
        return None
    from tlkit.api.budgeting import Budget
    from tlkit.search.budget import parse_duration

    return Budget(parse_duration(text), choose_backbone, STARTED)


def print_result(run):
    """Print the last screen: each task's figure with its interval on stdout; where the run lies, what to do next."""
    split, entry = run.headline
    for name, of_task in entry["tasks"].items():
        click.echo(headline(split, name, of_task, entry["used_for"]))
    if "tta" in run.metrics and (line := describe_views(run.metrics["tta"])):
        click.echo(line)
    click.echo(f"run: {run.path}")
    if (run.path / run_folder.REPORT).is_file():
        click.echo(f"report: {run.path / run_folder.REPORT}")
    click.echo(f"predict with: tlkit predict {run.path} PHOTO.jpg")


def headline(split, name, entry, used_for):
    """Return a task's headline figure in one line: its interval, and what else the images were used for, if anything.

    Args:
        split: What was evaluated.
        name: The task's name; `label` goes unnamed.
        entry: The task's entry in `metrics.json`.
        used_for: What the split was used to choose.
    """
    from tlkit.evaluation.metrics import headline_metric

    what = split if name == "label" else f"{split} {name}:"
    key, interval = headline_metric(entry["kind"])
    if entry[key] is None:
        why = "every label is on all images, or on none" if entry["n_labelled"] else "no image has a label"
        return f"{what} no {_HEADLINES[key]}: {why}"
    digits, constant = (".3g", "training_mean_mae") if key == "mae" else (".3f", "constant_mean_average_precision")
    low, high = (format(bound, digits) for bound in entry[interval])
    baseline = f" (constant prediction {entry[constant]:{digits}})" if constant in entry else ""
    figures = f"{_HEADLINES[key]} {entry[key]:{digits}}, 95 % interval {low} to {high}{baseline}"
    return f"{what} {figures}, {entry['n_labelled']} images{caveat(used_for)}"


def caveat(used_for):
    """Return what to add to a figure whose images chose something; nothing if they chose nothing.

    Args:
        used_for: What the split was used to choose.
    """
    uses = " and ".join(_USES[use] for use in used_for)
    return f" (optimistic: these images were used for {uses})" if uses else ""


def parse_tasks(texts):
    """Return the dict of label column to kind that `--task NAME=KIND` texts say."""
    tasks = {}
    for text in texts:
        name, equals, kind = text.partition("=")
        if not equals or not name:
            raise RecipeError(
                f"--task: expected NAME=KIND, such as species=single_label or age=regression. Received: {text!r}"
            )
        tasks[name] = kind
    return tasks


def _recorded_source(out):
    """Return where the images of the run in `out` are."""
    path = run_folder.find_run(out)
    source = run_folder.read_json(path / run_folder.DATA).get("source")
    if not isinstance(source, str):
        raise RunError(f"{path / run_folder.DATA}: expected the file that tlkit wrote.")
    if source == "arrays":
        raise RunError(f"{path}: the run was trained on arrays; resume it from Python.")
    return source
