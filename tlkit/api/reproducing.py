"""A run done again from its own folder, and what came out otherwise."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api import differences, finetune_recipe, load_run
from tlkit.api.resuming import recorded_changes
from tlkit.errors import DataError, RunError
from tlkit.progress import Listener
from tlkit.recipe import read_recipe

IDENTICAL, CLOSE, DIFFERENT = "identical to the bit", "within the tolerance", "differs"
# Other threads, processors and versions of the engine add up numbers in another order, and training makes the last bits
# grow. Measured with EfficientNet-Lite0 on 138 photos of ten classes, two threads and one: probabilities of the probe
# differ by 1.3e-6, the validation loss after 28 steps of two blocks by 6e-5. Long trainings differ more: hence room.
MOST_APART = 0.05  # of a probability, or of a number in units of its labels' standard deviation
MOST_OTHER_ANSWERS = 0.02  # of the images
THREADS = "TF_NUM_INTRAOP_THREADS"


@dataclass(frozen=True)
class Reproduction:
    """What `reproduce` found; `before` is the run, `now` its repetition.

    Attributes:
        before, now: The two run folders.
        verdict: `"identical to the bit"`, `"within the tolerance"` or `"differs"`.
        why: The verdict's reason, in words.
        recipe, environment, metrics: Dicts of key to its two values, of what differs.
        data, history, weights, predictions: As the functions of `tlkit.api.differences` say.
        primary: The headline figure's name and its two values.
    """

    before: str
    now: str
    verdict: str
    why: str
    recipe: dict
    data: dict
    environment: dict
    history: dict
    weights: dict
    metrics: dict
    predictions: dict
    primary: dict

    @property
    def repeats(self):
        """Whether the repetition is identical, or within the tolerance."""
        return self.verdict != DIFFERENT

    def as_dict(self):
        """Return everything as plain dicts and lists."""
        return asdict(self)


def reproduce(run, *, data=None, head=None, out=None, listener=None):
    """Do a run again from its recipe and compare what comes out.

    The same machine, versions and number of threads give the same bits. Elsewhere the repetition is held against a
    tolerance: no probability further off than 0.05 (no number than 0.05 standard deviations of its labels), and at most
    2 % of the images answered otherwise. What earlier runs have kept of the frozen layers' features isn't used.

    Args:
        run: A completed run's folder, or a `Run`.
        data: The images, as for `load_data`; by default where the run had them.
        head: `"module:function"`, for a run with a head of the user's own: no code is called because a folder names it.
        out: The new run's folder; by default a new one under `runs/`.
        listener: `Listener` for progress and notes.

    Returns:
        `Reproduction`.

    Raises:
        RunError: If the folder is no completed run, or one that its files alone can't repeat.
        TlkitError: In one line, for whatever else the user can mend.
    """
    listener = listener or Listener()
    before = load_run(run)
    recipe = _recipe_of(before.path, head)
    with run_folder.reading(before.path):  # all that will be compared, before hours go by
        source = _source_of(before.path, data)
        seconds = run_folder.read_json(before.path / run_folder.TIMING).get("total_seconds", 0)
        listener.note(f"repeating {before.path}, which took {seconds:.0f} s")
        _note_threads(before.path, listener)
        if changed := sorted(recorded_changes(before.path)):
            listener.note(f"{_changed_in_words(changed)}: it can't be repeated to the bit")
        compare_runs(before, before)
    now = finetune_recipe(recipe, source, out=out, listener=listener)
    return compare_runs(before, now)


def compare_runs(before, now):
    """Return the `Reproduction` of a `Run` and its repetition."""
    paths = before.path, now.path
    for name, task in before.tasks.items():
        if name not in now.tasks or now.tasks[name].classes != task.classes:
            raise DataError(f"{now.path}: `{name}` has other classes than in {before.path}: the data aren't the run's.")
    found = {
        "recipe": differences.compare_recipes(*paths),
        "data": differences.compare_data(*paths),
        "environment": differences.compare_environments(*paths),
        "history": differences.compare_histories(*paths),
        "weights": differences.compare_weights(*paths),
        "metrics": differences.compare_metrics(*paths),
        "predictions": differences.compare_predictions(*paths, before.tasks),
    }
    name = before.metrics["primary"]
    figures = [differences.flat(run.metrics).get(name) for run in (before, now)]
    verdict, why = judge(**found, changed=sorted(recorded_changes(before.path)))
    return Reproduction(
        before=str(before.path), now=str(now.path), verdict=verdict, why=why, primary={name: figures}, **found
    )


def judge(recipe, data, environment, history, weights, metrics, predictions, changed=()):
    """Return the verdict on a repetition and its reason, from what differs.

    Args:
        recipe, data, environment, history, weights, metrics, predictions: As the functions of
            `tlkit.api.differences` say.
        changed: Names of what was allowed to change in the run while it was made.
    """
    by_task = [found for of_split in predictions.values() for found in of_split.values()]
    apart = max((found["largest_difference"] for found in by_task), default=0.0)
    others = max((found["other_answers"] / found["n"] for found in by_task if found["other_answers"]), default=0.0)
    if recipe or not data["same"]:
        return DIFFERENT, f"the {'recipe' if recipe else 'data'} isn't the run's, so nothing is said of the rest"
    if weights["same"] and not metrics and not apart and history["first_difference"] is None:
        return IDENTICAL, "weights, history, figures and predictions are the same"
    elsewhere = "although the environment is the same"
    if changed:
        elsewhere = _changed_in_words(changed)
    elif environment:
        elsewhere = f"computed elsewhere ({', '.join(environment)})"
    amounts = f"probabilities differ by up to {apart:.2g}, {100 * others:.1f} % of the answers; {elsewhere}"
    close = apart <= MOST_APART and others <= MOST_OTHER_ANSWERS
    return CLOSE if close else DIFFERENT, amounts


def _changed_in_words(changed):
    return f"the run's {', '.join(changed)} changed under way (--allow-changed)"


def _recipe_of(path, head):
    if path.parent.name == run_folder.FOLDS and (path.parent.parent / run_folder.RECIPE).is_file():
        raise RunError(f"{path}: is a fold. Reproduce the whole run: `tlkit reproduce {path.parent.parent}`.")
    recipe = read_recipe(path / run_folder.RECIPE, recorded=True).model_copy(deep=True)
    if recipe.head.custom and ":" not in (head or recipe.head.custom):
        raise RunError(
            f"{path}: the model is of the user's own making, so its folder can't repeat it. Train from Python."
        )
    if recipe.head.custom and not head:
        raise RunError(
            f"{path}: the head is a function of the user's own, {recipe.head.custom}. If you trust it, add --head "
            f"{recipe.head.custom}."
        )
    if head and not recipe.head.custom:
        raise RunError(f"--head {head}: {path} has tlkit's own head. Leave it out.")
    recipe.head.custom = head or ""
    if recipe.training.cache == "disk":
        recipe.training.cache = "ram"  # nothing that an earlier run has left is taken for computed
    return recipe


def _note_threads(path, listener):
    """Say beforehand that the bits will be others, where the number of threads is."""
    then = run_folder.read_json(path / run_folder.ENVIRONMENT).get("threads")
    given = os.environ.get(THREADS, "")
    now = (int(given) if given.isdecimal() else 0) or run_folder.usable_cpus()
    if then != now:
        listener.note(
            f"the run used {then} threads, here are {now}: the last bits will differ, unless {THREADS}={then}"
        )


def _source_of(path, data):
    if data is not None:
        return data
    source = run_folder.read_json(path / run_folder.DATA).get("source")
    if source == "arrays":
        raise RunError(
            f"{path}: was trained on arrays, which its folder doesn't hold. Give them to `reproduce` in Python."
        )
    if not isinstance(source, str) or not source or not _exists(source):
        raise RunError(f"{path}: its images were in {source}, which is gone. Say where they are with --data.")
    return source


def _exists(path):
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
