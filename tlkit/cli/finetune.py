"""`tlkit finetune`: from a folder of images to a classifier."""

import click

from tlkit.cli.training import budget_of, data_option, head_option, out_options, run_and_report, setting_options


@click.command()
@data_option
@click.option("--backbone", metavar="NAME", help="A name that `tlkit backbones` lists. Default: efficientnet_lite0.")
@click.option("--weights", metavar="imagenet|none|PATH|RUN", help="Where the backbone starts from. Default: imagenet.")
@click.option("--recipe", "recipe", default=None, metavar="NAME|FILE", help="See `tlkit recipes`. Default: default.")
@setting_options
@head_option
@click.option("--budget", metavar="TIME", help="Be done in that time, e.g. 10m: plan what fits into it.")
@out_options
def finetune(
    data,
    backbone,
    weights,
    recipe,
    overrides,
    tasks,
    group_by,
    head,
    seed,
    cache,
    cache_size,
    folds,
    budget,
    out,
    resume,
    allow_changed,
):
    """Make the best classifier from a folder of images.

    DIR has one subfolder per class, optionally under train/, val/ and test/; FILE.csv has the columns path and label,
    and optionally split and group. The run folder that is written holds the model, its honest accuracy, and all that
    is needed to repeat the run to the bit.
    """
    settings = {
        "backbone.name": backbone,
        "backbone.weights": weights,
        "data.group_by": group_by,
        "head.custom": head,
        "seed": seed,
        "data.folds": folds,
        "training.cache": cache,
    }
    fixed = (backbone, weights, recipe, head, *(key for key in overrides if key.startswith(("backbone.", "head."))))
    limit = budget_of(budget, choose_backbone=not any(fixed))
    run_and_report(recipe, settings, overrides, tasks, data, out, resume, allow_changed, cache_size, limit)
