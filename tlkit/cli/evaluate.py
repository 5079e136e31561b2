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
    """Print each task's headline, what else there is to say of it, and a table per class, for a `Result`."""
    from tlkit.cli.tables import print_table
    from tlkit.cli.training import headline

    for name, entry in result.metrics["tasks"].items():
        click.echo(headline(result.split, name, entry, result.metrics["used_for"]))
        if not entry["n_labelled"]:
            continue
        figures = [f"{words} {entry[key]:.3f}" for key, words in _FIGURES.items() if entry.get(key) is not None]
        click.echo(", ".join(figures))
        if "per_class" in entry:
            columns = _RANKING | _COLUMNS if entry["kind"] == "multilabel" else _COLUMNS
            rows = [
                (label, *(_cell(row[key]) for key in columns), row["support"])
                for label, row in entry["per_class"].items()
            ]
            print_table(("class", *columns.values(), "images"), rows)
    click.echo(f"loss {result.metrics['loss']:.3f}")


_FIGURES = {
    "top5": "top-5",
    "macro_f1": "macro F1",
    "subset_accuracy": "all labels right",
    "ece": "calibration error",
    "rmse": "root mean squared error",
    "r2": "R squared",
}
_COLUMNS = {"precision": "precision", "recall": "recall", "f1": "F1"}
_RANKING = {
    "average_precision": "average precision",
    "average_precision_interval": "95 % interval",
    "constant_average_precision": "constant",
    "roc_auc": "ROC AUC",
}


def _cell(figure):
    if figure is None:
        return ""
    return " to ".join(f"{bound:.3f}" for bound in figure) if isinstance(figure, list) else f"{figure:.3f}"
