"""`tlkit rank`: which backbone suits this data."""

import json
import shlex

import click

from tlkit.cli.training import parse_tasks, task_option
from tlkit.errors import DataError, RecipeError


@click.command()
@click.option("--data", metavar="DIR|FILE.csv", help="The labelled images.")
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    metavar="NAME",
    help="Rank this one; again for each further one. Default: all whose weights are at hand.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=PATH",
    help="Where a backbone's weights are; again for each further one. Default: imagenet.",
)
@click.option("--download", is_flag=True, help="Rank all backbones; weights that aren't at hand are downloaded.")
@task_option
@click.option("--group-by", metavar="REGEX", help="Images whose path gives the same first group share a split.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the split. Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def rank(data, backbones, weights, download, tasks, group_by, seed, as_json):
    """Rank backbones by how well their frozen features tell the labels: cross-validated linear probes.

    Test images stay unseen. A star marks backbones to which none is both better and faster.
    """
    if not data:
        raise DataError("--data: missing. Give a folder of images, or a CSV file.")
    from tlkit.api.ranking import rank as rank_backbones
    from tlkit.cli.screen import Screen

    with Screen() as screen:
        ranking = rank_backbones(
            data,
            backbones=backbones,
            weights=_parse_weights(weights),
            download=download,
            tasks=parse_tasks(tasks) or None,
            group_by=group_by or "",
            seed=seed,
            listener=screen,
        )
    if as_json:
        click.echo(json.dumps(ranking.describe(), indent=2, ensure_ascii=False))
    else:
        said = [word for text in tasks for word in ("--task", text)]
        said += ["--group-by", group_by] if group_by else []
        said += ["--seed", str(seed)] if seed else []
        _print(ranking, ["--data", data, *said], dict(map(_split, weights)))


def _parse_weights(texts):
    for text in texts:
        if not all(_split(text)):
            raise RecipeError(
                f"--weights: expected NAME=PATH, such as resnet50=resnet50.weights.h5. Received: {text!r}"
            )
    return dict(map(_split, texts))


def _split(text):
    name, _, path = text.partition("=")
    return name, path


def _print(ranking, options, weights):
    from tlkit.cli.tables import print_table

    described, tasks = ranking.describe(), ranking.data.tasks
    header = ["", "backbone"]
    for name in tasks:
        metric = next(key for key in described["backbones"][0]["tasks"][name] if key in WORDS)
        header += [WORDS[metric] if name == "label" else f"{name}: {WORDS[metric]}", "95 % interval", "ridge"]
    header += ["against the first", "p", "loss", "LogME", "ms an image", "parameters"]
    print_table(header, [_row(one) for one in described["backbones"]], right=("against the first", "parameters"))
    best, cheapest = ranking.best, ranking.cheapest
    chosen = best if best == cheapest else f"{best}; {cheapest} can't be told from it and is faster"
    click.echo(f"best: {chosen}")
    given = ["--weights", weights[best]] if best in weights else []
    click.echo(f"fine-tune with: {shlex.join(['tlkit', 'finetune', '--backbone', best, *given, *options])}")


WORDS = {"accuracy": "accuracy", "mean_average_precision": "average precision", "mae": "error"}


def _row(one):
    cells = ["*" if one["pareto"] else "", one["backbone"]]
    for of_task in one["tasks"].values():
        metric = next(key for key in of_task if key in WORDS)
        interval = of_task[f"{metric}_interval"]
        cells += [_number(of_task[metric]), "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"]
        cells.append(_number(of_task[f"ridge_{metric}"]))
    return [
        *cells,
        "" if one["gain"] is None else f"{one['gain']:+.3f}",
        "" if one["p"] is None else f"{one['p']:.2g}",
        f"{one['loss']:.3f}",
        f"{one['log_evidence']:.3f}",
        f"{one['milliseconds_per_image']:.1f}",
        f"{one['parameters'] / 1e6:.1f} M",
    ]


def _number(value):
    return "" if value is None else f"{value:.3f}"
