"""`tlkit predict`: what a run says of images."""

import json

import click

from tlkit.cli.views import average_option, tta_option


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@tta_option
@average_option
@click.option("--top", type=click.IntRange(1), default=1, metavar="K", help="Show the K most probable classes.")
@click.option("--conformal", is_flag=True, help="Show the set of classes that holds the true one as often as promised.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a CSV file with every class's probability.")
def predict(run, paths, tta, average, top, conformal, as_json, csv_file):
    """Predict images, or all images in folders, with RUN, a run folder.

    A run that isn't over predicts with its best model so far.
    """
    from tlkit import run as run_folder
    from tlkit.cli.screen import Screen

    path = run_folder.find_run_that_predicts(run)  # fails here, before TensorFlow loads
    is_search = (path / run_folder.SEARCH).is_file()
    if conformal:
        _refuse_without_sets(path, tta)
    with Screen() as screen:
        from tlkit.api import load_run

        loaded = load_run(run, unfinished=True)
        if not loaded.complete:
            screen.note(f"{path}: {'the best model of a search' if is_search else 'not over: its best model so far'}")
        predictions = loaded.predict(list(paths), tta=tta, average=average, listener=screen)
    if csv_file:
        _write_csv(csv_file, predictions, conformal)
    if as_json:
        document = [_as_json(prediction, top) for prediction in predictions]
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif not csv_file:
        _print_table(predictions, top, conformal)


def _refuse_without_sets(path, tta):
    from tlkit import run as run_folder
    from tlkit.errors import RunError

    if tta != "none":
        raise RunError(
            f"--conformal: the sets keep their promise for the evaluation view alone. Received: --tta {tta}. Leave one "
            "of the two out."
        )
    tasks = run_folder.read_json(path / run_folder.INPUTS)["tasks"]
    if not any(task.get("conformal") for task in tasks.values()):
        raise RunError(
            f"{path}: --conformal: the run has no conformal sets. Train with --set evaluation.conformal=0.1, or leave "
            "it out."
        )


def _as_json(prediction, top):
    return {
        "path": prediction.path,
        "tasks": {name: _entry(answer, top) for name, answer in prediction.answers.items()},
    }


def _entry(answer, top):
    if answer.kind == "regression":
        return {"prediction": answer.value}
    ranked = [{"class": label, "probability": p} for label, p in list(answer.probabilities.items())[:top]]
    if answer.kind == "multilabel":
        return {"prediction": list(answer.labels), "top": ranked}
    entry = {"prediction": answer.label, "probability": answer.probability, "top": ranked}
    return entry if answer.conformal_set is None else entry | {"conformal_set": list(answer.conformal_set)}


def _print_table(predictions, top, conformal):
    from tlkit.cli.tables import print_table

    header = ["image"]
    for name, answer in predictions[0].answers.items():
        header += [name, *(f"{rank}." for rank in _ranks(answer, top))]
        header += ["set"] if _has_set(answer, conformal) else []
    rows = [
        (prediction.path, *(cell for answer in prediction.answers.values() for cell in _cells(answer, top, conformal)))
        for prediction in predictions
    ]
    print_table(header, rows)


def _has_set(answer, conformal):
    return conformal and answer.kind == "single_label" and answer.conformal_set is not None


def _ranks(answer, top):
    """Return the ranks that have a column of their own: the first class is what a single-label task predicts."""
    if answer.kind == "regression" or top == 1:
        return []
    return range(1 if answer.kind == "multilabel" else 2, top + 1)


def _cells(answer, top, conformal):
    from tlkit.data.labels import NO_LABELS

    if answer.kind == "regression":
        return [f"{answer.value:.4g}"]
    ranked = [f"{label} {probability:.3f}" for label, probability in list(answer.probabilities.items())[:top]]
    if answer.kind == "multilabel":
        found = ", ".join(f"{label} {answer.probabilities[label]:.3f}" for label in answer.labels) or NO_LABELS
        ranked = [found, *(ranked if top > 1 else [])]
    found = [", ".join(answer.conformal_set)] if _has_set(answer, conformal) else []
    return ranked + [""] * (1 + len(_ranks(answer, top)) - len(ranked)) + found


def _write_csv(file, predictions, conformal):
    from pathlib import Path

    from tlkit import run as run_folder
    from tlkit.data.labels import JOINT
    from tlkit.errors import TlkitError

    header, rows = ["path"], [[prediction.path] for prediction in predictions]
    for name, first in predictions[0].answers.items():
        classes = [] if first.kind == "regression" else sorted(first.probabilities)
        has_set = _has_set(first, conformal)
        header += [f"{name}.prediction", *(f"{name}.{label}" for label in classes)]
        header += [f"{name}.set"] if has_set else []
        for row, prediction in zip(rows, predictions, strict=True):
            answer = prediction.answers[name]
            row += [_predicted(answer), *(f"{answer.probabilities[label]:.7g}" for label in classes)]
            row += [JOINT.join(answer.conformal_set)] if has_set else []
    try:
        run_folder.write_csv(Path(file), header, rows)
    except OSError as error:
        raise TlkitError(f"--csv {file}: can't write it: {error.strerror}. Choose another file.") from None


def _predicted(answer):
    from tlkit.data.labels import JOINT, NO_LABELS

    if answer.kind == "regression":
        return f"{answer.value:.7g}"
    return answer.label if answer.kind == "single_label" else JOINT.join(answer.labels) or NO_LABELS
