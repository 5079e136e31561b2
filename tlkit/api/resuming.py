"""A run that is taken up again: what must be as it was, what may differ by name, and what is recorded of that."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tlkit import run as run_folder
from tlkit.data.describe import describe_data
from tlkit.data.index import Data, with_split
from tlkit.data.labels import label_texts
from tlkit.errors import RecipeError, RunError, did_you_mean
from tlkit.evaluation.predictions import read_splits
from tlkit.recipe import read_recipe
from tlkit.recipe_keys import Recipe

RECIPE, DATA, VERSIONS = run_folder.CHANGES
RECORDED = "changes"  # in environment.json
GIVEN_UP = "no_longer_trained_on"  # sha256 of images, in a change of the data: they are no test of the model
MOST_NAMED = 3  # images, where some differ

# What can't change under way by any name: with another model, or other images held out, it would be another run; with
# another measure, what is best so far couldn't be held against what follows.
FIXED = (
    "seed", "tasks", "backbone", "head", "data.image_size", "data.fit", "data.split_seed", "data.group_by",
    "data.folds", "training.monitor", "training.average_best", "loss.weights",
)  # fmt: skip


class TakenUp(NamedTuple):
    """A run that exists, as it goes on.

    Attributes:
        recipe: Its `Recipe`.
        data: Its `Data`.
        changes: Dict of what has changed, by name, to a dict of what exactly to its values before and after.
    """

    recipe: Recipe
    data: Data
    changes: dict


def check_allowed(allowed):
    """Return the names of what may have changed as a frozenset, or raise `RecipeError` for others."""
    known = run_folder.CHANGES
    for name in allowed:
        if name not in known:
            hint = did_you_mean(name, known)
            raise RecipeError(f"--allow-changed: expected one of {', '.join(known)}. Received: {name!r}.{hint}")
    return frozenset(allowed)


def take_up(path, recipe, data, allowed):
    """Return the run in a folder as it goes on with a recipe and data: those that it has, or, where allowed, these.

    Args:
        path: The run folder.
        recipe: Resolved `Recipe`.
        data: `Data`.
        allowed: Those of `tlkit.run.CHANGES` that may be.

    Returns:
        `TakenUp`.

    Raises:
        RunError: If something differs, in one line that says what; or if no change of it can be allowed.
    """
    recorded = read_recipe(path / run_folder.RECIPE, recorded=True)
    recipe = _with_measured(recipe, recorded)
    described, rows = run_folder.read_json(path / run_folder.DATA), read_splits(path)
    others = described.get("fingerprint") != data.fingerprint
    if others and DATA not in allowed and (told := _compare_rows(rows, _rows_of(_with_known_splits(data, rows)))):
        raise _other_data(path, told)
    changed = _differing(*(deciding(one).model_dump(mode="json") for one in (recorded, recipe)))
    if changed and RECIPE not in allowed:
        raise RunError(
            f"{path}: this run's recipe differs in {_in_words(changed)}. Give --resume with --out alone, choose "
            f"another --out, or allow it with --allow-changed {RECIPE}."
        )
    if fixed := [key for key in changed if any(key == name or key.startswith(f"{name}.") for name in FIXED)]:
        raise RunError(f"{path}: {', '.join(fixed)} can't change under way. Start a new run with that recipe.")
    changes = {RECIPE: changed} if changed else {}
    cache = recipe.training.cache if recipe.training.cache != "auto" else recorded.training.cache
    recipe = (recipe if changed else recorded).model_copy(deep=True)
    recipe.training.cache = cache
    if others:
        data, images = _take_up_data(path, described, rows, data, allowed, folds=recipe.data.folds)
        changes |= {DATA: images} if images else {}
    return TakenUp(recipe, data, changes)


def deciding(recipe):
    """Return a recipe without what was not asked for: where features lie, where time was up or memory ended."""
    recipe = recipe.model_copy(deep=True)
    recipe.training.cache = recipe.training.splits = "auto"
    if not isinstance(recipe.stages, str):
        recipe.stages = [stage.model_copy(update={"stop_after": "never"}) for stage in recipe.stages]
    return recipe


def _with_measured(recipe, recorded):
    """Return a recipe with what a run has measured, where the recipe leaves that open."""
    if recipe.training.precision != "auto":
        return recipe
    recipe = recipe.model_copy(deep=True)
    recipe.training.precision = recorded.training.precision
    return recipe


def _differing(one, other, key=""):
    """Return the dotted keys in which nested plain values differ, each with its values in one and in the other."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):  # stages, one with its like
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return {} if one == other else {key: [one, other]}
    found = {}
    for name in dict.fromkeys([*one, *other]):
        found |= _differing(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    return found


def _in_words(changed):
    """Say what differs, with the values where they are short."""
    told = []
    for key, (before, after) in changed.items():
        plain = not isinstance(before, dict | list) and not isinstance(after, dict | list)
        told.append(f"{key} ({before} before, {after} now)" if plain else key)
    return ", ".join(told)


def split_rows(data):
    """Return the header and the rows of `splits.csv`."""
    columns = [label_texts(task, data.labels[name]) for name, task in data.tasks.items()]
    rows = zip(data.paths, data.split.tolist(), data.sha256, *columns, strict=True)
    return ["path", "split", "sha256", *data.tasks], [list(row) for row in rows]


def _rows_of(data):
    header, rows = split_rows(data)
    return [dict(zip(header, row, strict=True)) for row in rows]


def _other_data(path, told):
    return RunError(
        f"{path}: the data changed since this run began: {told}. Put it back, start a new run, or allow it with "
        f"--allow-changed {DATA}."
    )


def _take_up_data(path, described, before, loaded, allowed, folds):
    """Return the data as a run goes on with them, and what has changed; images keep the splits that they have in it."""
    data = _with_known_splits(loaded, before)
    if data.fingerprint == described.get("fingerprint") and DATA in recorded_changes(path):  # allowed before
        return data, {}
    if DATA not in allowed:
        raise _other_data(path, _compare_rows(before, _rows_of(loaded)) or "their order")
    if folds:
        raise RunError(f"{path}: a cross-validated run can't go on with other images. Start a new run.")
    after, new = _rows_of(data), describe_data(data)
    if new["classes"] != described.get("classes") or new["kinds"] != described.get("kinds"):
        raise RunError(f"{path}: the classes changed: what the model has learned is of others. Start a new run.")
    scales = ({name: of.get("train") for name, of in one.get("values", {}).items()} for one in (described, new))
    if len({str(scale) for scale in scales}) > 1:
        raise RunError(f"{path}: the numbers to learn changed, and with them the model's scale. Start a new run.")
    if _of_split(before, "val") != _of_split(after, "val"):
        raise RunError(
            f"{path}: the validation images changed, which tell what is best so far. Put them back, or start a new run."
        )
    used = {row["sha256"] for row in before if row["split"] != "test"} | _given_up(path)
    if any(row["sha256"] in used for row in after if row["split"] == "test"):
        raise RunError(f"{path}: images that the run has trained on are for testing now. Start a new run.")
    kept = {row["sha256"] for row in after if row["split"] != "test"}
    return data, {
        "images": [described["fingerprint"], _compare_rows(before, after)],
        GIVEN_UP: sorted(used - kept),
    }


def _given_up(path):
    """Return the sha256 of images that a run may have been trained on and that were taken away since."""
    return {sha256 for change in _recorded(path) for sha256 in change["changed"].get(GIVEN_UP, ())}


def _with_known_splits(data, before):
    """Return data with each image in the split that it has had, or is given; else in that of its equals, or "train"."""
    by_path = {row["path"]: row["split"] for row in before}
    by_content = {row["sha256"]: row["split"] for row in before}
    images = list(zip(data.paths, data.sha256, data.groups, strict=True))
    by_group = {group: by_path[path] for path, _, group in images if path in by_path}
    if data.splits_given:
        split = [by_path.get(path, given) for path, given in zip(data.paths, data.split.tolist(), strict=True)]
    else:
        split = [
            by_path.get(path) or by_content.get(sha256) or by_group.get(group) or "train"
            for path, sha256, group in images
        ]
    return replace(with_split(data, split), splits_given=data.splits_given)


def _of_split(rows, split):
    """Return contents and labels of the images of a split, in order."""
    return [{k: v for k, v in row.items() if k not in ("path", "split")} for row in rows if row["split"] == split]


def _compare_rows(before, after):
    """Say in which images two lists of rows of `splits.csv` differ."""
    old, new = ({row["path"]: row for row in rows} for rows in (before, after))
    both = [(old[path], row) for path, row in new.items() if path in old]
    found = {
        "more": [path for path in new if path not in old],
        "fewer": [path for path in old if path not in new],
        "with other contents": [row["path"] for was, row in both if was["sha256"] != row["sha256"]],
        "in another split": [row["path"] for was, row in both if was["split"] != row["split"]],
        "with other labels": [row["path"] for was, row in both if _labels(was) != _labels(row)],
    }
    told = []
    for what, paths in found.items():
        if paths:
            names = ", ".join(paths[:MOST_NAMED]) + (", ..." if len(paths) > MOST_NAMED else "")
            told.append(f"{len(paths)} {'image' if len(paths) == 1 else 'images'} {what} ({names})")
    return "; ".join(told)


def _labels(row):
    return {key: value for key, value in row.items() if key not in ("path", "split", "sha256")}


def changed_versions(path, now, allowed):
    """Return what of the engine and the machine differs from what a run began with, each with both values.

    Args:
        path: The run folder, or a search's.
        now: What `environment.json` would say.
        allowed: Those of `tlkit.run.CHANGES` that may be.

    Raises:
        RunError: If something differs that may not.
    """
    if not (Path(path) / run_folder.ENVIRONMENT).exists():
        return {}
    changed = _differing(*map(_engine_of, (run_folder.read_json(Path(path) / run_folder.ENVIRONMENT), now)))
    if changed and VERSIONS not in allowed:
        raise RunError(
            f"{path}: the run began with other versions: {_in_words(changed)}. Go on with those, start a new run, or "
            f"allow it with --allow-changed {VERSIONS}: then it isn't repeatable to the bit."
        )
    return changed


def _engine_of(environment):
    """Return what decides the last bits, of what an `environment.json` says."""
    return {key: environment.get(key) for key in ("packages", "threads", "device", "processor")}


def recorded_changes(path):
    """Return the names of what was allowed to change in a run before."""
    return {change["what"] for change in _recorded(path)}


def _recorded(path):
    file = Path(path) / run_folder.ENVIRONMENT
    if not file.exists():
        return []
    with run_folder.reading(path):
        return [
            {"what": str(one["what"]), "changed": dict(one["changed"])}
            for one in run_folder.read_json(file).get(RECORDED, [])
        ]


def record_changes(path, environment, changes, at):
    """Write into `environment.json` what has changed, and where in the training that was.

    Args:
        path: The run folder, or a search's.
        environment: What it would say now; of it, the engine and the machine are taken.
        changes: Dict of name to what has changed.
        at: Dict that says how far the training was.
    """
    if not changes:
        return
    file, now = Path(path) / run_folder.ENVIRONMENT, datetime.now().astimezone().isoformat(timespec="seconds")
    recorded = run_folder.read_json(file)
    for what, changed in changes.items():
        recorded.setdefault(RECORDED, []).append({"what": what, "when": now, **at, "changed": changed})
    run_folder.write_json(file, recorded | _engine_of(environment))


def record_data(path, data, audit=None):
    """Write what is known of a run's data: `data.json` and `splits.csv`.

    Args:
        path: The run folder.
        data: `Data`.
        audit: What an audit has found, as `data.json` has it.
    """
    run_folder.write_csv(Path(path) / run_folder.SPLITS, *split_rows(data))
    run_folder.write_json(Path(path) / run_folder.DATA, describe_data(data) | (audit or {}))
