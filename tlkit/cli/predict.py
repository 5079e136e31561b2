"""`tlkit predict`: what a run says of images."""

import json

import click


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--top", type=click.IntRange(1), default=1, metavar="K", help="Show the K most probable classes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a CSV file with every class's probability.")
def predict(run, paths, top, as_json, csv_file):
    """Predict images, or all images in folders, with RUN, a run folder."""
    from tlkit import run as run_folder
    from tlkit.cli.screen import Screen

    run_folder.find_complete_run(run)  # fails here, before TensorFlow loads
    with Screen() as screen:
        from tlkit.api import load_run

        predictions = load_run(run).predict(list(paths), listener=screen)
    if csv_file:
        _write_csv(csv_file, predictions)
    if as_json:
        document = [_as_json(prediction, top) for prediction in predictions]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not csv_file:
        _print_table(predictions, top)


def _as_json(prediction, top):
    tasks = {
        name: {
            "prediction": answer.label,
            "probability": answer.probability,
            "top": [{"class": label, "probability": p} for label, p in list(answer.probabilities.items())[:top]],
        }
        for name, answer in prediction.answers.items()
    }
    return {"path": prediction.path, "tasks": tasks}


def _print_table(predictions, top):
    from tlkit.cli.tables import print_table

    header = ["image"]
    for name in predictions[0].answers:
        header += [name if rank == 0 else f"{rank + 1}." for rank in range(top)]
    rows = [
        (prediction.path, *(cell for answer in prediction.answers.values() for cell in _cells(answer, top)))
        for prediction in predictions
    ]
    print_table(header, rows)


def _cells(answer, top):
    ranked = [f"{label} {probability:.3f}" for label, probability in list(answer.probabilities.items())[:top]]
    return ranked + [""] * (top - len(ranked))


def _write_csv(file, predictions):
    from pathlib import Path

    from tlkit import run as run_folder
    from tlkit.errors import TlkitError

    header, rows = ["path"], [[prediction.path] for prediction in predictions]
    for name, first in predictions[0].answers.items():
        classes = sorted(first.probabilities)
        header += [f"{name}.prediction", *(f"{name}.{label}" for label in classes)]
        for row, prediction in zip(rows, predictions, strict=True):
            answer = prediction.answers[name]
            row += [answer.label, *(f"{answer.probabilities[label]:.7g}" for label in classes)]
    try:
        run_folder.write_csv(Path(file), header, rows)
    except OSError as error:
        raise TlkitError(f"--csv {file}: can't write it: {error.strerror}. Choose another file.") from None
