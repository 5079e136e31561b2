"""`report.html`: one offline file that says what a run is worth, from the files of its folder."""

import shlex
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from tlkit import run as run_folder
from tlkit.delivery import sections, wording
from tlkit.delivery.folder import Folder
from tlkit.delivery.pictures import Pictures
from tlkit.progress import Listener


def write_report(path, *, data=None, read_model=None, listener=None):
    """Write `report.html` into a run folder, from the files that are there.

    What a run lacks is left out. The page holds no time but those of the run's own files: the same folder and images
    give the same page.

    Args:
        path: The run folder, with `metrics.json` and `inputs.json`.
        data: The `tlkit.data.index.Data` of the run, where the process has it: for pictures of images that are arrays.
        read_model: Function of a run folder to its `keras.Model`, to show where it looked when it was wrong; called
            only if there are mistakes to explain. None to explain nothing.
        listener: `tlkit.progress.Listener`.

    Returns:
        Path of the page.

    Raises:
        RunError: If what every report needs is missing or damaged.
    """
    listener = listener or Listener()
    folder = Folder(path)
    html = render("report.html.j2", _page(folder, data, read_model, listener))
    page = Path(path) / run_folder.REPORT
    run_folder.write_text(page, html)
    return page


def render(template, values):
    """Return a page from a template and its values; every text of the user's is escaped.

    Args:
        template: File name in `tlkit/delivery/templates`.
        values: Dict of what the template names.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tlkit.delivery", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": wording.figure,
        "interval": wording.interval,
        "bdi": wording.bdi,
        "join_words": wording.join_words,
    }
    return environment.get_template(template).render(values | {"css": _asset("report.css"), "js": _asset("report.js")})


def _asset(name):
    return Markup((resources.files("tlkit.delivery") / "templates" / name).read_text("utf-8"))


def _page(folder, data, read_model, listener):
    pictures = Pictures(folder, data)
    numbers = range(len(folder.tasks))
    tasks = [sections.task_section(folder, k, pictures, read_model, listener) for k in numbers]
    of_data = sections.data_section(folder, pictures)
    if pictures.missing:
        count = f"{pictures.missing} image{'' if pictures.missing == 1 else 's'}"
        listener.note(f"report: {count} could not be shown: gone, changed since the run, or never files")
    return {
        "title": wording.title_of(folder),
        "folder": folder,
        "summaries": [wording.task_summary(folder, name) for name in folder.tasks],
        "trust": wording.trust(folder),
        "tasks": tasks,
        "tta": folder.metrics.get("tta"),
        "training": sections.training_section(folder),
        "selection": wording.selection_words(folder),
        "data": of_data,
        "missing": pictures.missing,
        "kinds": wording.KINDS,
        "splits": wording.SPLITS,
        "styles": wording.STYLE_OF,
        "metric_titles": wording.TITLE_OF,
        "timing": sections.timing_rows(folder),
        "environment": sections.environment_rows(folder),
        "command": folder.environment.get("command"),
        "again": repeat_command(folder),
    }


def repeat_command(folder):
    """Return what makes the run again from its resolved recipe, or None if that needs Python."""
    source = folder.data.get("source")
    if not folder.recipe or not source or source == "arrays" or _of_the_user(folder):
        return None
    return f"tlkit finetune --recipe {shlex.quote(str(folder.path / run_folder.RECIPE))} --data {shlex.quote(source)}"


def _of_the_user(folder):
    """Tell whether the model was built in Python."""
    custom = folder.recipe.get("head", {}).get("custom", "")
    return bool(custom) and (":" not in custom or custom.startswith("__main__:"))
