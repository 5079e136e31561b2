"""From a source to an index: which images, which labels, which split, and what is wrong with them.

Nothing here needs TensorFlow, and OpenCV is only loaded when files are opened: mistakes are reported within a second.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tlkit.data.arrays import as_rgb, list_arrays, list_npz
from tlkit.data.files import read_file
from tlkit.data.grouping import group_by_regex
from tlkit.data.labels import labelled, with_scale
from tlkit.data.listing import find_source, list_csv, list_folder
from tlkit.data.oddities import oddities
from tlkit.data.splits import FRACTIONS, SPLITS, assign, carve, folds_of, need_groups, need_training_labels, tied, unite
from tlkit.errors import DataError, LostImageError, did_you_mean
from tlkit.tasks import KINDS, NAME, Task


@dataclass(frozen=True, eq=False)
class Data:
    """An audited set of labelled images with its splits.

    Attributes:
        source: Absolute path that was loaded, or "arrays".
        root: Folder that `paths` are relative to; None for arrays.
        paths: Names of the images, with "/" between folders, in a fixed order.
        images: uint8 array or list of uint8 arrays; None where the images are files.
        tasks: Dict of name to `Task`.
        labels: Dict of task to its labels, encoded as `Task` says; every image has one for at least one task.
        split: Array `(n,)` of "train", "val" or "test".
        splits_given: Whether the source itself said which images are for testing or validation.
        groups: One key per image; images with the same key never straddle splits that we made.
        sha256: Hash of each file's bytes, or of each array's shape and values.
        findings: Dicts of `path`, `problem` and `left_out`: what can't be used, and what deserves a look; where it
            applies with the `kind` of the problem (see `tlkit.evaluation.audit`) and the `other` path.
        fingerprint: Hash of names, contents, labels and splits.
        seed, group_by: What the splits were made with, as given to `load`.
    """

    source: str
    root: Path | None
    paths: tuple[str, ...]
    images: object
    tasks: dict[str, Task]
    labels: dict[str, np.ndarray]
    split: np.ndarray
    splits_given: bool
    groups: tuple[str, ...]
    sha256: tuple[str, ...]
    findings: list = field(default_factory=list)
    fingerprint: str = ""
    seed: int = 0
    group_by: str = ""

    def __len__(self):
        return len(self.paths)

    def indices(self, split):
        """Return the positions of a split's images, int64, ascending."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def counts(self):
        """Return a dict of split to its number of images, leaving out empty splits."""
        found = Counter(self.split.tolist())
        return {split: found[split] for split in SPLITS if found[split]}

    def read(self, i, at_least=None):
        """Read image `i` as uint8 RGB `(height, width, 3)`.

        Args:
            i: Position of the image.
            at_least: As for `tlkit.data.decode.decode`; arrays are returned whole.

        Raises:
            LostImageError: If the file has gone or changed since it was checked, or can't be read.
        """
        if self.images is not None:
            return as_rgb(self.images[i])
        from tlkit.data.decode import DecodeError, decode

        path = self.root / self.paths[i]
        try:
            content = read_file(path)
            if hashlib.sha256(content).hexdigest() != self.sha256[i]:
                raise LostImageError(f"{path}: has changed since it was checked. Put it back, or start a new run.")
            return decode(content, at_least)
        except FileNotFoundError:
            raise LostImageError(f"{path}: has gone. Put it back, or start a new run without it.") from None
        except OSError as error:
            raise LostImageError(f"{path}: can't be read: {error.strerror}. Mend that, or start a new run.") from None
        except DecodeError as error:
            raise DataError(f"{path}: {error}") from None


def load(source, *, tasks=None, group_by=None, seed=0, progress=None, split=True):
    """Load and audit labelled images, and split them where the source doesn't.

    Args:
        source: Folder, CSV or .npz file, `(images, labels)`, or `((x_train, y_train), (x_test, y_test))`; labels are an
            array, or a dict of task to array.
        tasks: Dict of label column to kind; `"auto"` is single label, unless the column looks like something else,
            which is refused. Default `{"label": "auto"}`.
        group_by: Regular expression on the relative path; images with equal first groups stay in one split.
        seed: Integer that decides the splits.
        progress: Function of `(done, total)` files checked, called from this thread.
        split: False to leave every image in the split "test", for data that is only evaluated on.

    Returns:
        `Data`.

    Raises:
        DataError: If the source can't be used; one line that says where, why and what to do.

    Example:
        >>> data = load("./mydata")
        >>> data.counts()
        {'train': 238, 'val': 51, 'test': 52}
    """
    listing = _list(source, _check_kinds(tasks))
    _leave_out_unlabelled(listing)
    if group_by is not None:
        listing.groups = group_by_regex(listing.paths, group_by)
    hashes, usable, patterns = _audit(listing, progress)
    if not usable:
        first = listing.findings[-len(listing.paths)]  # those before it were found without opening a file
        raise DataError(
            f"{listing.source}: none of the {len(listing.paths)} images can be used; first "
            f"{first['path']}: {first['problem']}"
        )
    if not split:
        listing.split = ["test"] * len(listing.paths)
    try:
        copies = _copies(listing, hashes, usable, patterns)
        data = _index(listing, hashes, usable, copies, seed, make_splits=split)
    except DataError as error:
        raise DataError(f"{listing.source}: {error}") from None
    return replace(data, seed=seed, group_by=group_by or "")


def with_split(data, split):
    """Return `data` with another assignment of splits, and the scale that its training images give tasks of numbers.

    Findings that an image is in two splits at once stay only where it still is.

    Args:
        data: `Data`.
        split: Array `(n,)` of "train", "val", "test".
    """
    split = np.asarray(split, "<U5")
    changed = replace(data, split=split, splits_given=False, tasks=_scaled(data.tasks, data.labels, split))
    return replace(changed, fingerprint=_fingerprint(changed), findings=_still_true(changed))


def subset(data, indices):
    """Return `data` with some of its images only, in the splits that they have.

    Args:
        data: `Data`.
        indices: int array of positions, ascending.
    """
    kept = np.asarray(indices).tolist()
    images = data.images
    if images is not None:
        images = images[kept] if isinstance(images, np.ndarray) else [images[i] for i in kept]
    some = replace(
        data,
        paths=tuple(data.paths[i] for i in kept),
        images=images,
        labels={name: values[kept] for name, values in data.labels.items()},
        split=data.split[kept],
        groups=tuple(data.groups[i] for i in kept),
        sha256=tuple(data.sha256[i] for i in kept),
    )
    return replace(some, fingerprint=_fingerprint(some), findings=_still_true(some))


def _still_true(data):
    """Return the findings of `data`, without leaks of groups whose images are all in one split."""
    splits_of = {}
    for group, split in zip(data.groups, data.split.tolist(), strict=True):
        splits_of.setdefault(group, set()).add(split)
    straddling = {path for path, group in zip(data.paths, data.groups, strict=True) if len(splits_of[group]) > 1}
    return [finding for finding in data.findings if finding.get("kind") != "leak" or finding["path"] in straddling]


def fold_splits(data, folds, seed):
    """Deal out all images for cross-validation.

    Args:
        data: `Data`; its own splits are not looked at.
        folds: Number of folds, at least 2.
        seed: Integer.

    Returns:
        list of `folds` arrays for `with_split`: fold i is "test" in the i-th, 15 % of the rest is "val"; stratified and
        grouped.

    Raises:
        DataError: If there are fewer than two folds, a class has fewer than three groups, or a task can't be learnt
            from the training images of a fold.
    """
    if folds < 2:
        raise DataError(f"--folds must be at least 2. Received: {folds}")
    need_groups(data.groups, data.labels, data.tasks, 3, "cross-validation")
    splits = folds_of(data.paths, data.groups, data.labels, folds, seed)
    for split in splits:
        need_training_labels(split, data.labels, data.tasks, "add images, or use fewer folds")
    return splits


def split_for_deployment(data, seed):
    """Return a split of all images into "train" (85 %) and "val" (15 %), to train the model that is shipped."""
    need_groups(data.groups, data.labels, data.tasks, 2, "holding out a validation slice")
    split = carve(data.paths, data.groups, data.labels, np.full(len(data), "train", "<U5"), seed)
    need_training_labels(split, data.labels, data.tasks, "add images")
    return split


def _check_kinds(tasks):
    if tasks is not None and not isinstance(tasks, dict):
        raise DataError(f"tasks: expected a dict of column to kind. Received: {tasks!r}")
    kinds = dict(tasks or {"label": "auto"})
    for name, kind in kinds.items():
        if kind not in (*KINDS, "auto"):
            known = ", ".join(KINDS)
            raise DataError(
                f"--task {name}={kind}: the kind must be one of {known}. Received: {kind!r}.{did_you_mean(kind, KINDS)}"
            )
        if not NAME.fullmatch(name):
            raise DataError(
                f"--task {name}={kind}: the name may have letters, digits, `_`, `.` and `-`: rename the column"
            )
        if name in ("path", "split", "group"):
            raise DataError(f"--task {name}={kind}: the column {name!r} has a meaning of its own and can't hold labels")
    return kinds


def _list(source, kinds):
    if not isinstance(source, str | Path):
        path, suffix = None, None
    else:
        path = find_source(source)
        suffix = path.suffix.lower() if path.is_file() else None
    if suffix == ".csv":
        return list_csv(path, kinds)
    if path is None:
        return list_arrays(source, kinds)
    name, kind = next(iter(kinds.items()))
    if tuple(kinds) != ("label",):
        raise DataError(f"--task {name}: only a CSV has label columns; folders and .npz files have one task, `label`")
    if suffix == ".npz":
        return list_npz(path, kinds)
    if kind not in ("single_label", "auto"):
        raise DataError(f"--task {name}={kind}: class folders are single labels; other kinds take a CSV")
    try:
        return list_folder(path)
    except PermissionError as error:
        raise DataError(f"{error.filename}: this folder may not be read; mend its permissions") from None
    except OSError as error:
        raise DataError(f"{error.filename}: this folder can't be read: {error.strerror}") from None


def _leave_out_unlabelled(listing):
    """Take the items out of a listing that have no label for any task, and add them to its findings."""
    known = np.any([labelled(column.values) for column in listing.labels.values()], axis=0)
    if known.all():
        return
    if not known.any():
        raise DataError(f"{listing.source}: none of the {len(known)} images has a label ({', '.join(listing.labels)})")
    kept = np.flatnonzero(known).tolist()
    listing.findings += [{"path": listing.paths[i], "problem": "no label"} for i in np.flatnonzero(~known)]
    listing.labels = {name: column._replace(values=column.values[kept]) for name, column in listing.labels.items()}
    for name in ("paths", "split", "groups", "images"):
        if (values := getattr(listing, name)) is not None:
            setattr(listing, name, values[kept] if isinstance(values, np.ndarray) else [values[i] for i in kept])


def _audit(listing, progress):
    """Return every item's sha256, which ones can be used, and what their pictures are recognized by, if known.

    What can't be used goes to the findings.
    """
    if listing.images is not None:
        hashes = [_hash_array(image) for image in listing.images]
        return hashes, list(range(len(hashes))), None
    from tlkit.data.checks import check_files

    verdicts = check_files([listing.root / path for path in listing.paths], progress)
    listing.findings += [
        {"path": path, "problem": verdict.problem, "kind": "unreadable"}
        for path, verdict in zip(listing.paths, verdicts, strict=True)
        if verdict.problem
    ]
    usable = [i for i, verdict in enumerate(verdicts) if verdict.problem is None]
    patterns = [verdicts[i].pattern for i in usable]
    return [verdict.sha256 for verdict in verdicts], usable, patterns


def _copies(listing, hashes, usable, patterns):
    """Return pairs of usable items that are one picture, saved anew or in another size; of arrays none are sought."""
    if patterns is None or not any(patterns):
        return []
    from tlkit.data.copies import copies_among, read_thumbnail

    def read(i):
        return read_thumbnail(listing.root / listing.paths[usable[i]])

    return copies_among(patterns, read, [hashes[i] for i in usable])


def _hash_array(image):
    image = np.ascontiguousarray(image)
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _index(listing, hashes, usable, copies, seed, make_splits):
    """Put together labels, groups and splits of the usable items."""
    paths = [listing.paths[i] for i in usable]
    sha256 = [hashes[i] for i in usable]
    own = [listing.groups[i] or None for i in usable] if listing.groups else [None] * len(usable)
    # Classes are those that the source names: one that lost all its images must be missed, not forgotten.
    tasks = {name: Task(column.kind, column.classes) for name, column in listing.labels.items()}
    labels = {name: column.values[usable] for name, column in listing.labels.items()}
    bound = unite(list(zip(sha256, own, tied(len(paths), copies), strict=True)))
    groups = [paths[first] for first in bound]
    given = np.array([listing.split[i] for i in usable]) if listing.split else None
    if make_splits:
        _need_two_classes(tasks)
        split, splits_given = _split(given, paths, groups, labels, tasks, seed)
    else:
        split, splits_given = given.astype("<U5"), False
    data = Data(
        source=listing.source,
        root=listing.root,
        paths=tuple(paths),
        images=listing.images,
        tasks=_scaled(tasks, labels, split),
        labels=labels,
        split=split,
        splits_given=splits_given,
        groups=tuple(groups),
        sha256=tuple(sha256),
        findings=[{"left_out": True} | finding for finding in listing.findings]
        + [finding | {"left_out": False} for finding in oddities(paths, sha256, own, copies, split, labels, tasks)],
    )
    return replace(data, fingerprint=_fingerprint(data))


def _scaled(tasks, labels, split):
    return {name: with_scale(task, labels[name][split == "train"]) for name, task in tasks.items()}


def _need_two_classes(tasks):
    for name, task in tasks.items():
        if task.kind == "single_label" and len(task.classes) < 2:
            found = f"only {task.classes[0]!r}" if task.classes else "none"
            where = "" if name == "label" else f" in column {name!r}"
            raise DataError(f"a classifier needs at least two classes; {found} was found{where}")


def _split(given, paths, groups, labels, tasks, seed):
    """Return the split of every item and whether the source gave it; what it lacks is made here."""
    names = set() if given is None else set(given.tolist())
    if len(names) < 2:
        need_groups(groups, labels, tasks, 3, "splitting into train, val and test")
        made = assign(paths, groups, labels, FRACTIONS, seed)
        need_training_labels(made, labels, tasks, "add images, or make smaller groups if its own are tied to others")
        return made, False
    if "train" not in names:
        raise DataError(
            f"the splits are {' and '.join(sorted(names))}: there is nothing to train on; add a train split"
        )
    need_training_labels(given, labels, tasks, "move some to train")
    if "val" in names:
        return given.astype("<U5"), True
    train = given == "train"
    in_train = {name: values[train] for name, values in labels.items()}
    need_groups(
        [g for g, t in zip(groups, train, strict=True) if t], in_train, tasks, 2, "taking a val split out of train"
    )
    carved = carve(paths, groups, labels, given, seed)
    need_training_labels(carved, labels, tasks, "add images to train")
    return carved, True


def _fingerprint(data):
    digest = hashlib.sha256()
    labels = {name: _plain(values) for name, values in data.labels.items()}
    for i, path in enumerate(data.paths):
        row = [path, data.sha256[i], {name: values[i] for name, values in labels.items()}, str(data.split[i])]
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _plain(values):
    """Return labels as JSON-able values: missing numbers as None."""
    return [None if number != number else number for number in values.tolist()] if values.ndim == 1 else values.tolist()
