"""`tlkit explain`: why a run says what it says of an image."""

import json

import click

from tlkit.api.explaining import PARTS


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--out", metavar="DIR", help="Folder for the figures. Default: explain-<name of the image>.")
@click.option("--class", "class_name", metavar="NAME", help="Explain this class. Default: the most probable one.")
@click.option("--task", metavar="NAME", help="Explain this task. Default: the first.")
@click.option("--layer", metavar="NAME", help="Layer whose feature maps are looked at. Default: the last block end.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Make only this figure; may be given repeatedly.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(run, images, out, class_name, task, layer, only, as_json):
    """Show why RUN, a run folder, says what it says of each IMAGE: maps, neighbours, filters, channels, ascent."""
    from tlkit import run as run_folder
    from tlkit.cli.screen import Screen

    run_folder.find_complete_run(run)  # fails here, before anything loads
    with Screen() as screen:
        from tlkit.api import explain as explain_images

        several = list(images) if len(images) > 1 else images[0]
        settings = {"out": out, "layer": layer, "class_name": class_name, "task": task, "listener": screen}
        found = explain_images(run, several, parts=only or PARTS, **settings)
    found = found if isinstance(found, list) else [found]
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        click.echo(f"{one.path}: {_says(one)}" + (f" (true: {one.truth})" if one.truth else ""))
        for path in one.files.values():
            click.echo(f"  {path}")


def _says(found):
    if found.answer.kind == "regression":
        return f"{found.task} {found.answer.value:.4g}"
    return f"{found.class_name} {found.answer.probabilities[found.class_name]:.3f}"


def _as_json(found):
    answer = found.answer
    number = answer.kind == "regression"
    return {
        "path": found.path,
        "task": found.task,
        "class": None if number else found.class_name,
        **({"value": answer.value} if number else {"probabilities": answer.probabilities}),
        "true": found.truth or None,
        "files": {part: str(path) for part, path in found.files.items()},
        "neighbours": found.neighbours,
        "channels": found.channels,
        "notes": found.notes,
    }
