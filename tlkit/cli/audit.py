"""`tlkit audit`: what is wrong with this data, before anything is trained on it."""

import json

import click


@click.command()
@click.argument("data", metavar="DIR|FILE")
@click.option("--task", "tasks", multiple=True, metavar="NAME=KIND", help="A label column, e.g. species=single_label.")
@click.option("--group-by", metavar="REGEX", help="Images whose path gives the same first group share a split.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Seed of the split. Default: 0.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, the same as a run's data.json.")
def audit(data, tasks, group_by, seed, as_json):
    """Check every image of DIR, a folder or a CSV file, and say what is wrong and how it would be split."""
    from tlkit.api import load_data
    from tlkit.cli.screen import Screen
    from tlkit.cli.training import parse_tasks

    with Screen() as screen:
        kinds = parse_tasks(tasks) or None
        loaded = load_data(data, tasks=kinds, group_by=group_by or "", seed=seed, listener=screen)
    from tlkit.data.describe import describe_data

    description = describe_data(loaded)
    if as_json:
        click.echo(json.dumps(description, indent=2, ensure_ascii=False))
    else:
        _print(description)


def _print(description):
    from tlkit.cli.tables import print_table

    origin = "as given" if description["splits_given"] else "made by tlkit"
    splits = list(description["counts"])
    total = sum(description["counts"].values())
    click.echo(f"{description['source']}: {total:,} usable images; splits {origin}")
    for name, counts in description["class_counts"].items():
        rows = [(label, *(f"{counts[split][label]:,}" for split in splits)) for label in description["classes"][name]]
        print_table((name, *splits), [*rows, ("all", *(f"{description['counts'][s]:,}" for s in splits))])
    findings = description["findings"]
    click.echo(f"{len(findings)} finding{'' if len(findings) == 1 else 's'}")
    for finding in findings:
        click.echo(f"  {finding['path']}: {finding['problem']}")
