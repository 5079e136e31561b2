"""What `evaluate` and `predict` share of test-time views: their options, and how what they change is shown."""

import click

tta_option = click.option(
    "--tta",
    default="none",
    metavar="NAME|FILE",
    help="Test-time views whose predictions are averaged: none, flip, fivecrop, tencrop, multiscale, rotations, "
    "dihedral, a TOML file of [[views]], or auto: those that help on validation. Default: none.",
)
average_option = click.option(
    "--average",
    type=click.Choice(["probabilities", "logits", "geometric"]),
    default="probabilities",
    help="How predictions are averaged. Default: probabilities.",
)


def print_views(measured):
    """Print a table of what sets of test-time views changed, each row against the evaluation view alone."""
    from tlkit.cli.tables import print_table

    header = ("views", "on", "figure", "value", "gain", "95 % interval", "right now", "wrong now", "p")
    rows = [
        (
            f"{row['name']} ({row['views']})",
            row["split"] if row["task"] == "label" else f"{row['split']} {row['task']}",
            row["metric"].replace("_", " "),
            f"{row['value']:.3f}",
            f"{row['gain']:+.3f}",
            " to ".join(f"{bound:+.3f}" for bound in row["gain_interval"]),
            *("" if row[key] is None else row[key] for key in ("flipped_right", "flipped_wrong")),
            f"{row['p']:.2g}",
        )
        for row in measured["rows"]
    ]
    if rows:
        print_table(header, rows)
    click.echo(f"views: {measured['chosen']}" + (f": {measured['reason']}" if "reason" in measured else ""))


def describe_views(measured):
    """Return a line on test-time views for the last screen of a run, or None where there is nothing to say.

    Args:
        measured: The entry `tta` of `metrics.json`.
    """
    from tlkit.evaluation.tta import LEVEL, describe_gain

    if measured["chosen"] != "none":
        return f"test-time views: {measured['reason']}; `predict` and `evaluate` take --tta {measured['chosen']}"
    for row in measured["rows"]:
        if row["split"] != "val" and row["gain"] < 0 and row["p"] < LEVEL:
            return (
                f"test-time views: {row['name']} makes it worse, {describe_gain(row)} on {row['split']} "
                f"(p {row['p']:.2g}): leave it out"
            )
    return None
