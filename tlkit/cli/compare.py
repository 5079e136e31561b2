"""`tlkit compare`: do runs differ, or is it chance."""

import json

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--split", type=click.Choice(["test", "val", "cv"]), help="Which images. Default: the runs' headline's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def compare(runs, split, as_json):
    """Compare runs with the first of them, on the images that all of them held out.

    Runs whose recipes differ in nothing but seeds are summarized, and recipes compared as wholes. p is that of a paired
    test, corrected after Holm for the number of comparisons.
    """
    from tlkit.api.compare import compare as compare_runs

    comparison = compare_runs(runs, split=split)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print(comparison)


def _print(comparison):
    from tlkit.api.compare import WORDS
    from tlkit.cli.training import caveat

    reasons = [f"{count} {WORDS[reason]}" for reason, count in comparison.left_out.items() if count]
    left_out = f"; left out: {', '.join(reasons)}" if reasons else ""
    click.echo(f"{comparison.split}: {_images(comparison.n)} that all held out{left_out}{caveat(comparison.used_for)}")
    for name, task in comparison.tasks.items():
        title = task.metric.replace("_", " ") if name == "label" else f"{name}: {task.metric.replace('_', ' ')}"
        otherwise = f"; {task.labelled_otherwise} left out, labelled otherwise" if task.labelled_otherwise else ""
        click.echo(f"{title}, {_images(task.n)} with a label{otherwise}")
        _print_runs(task)
        if task.recipes:
            _print_recipes(task)


def _images(count):
    return f"{count} {'image' if count == 1 else 'images'}"


def _print_runs(task):
    from tlkit.cli.tables import print_table

    flips = ("only it right", "only first right") if task.kind == "single_label" else ()
    header = (
        "run",
        task.metric.replace("_", " "),
        "95 % interval",
        "gain",
        "its 95 % interval",
        *flips,
        "p",
        "verdict",
    )
    rows = []
    for row in task.runs:
        found = row.difference
        counts = (found.won, found.lost) if found else ("", "")
        rows.append(
            (
                row.run,
                _number(row.value),
                _range(row.interval),
                *((_gain(found.gain), _range(found.interval)) if found else ("", "")),
                *counts[: len(flips)],
                "" if row.p is None else f"{row.p:.2g}",
                row.verdict or "the first",
            )
        )
    print_table(header, rows)


def _print_recipes(task):
    from tlkit.cli.tables import print_table

    rows = []
    for row in task.recipes:
        found = row.difference
        rows.append(
            (
                ", ".join(row.runs),
                ", ".join(map(str, row.seeds)),
                _number(row.mean),
                _range([row.low, row.high]),
                *((_gain(found.gain), _range(found.interval)) if found else ("", "")),
                "" if row.p is None else f"{row.p:.2g}",
                row.verdict or "the first",
            )
        )
    header = ["runs of one recipe", "seeds", f"mean {task.metric.replace('_', ' ')}", "range"]
    if len(rows) > 1:
        header += ["gain", "its 95 % interval", "p", "verdict"]
    print_table(header, [row[: len(header)] for row in rows])


def _number(value):
    return "" if value is None else f"{value:.3f}"


def _gain(value):
    return "" if value is None else f"{value:+.3f}"


def _range(bounds):
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
