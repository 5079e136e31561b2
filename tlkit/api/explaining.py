"""Why a run says what it says of an image: what is explained, what is checked first, and what is written."""

import csv
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tlkit import run as run_folder
from tlkit.errors import DataError, RunError, TlkitError, did_you_mean
from tlkit.progress import Listener

PARTS = ("maps", "neighbours", "filters", "channels", "ascent")
MAPS = ("grad_cam", "occlusion", "gradient", "guided", "guided_grad_cam")


@dataclass(frozen=True)
class Explanation:
    """What was found of one image.

    Attributes:
        path: The image's path as given, or `"image"` for an array.
        task: Name of the task.
        class_name: The class whose score is explained; the task's name for a number.
        answer: What the model says for the task, see `tlkit.delivery.predict.Prediction`.
        truth: The image's label as the run recorded it, as text; empty where the run did not see the image.
        files: Dict of part to the path written; `"arrays"` is the one with the maps as arrays.
        maps: Dict of a name in `MAPS` to float32 `(size, size)`: occlusion signed, in log odds or
            the number's unit; the others at least 0.
        neighbours: List of dicts with `path`, `label` and `distance`, the nearest first.
        channels: List of dicts with `channel` and `images`, a list of `path` and `peak`, the strongest first.
        notes: Lines on what was left out and why.
    """

    path: str
    task: str
    class_name: str
    answer: object
    truth: str
    files: dict = field(default_factory=dict)
    maps: dict = field(default_factory=dict)
    neighbours: list = field(default_factory=list)
    channels: list = field(default_factory=list)
    notes: list = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """What is explained of an image.

    Attributes:
        path, task, class_name, answer, truth: As in `Explanation`.
        view: uint8 RGB `(size, size, 3)`, as the model takes it.
        index: Position of the class among the task's outputs.
        split: Which of the run's splits the image is in; empty if in none.
    """

    path: str
    task: str
    class_name: str
    answer: object
    truth: str
    view: np.ndarray
    index: int
    split: str

    @property
    def words(self):
        """The class and how sure the model is of it, or the number."""
        if self.answer.kind == "regression":
            return f"{self.class_name} = {self.answer.value:.4g}"
        return f"{self.class_name}, probability {self.answer.probabilities[self.class_name]:.3f}"


def explain(
    run, image, *, out=None, maps=MAPS, parts=PARTS, layer=None, class_name=None, task=None, seed=0, listener=None
):
    """Explain what a run says of an image: maps, neighbours, filters, channels, and images that it makes up.

    Args:
        run: A `Run`, or the folder of one.
        image: Path of an image, or a uint8 array `(height, width, 3)`; or a list of those, which share the work.
        out: Folder for the files; by default `explain-<name of the image>`. For a list, each image has a folder in it.
        maps: Names in `MAPS`.
        parts: Names in `PARTS`: which figures are made.
        layer: Name of the layer whose feature maps are looked at; by default the last block end.
        class_name: Class that is explained; by default the most probable one.
        task: Name of the task; by default the first, or the first that has the class.
        seed: Whole number that decides the noise from which images are made up.
        listener: `Listener` for progress and notes.

    Returns:
        `Explanation`, or a list of them.

    Raises:
        TlkitError: In one line, if the run, the image, the class, the task or the layer is not there, or a file is.
    """
    from tlkit.api import load_run
    from tlkit.api.explain_parts import Explainer

    listener = listener or Listener()
    for given, known, what in ((maps, MAPS, "maps"), (parts, PARTS, "parts")):
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known)
                raise TlkitError(f"{what}: expected some of {', '.join(known)}. Received: {name!r}.{hint}")
    run = load_run(run)
    task = _find_task(run.tasks, task, class_name)
    images = image if isinstance(image, list | tuple) else [image]
    if not images:
        raise DataError("nothing to explain: expected at least one image. Received: none")
    folders = _folders(images, out, parts, alone=not isinstance(image, list | tuple))
    views = [_read(run, single) for single in images]  # whatever can't be read shows before the engine loads
    explainer = Explainer(run, listener, maps=maps, layer=layer, seed=seed)
    found = []
    for single, folder, (view, sha256) in zip(images, folders, views, strict=True):
        subject = _subject(run, single, view, sha256, task, class_name, listener)
        found.append(_write(explainer, subject, parts, folder, listener))
    return found if isinstance(image, list | tuple) else found[0]


def _find_task(tasks, name, class_name):
    """Return the name of the task that is meant."""
    if name is None:
        holders = [own for own, task in tasks.items() if class_name in task.classes]
        name = holders[0] if holders else next(iter(tasks))
        known = [label for task in tasks.values() for label in task.classes]
    elif name not in tasks:
        raise RunError(f"task: the run has {', '.join(tasks)}. Received: {name!r}.{did_you_mean(name, tasks)}")
    else:
        known = tasks[name].classes
    if class_name is None or class_name in tasks[name].classes:
        return name
    if not known:
        raise RunError(f"class: {name} is a number and has no classes. Received: {class_name!r}. Leave it out.")
    raise RunError(
        f"class: the run knows none called {class_name!r}.{did_you_mean(class_name, known)} "
        f"It knows: {', '.join(known[:20])}{' and others' if len(known) > 20 else ''}"
    )


def _folders(images, out, parts, alone):
    """Return the folder of each image, checked to hold none of the files that will be written."""
    names = [Path(image).stem if isinstance(image, str | Path) else "image" for image in images]
    if alone:
        folders = [Path(out) if out else Path(f"explain-{names[0]}")]
    else:
        folders = [Path(out) / name if out else Path(f"explain-{name}") for name in names]
    for number, folder in enumerate(folders):
        if folder in folders[:number]:
            raise DataError(f"{images[number]}: two images are called {names[number]!r}. Explain one after the other.")
        if folder.exists() and not folder.is_dir():
            raise RunError(f"--out {folder}: expected a folder. Received a file.")
        for name in _file_names(parts).values():
            if (folder / name).exists():
                raise RunError(f"--out {folder}: {name} exists already. Choose another folder, or remove it.")
    return folders


def _file_names(parts):
    return {part: f"{part}.png" for part in PARTS if part in parts} | (
        {"arrays": "maps.npz"} if "maps" in parts else {}
    )


def _read(run, image):
    """Return an image's view, uint8 `(size, size, 3)`, and the hash of its bytes; None for an array."""
    from tlkit.data.arrays import as_rgb
    from tlkit.data.augment import evaluation_view
    from tlkit.data.decode import DecodeError, decode
    from tlkit.data.files import read_file
    from tlkit.data.pipeline import side_needed

    size, sha256 = run.inputs["image_size"], None
    if isinstance(image, str | Path):
        try:
            content = read_file(image)
            pixels, sha256 = decode(content, side_needed(size)), hashlib.sha256(content).hexdigest()
        except FileNotFoundError:
            raise DataError(f"{image}: no such file. Give an image.") from None
        except (OSError, DecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{image}: can't be read as an image: {reason}") from None
    else:
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,)):
            raise DataError(
                f"image: expected a uint8 array (height, width, 3). Received: {pixels.dtype} {pixels.shape}"
            )
        pixels = as_rgb(pixels)
    return evaluation_view(pixels, size, run.inputs["fit"]), sha256


def _subject(run, image, view, sha256, task, class_name, listener):
    """Return the `Subject` of an image; the answer is that of `tlkit predict`."""
    given = str(image) if isinstance(image, str | Path) else image
    answer = run.predict([given], listener=listener)[0].answers[task]
    index, split, truth = 0, "", ""
    if answer.kind != "regression":
        class_name = class_name or next(iter(answer.probabilities))
        index = run.tasks[task].classes.index(class_name)
    if sha256 is not None:
        split, truth = _recorded(run, sha256, task)
    name = given if isinstance(given, str) else "image"
    return Subject(name, task, class_name or task, answer, truth, view, index, split)


def _recorded(run, sha256, task):
    """Return in which split the run had an image, and its label as text; empty where it had none."""
    try:
        text = run_folder.read_text(run.path / run_folder.SPLITS)
        with run_folder.reading(run.path):
            for row in csv.DictReader(io.StringIO(text, newline="")):
                if row.get("sha256") == sha256:
                    return row["split"], row.get(task) or ""
    except FileNotFoundError:
        pass
    return "", ""


def _write(explainer, subject, parts, folder, listener):
    """Make the figures of an image, write them, and return its `Explanation`."""
    found = Explanation(subject.path, subject.task, subject.class_name, subject.answer, subject.truth)
    made, reasons = {}, []
    for part in PARTS:
        if part in parts:
            try:
                made[part] = getattr(explainer, part)(subject, found)
            except TlkitError as error:  # such as data of the run that have gone; other parts need none
                reasons.append(error)
                found.notes.append(f"{part}: left out: {error}")
                listener.note(found.notes[-1])
    if not made:
        raise reasons[0]
    from tlkit.evaluation.explain.sheets import save

    folder.mkdir(parents=True, exist_ok=True)
    names = _file_names(parts)
    for part, figure in made.items():
        found.files[part] = folder / names[part]
        with run_folder.atomic_path(found.files[part]) as temporary:
            save(figure, temporary)
    if "maps" in made:
        found.files["arrays"] = folder / names["arrays"]
        with run_folder.atomic_path(found.files["arrays"]) as temporary:
            np.savez_compressed(temporary, image=subject.view, **found.maps)
    return found
