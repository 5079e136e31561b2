"""`tlkit tune`: the search for better settings."""

import click

from tlkit.cli.training import (
    budget_of,
    data_option,
    head_option,
    out_options,
    parse_tasks,
    refuse_alone,
    setting_options,
)
from tlkit.errors import DataError, RecipeError, RunError
from tlkit.recipe import DEFAULT_RECIPE, read_recipe
from tlkit.training.sizes import parse_size

MOST_ROWS = 10  # of trials on the screen


@click.command()
@data_option
@click.option("--backbone", metavar="NAME", help="Pretrained network. Default: the recipe's.")
@click.option("--weights", metavar="imagenet|none|PATH|RUN", help="Where the backbone's weights come from.")
@click.option("--recipe", metavar="NAME|FILE", help="What is tuned; its [tune] table says over which ranges.")
@click.option(
    "--trials", type=click.IntRange(1, 10_000), help="Number of trials. Default: 30, or as many as --budget allows."
)
@click.option("--budget", metavar="TIME", help="Be done in that time, e.g. 30m.")
@click.option(
    "--oracle", type=click.Choice(["random", "bayesian", "hyperband"]), help="What proposes them. Default: random."
)
@click.option(
    "--space",
    type=click.Choice(["head", "full"]),
    help="Without a [tune] table: what lies above the frozen layers, or also what is unfrozen, views, augmentation. "
    "Default: head.",
)
@click.option(
    "--seeds", type=click.IntRange(0, 100), help="Runs of the best and of the recipe's own settings. Default: 3."
)
@click.option(
    "--nested/--no-nested",
    default=None,
    help="Search in each of five folds, too, to say what tuning is worth. Default: below 500 images.",
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, help="Processes that make trials. Default: 1.")
@setting_options
@head_option
@out_options
def tune(
    data,
    backbone,
    weights,
    recipe,
    trials,
    budget,
    oracle,
    space,
    seeds,
    nested,
    workers,
    overrides,
    tasks,
    group_by,
    seed,
    cache,
    cache_size,
    folds,
    head,
    out,
    resume,
    allow_changed,
):
    """Search for settings that validate better than the recipe's; test images decide at the end whether they are.

    A search that was stopped or killed goes on with --resume --out DIR.
    """
    given = {
        "backbone.name": backbone,
        "backbone.weights": weights,
        "data.group_by": group_by,
        "seed": seed,
        "training.cache": cache,
        "tasks": parse_tasks(tasks) or None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    how = {"trials": trials, "oracle": oracle, "space": space, "seeds": seeds, "nested": nested}
    how = {key: value for key, value in how.items() if value is not None}
    if budget is not None:
        how["budget"] = budget_of(budget)
    if folds:
        raise RecipeError("--folds: a search has one validation split. Leave it out.")
    refuse_alone(allow_changed, resume)
    if resume:
        if not out:
            raise RunError("--resume: say which search with --out, the folder that it named when it started.")
        if data or recipe or overrides or given or how:
            raise RecipeError(
                "--resume: everything is known from --out; leave out all else but --workers, --cache-size, --head and "
                "--allow-changed."
            )
    elif not data:
        raise DataError("--data: missing. Give a folder of images, or a CSV file.")
    limit = None if cache_size is None else parse_size(cache_size)
    if not resume:
        given |= {"head.custom": head} if head else {}
        checked = read_recipe(recipe or DEFAULT_RECIPE, overrides, given)
    from tlkit.api.tuning import recorded_settings
    from tlkit.api.tuning import tune as tune_recipe
    from tlkit.cli.screen import Screen

    if resume:
        checked, data, how = recorded_settings(out, head)
    with Screen() as screen:
        where = {"out": out, "resume": resume, "allow_changed": allow_changed, "cache_size": limit}
        _print(tune_recipe(checked, data, **how, workers=workers, **where, listener=screen))


def _print(tuning):
    from tlkit.cli.tables import print_table

    trials = tuning.result["trials"]
    done = sorted((one for one in trials if one["score"] is not None), key=lambda one: -one["score"])
    rows = [
        (one["trial"], f"{one['score']:.4f}", one["status"], f"{one['seconds']:.1f}", _in_words(one["settings"]))
        for one in done[:MOST_ROWS]
    ]
    print_table(("trial", "score", "", "s", "settings"), rows)
    counts = {status: sum(one["status"] == status for one in trials) for status in ("done", "pruned", "failed")}
    click.echo(f"trials: {len(trials)}; " + ", ".join(f"{count} {status}" for status, count in counts.items() if count))
    if "verdict" in tuning.result:
        click.echo(tuning.result["verdict"])
    if "nested" in tuning.result:
        click.echo(tuning.result["nested"]["verdict"])
    if tuning.result["budget"]:
        from tlkit.api.search_time import in_words

        for line in in_words(tuning.result["budget"]):
            click.echo(line)
    click.echo(f"best recipe: {tuning.recipe}")


def _in_words(settings):
    return "  ".join(
        f"{key.rpartition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{key.rpartition('.')[2]} {value}"
        for key, value in settings.items()
    )
