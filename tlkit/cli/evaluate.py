"""`tlkit evaluate`: figures for a run."""

import json

import click

from tlkit.cli.views import average_option, print_views, tta_option


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--data", metavar="DIR|FILE", help="Other labelled data, all of which is used. Default: the run's own.")
@tta_option
@average_option
@click.option("--ensemble", multiple=True, metavar="RUN", help="Average with this run; again for each further run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def evaluate(run, data, tta, average, ensemble, as_json):
    """Evaluate RUN, a run folder, on the images held out from it or on other data."""
    from tlkit import run as run_folder
    from tlkit.cli.screen import Screen

    for folder in (run, *ensemble):
        run_folder.find_complete_run(folder)  # fails here, before TensorFlow loads
    with Screen() as screen:
        from tlkit.api import evaluate as evaluate_run

        result = evaluate_run(run, data=data, tta=tta, average=average, ensemble=ensemble, listener=screen)
    if as_json:
        measured = {} if result.tta is None else {"tta_measured": result.tta}
        several = {} if result.ensemble is None else {"ensemble": result.ensemble}
        document = {"split": result.split, "tta": tta, **measured, **several, **result.metrics}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    print_tables(result)
    if result.tta is not None:
        print_views(result.tta)
    if result.ensemble is not None:
        print_ensemble(result.ensemble)


def print_tables(result):
    """Print each task's headline, what else there is to say of it, and a table per class, for a `Result`."""
    from tlkit.cli.tables import print_table
    from tlkit.cli.training import headline

    for name, entry in result.metrics["tasks"].items():
        click.echo(headline(result.split, name, entry, result.metrics["used_for"]))
        if not entry["n_labelled"]:
            continue
        for line in _LINES:
            if figures := [_figure(entry, key, words) for key, words in line.items() if entry.get(key) is not None]:
                click.echo(", ".join(figures))
        if confusions := _most_confused(entry):
            click.echo(f"most often confused: {', '.join(confusions)}")
        if sets := result.metrics.get("conformal", {}).get(name):
            click.echo(_sets(sets))
        if "per_class" in entry:
            columns = _RANKING | _COLUMNS if entry["kind"] == "multilabel" else _COLUMNS
            rows = [
                (label, *(_cell(row[key]) for key in columns), row["support"])
                for label, row in entry["per_class"].items()
            ]
            print_table(("class", *columns.values(), "images"), rows)
    click.echo(f"loss {result.metrics['loss']:.3f}")


def print_ensemble(ensemble):
    """Print for each task what the averaged runs reach alone, and what their average gains on the first."""
    runs = ensemble["runs"]
    for name, entry in ensemble["tasks"].items():
        what = entry["metric"].replace("_", " ") if name == "label" else f"{name}: {entry['metric'].replace('_', ' ')}"
        alone = ", ".join("none" if value is None else f"{value:.3f}" for value in entry["members"])
        click.echo(f"{what} of the {len(runs)} runs alone: {alone}")
        if entry["gain"] is None:
            continue
        low, high = entry["interval"]
        click.echo(f"average against {runs[0]}: gain {entry['gain']:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}")
        click.echo(entry["verdict"])


_LINES = (
    {
        "top5": "top-5",
        "macro_f1": "macro F1",
        "weighted_f1": "weighted F1",
        "roc_auc": "ROC AUC",
        "mean_roc_auc": "mean ROC AUC",
        "subset_accuracy": "all labels right",
        "rmse": "root mean squared error",
        "r2": "R squared",
    },
    {"log_loss": "log loss", "brier": "Brier score", "ece": "calibration error"},
)
CONFUSIONS = 3  # pairs of classes that are named
_COLUMNS = {"precision": "precision", "recall": "recall", "f1": "F1"}
_RANKING = {
    "average_precision": "average precision",
    "average_precision_interval": "95 % interval",
    "constant_average_precision": "constant",
    "roc_auc": "ROC AUC",
}


def _figure(entry, key, words):
    interval = entry.get(f"{key}_interval")
    return f"{words} {entry[key]:.3f}" + (f" ({_cell(interval)})" if interval else "")


def _most_confused(entry):
    """Return the most frequent confusions in words, the most frequent first."""
    classes = list(entry.get("per_class", ()))
    pairs = [
        (count, true, said)
        for true, row in zip(classes, entry.get("confusion") or (), strict=False)
        for said, count in zip(classes, row, strict=True)
        if count and said != true
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return [f"{true} taken for {said} ({count})" for count, true, said in pairs[:CONFUSIONS]]


def _sets(entry):
    if entry["coverage"] is None:
        return "conformal sets: no labelled image to check them on that the run has not used"
    return (
        f"conformal sets: hold the true class of {entry['coverage']:.3f} ({_cell(entry['coverage_interval'])}) of the "
        f"images, {1 - entry['alpha']:.3g} was asked for; {entry['mean_size']:.2f} classes a set"
    )


def _cell(figure):
    if figure is None:
        return ""
    return " to ".join(f"{bound:.3f}" for bound in figure) if isinstance(figure, list) else f"{figure:.3f}"
