"""`tlkit evaluate`: figures for a run."""

import json

import click


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--data", metavar="DIR|FILE", help="Other labelled data, all of which is used. Default: the run's own.")
@click.option("--tta", default="none", metavar="NAME", help="Test-time views: none or flip. Default: none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(run, data, tta, as_json):
    """Evaluate RUN, a run folder, on the images held out from it or on other data."""
    from tlkit import run as run_folder
    from tlkit.cli.screen import Screen

    run_folder.find_complete_run(run)  # fails here, before TensorFlow loads
    with Screen() as screen:
        from tlkit.api import evaluate as evaluate_run

        result = evaluate_run(run, data=data, tta=tta, listener=screen)
    if as_json:
        click.echo(json.dumps({"split": result.split, "tta": tta, **result.metrics}, indent=2, ensure_ascii=False))
    else:
        print_tables(result)


def print_tables(result):
    """Print the headline and a table per class for each task of a `Result`."""
    from tlkit.cli.tables import print_table
    from tlkit.cli.training import headline

    for name, entry in result.metrics["tasks"].items():
        what = result.split if name == "label" else f"{result.split} {name}"
        click.echo(headline(what, entry, result.metrics["used_for"]))
        top5 = "" if entry["top5"] is None else f"top-5 {entry['top5']:.3f}, "
        click.echo(
            f"{top5}macro F1 {entry['macro_f1']:.3f}, loss {result.metrics['loss']:.3f}, "
            f"calibration error {entry['ece']:.3f}"
        )
        rows = [
            (label, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", row["support"])
            for label, row in entry["per_class"].items()
        ]
        print_table(("class", "precision", "recall", "F1", "images"), rows)
