"""`tlkit train`: a recipe, as it is."""

import click

from tlkit.cli.training import data_option, head_option, out_options, run_and_report, setting_options


@click.command()
@click.argument("recipe", metavar="RECIPE")
@data_option
@setting_options
@head_option
@out_options
def train(recipe, data, overrides, tasks, group_by, head, seed, cache, cache_size, folds, out, resume, allow_changed):
    """Train what RECIPE, a name or a TOML file, describes."""
    settings = {"data.group_by": group_by, "head.custom": head, "seed": seed, "data.folds": folds}
    settings["training.cache"] = cache
    run_and_report(recipe, settings, overrides, tasks, data, out, resume, allow_changed, cache_size)
