"""Who goes to train, val and test: stratified by label, never tearing a group apart, the same for ever.

Items of one group (identical files, or named as belonging together) move as one. Order comes from hashes of paths and
seed, so it depends neither on the file system nor on a generator's version.
"""

import hashlib
from collections import Counter, defaultdict

import numpy as np

from tlkit.data.labels import labelled
from tlkit.errors import DataError

VALIDATION = 0.15  # of what is left after the test images
FRACTIONS = {"train": 0.70, "val": 0.15, "test": 0.15}
SPLITS = tuple(FRACTIONS)
BINS = 5  # strata of a task of numbers, of equal size
NO_STRATUM = ("", 0)  # of items without any label, which are dealt out evenly, too


def assign(paths, groups, labels, fractions, seed):
    """Assign every item to one of the named parts.

    Strata are classes, labels that an item has (or none of them), and fifths of the items in order of a number. The
    stratum with the fewest groups goes first. Its groups, the largest before the smaller, go one after the other to the
    part that lacks most of that stratum; the last ones are kept for parts that would otherwise get none.

    Reference:
        Sechidis, Tsoumakas & Vlahavas 2011, https://doi.org/10.1007/978-3-642-23808-6_10, for items of several labels.

    Args:
        paths: Names of the items, unique; together with `seed` they decide every tie.
        groups: One key per item; items with the same key stay together.
        labels: Dict of task to its labels, as `Task` says; missing ones count for nothing.
        fractions: Dict of part to its share of every stratum; sums to 1.
        seed: Integer.

    Returns:
        numpy array of str: the part of each item.
    """
    members = defaultdict(list)
    for item, group in enumerate(groups):
        members[group].append(item)
    strata = _strata(labels, len(groups))
    contents = {
        group: Counter(kind for task in strata for i in items for kind in task[i]) for group, items in members.items()
    }
    order = sorted(
        members, key=lambda group: (-len(members[group]), _hash(seed, min(paths[i] for i in members[group])))
    )
    groups_with = defaultdict(list)
    for group in order:
        for kind in contents[group]:
            groups_with[kind].append(group)

    ledger = _Ledger(contents.values(), fractions)
    part_of = {}
    for kind in sorted(groups_with, key=lambda kind: (len(groups_with[kind]), kind)):
        waiting = [group for group in groups_with[kind] if group not in part_of]
        for left, group in zip(range(len(waiting), 0, -1), waiting, strict=True):
            part_of[group] = ledger.choose(kind, left)
            ledger.book(part_of[group], contents[group])
    return np.array([part_of[group] for group in groups])


class _Ledger:
    """How many items of every stratum each part still lacks."""

    def __init__(self, contents, fractions):
        total = sum(contents, Counter())
        self.lacking = {part: {kind: share * n for kind, n in total.items()} for part, share in fractions.items()}
        self.overall = {part: share * sum(total.values()) for part, share in fractions.items()}
        self.empty = {kind: set(fractions) for kind in total}

    def choose(self, kind, left):
        """Return the part that lacks most of `kind`; with few groups `left`, among the parts that have none of it."""
        reserved = self.empty[kind] if left <= len(self.empty[kind]) else self.lacking
        parts = [part for part in self.lacking if part in reserved]
        return max(parts, key=lambda part: (round(self.lacking[part][kind], 6), round(self.overall[part], 6)))

    def book(self, part, content):
        for kind, n in content.items():
            self.lacking[part][kind] -= n
            self.overall[part] -= n
            self.empty[kind].discard(part)


def _strata(labels, n):
    """Return for each task, and for what has no label in any, one tuple of strata `(task, number)` per item."""
    strata = [
        [tuple((task, k) for k in found) for found in _numbers(np.asarray(values))] for task, values in labels.items()
    ]
    return [*strata, [() if any(task[item] for task in strata) else (NO_STRATUM,) for item in range(n)]]


def _numbers(values):
    """Return the numbers of the strata that each label of a task belongs to."""
    known = labelled(values)
    if values.ndim == 2:
        return [
            np.flatnonzero(row).tolist() or (-1,) if found else () for row, found in zip(values, known, strict=True)
        ]
    if values.dtype.kind == "f" and known.any():
        edges = np.quantile(values[known], np.arange(1, BINS) / BINS)
        values = np.searchsorted(edges, values, side="right")
    return [(value,) if found else () for value, found in zip(values.tolist(), known.tolist(), strict=True)]


def _hash(seed, path):
    return hashlib.sha256(f"{seed}:{path}".encode("utf-8", "surrogateescape")).digest()


def unite(keys):
    """Unite items that share any of their keys.

    Args:
        keys: One list of hashable keys per item; `None` among them binds nothing.

    Returns:
        list of int, one per item: equal for items that are bound, directly or through others.
    """
    parent = list(range(len(keys)))

    def root(item):
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first = {}
    for item, own in enumerate(keys):
        for position, key in enumerate(own):
            if key is not None:
                parent[root(item)] = root(first.setdefault((position, key), item))
    return [root(item) for item in range(len(keys))]


def tied(count, pairs):
    """Return a key for every item that is in a pair, equal for those tied by pairs; None for the others.

    Args:
        count: Number of items.
        pairs: `(item, item)`, positions.
    """
    ties = [[] for _ in range(count)]
    for one, other in pairs:
        ties[one].append(other)
        ties[other].append(one)
    keys = [None] * count
    for start in range(count):
        waiting = [start] if ties[start] and keys[start] is None else []
        while waiting:
            item = waiting.pop()
            if keys[item] is None:
                keys[item] = start
                waiting += ties[item]
    return keys


def need_groups(groups, labels, tasks, least, purpose):
    """Refuse classes of single-label tasks with fewer than `least` groups.

    Args:
        groups: One key per item.
        labels: Dict of task to its labels, as `Task` says.
        tasks: Dict of task to `Task`.
        least: Groups that every class needs.
        purpose: What they are needed for, to end the sentence with.

    Raises:
        DataError: Naming the first such class.
    """
    for name, task in tasks.items():
        if task.kind != "single_label":
            continue
        groups_of = defaultdict(set)
        items_of = Counter()
        for group, label in zip(groups, labels[name], strict=True):
            groups_of[int(label)].add(group)
            items_of[int(label)] += 1
        for index, class_name in enumerate(task.classes):
            if len(groups_of[index]) >= least:
                continue
            of_task = "" if name == "label" else f" of task {name!r}"
            raise DataError(
                f"class {class_name!r}{of_task} has {_plural(items_of[index], 'usable image')} in "
                f"{_plural(len(groups_of[index]), 'group')}; {purpose} takes at least {least} groups per class "
                "(copies of one picture count once): add images or leave the class out"
            )


def need_training_labels(split, labels, tasks, advice):
    """Refuse a split from whose training images a task can't be learnt.

    Args:
        split: Array of "train", "val" and "test".
        labels, tasks: As for `need_groups`.
        advice: What to do about a class or label that is elsewhere, to end the sentence with.

    Raises:
        DataError: Naming the first class without a training image, the first label that no training image has, or
            numbers that are all the same. A label that all of them have is an oddity, no reason to refuse the others.
    """
    for name, task in tasks.items():
        values = np.asarray(labels[name])
        train = (split == "train") & labelled(values)
        if not train.any():
            raise DataError(f"`{name}` is missing for all training images: {advice}")
        if task.kind == "regression" and np.ptp(values[train]) == 0:
            raise DataError(f"`{name}` is {values[train][0]:g} for all training images: there is nothing to learn")
        for index, class_name in enumerate(task.classes):
            has = values[:, index] == 1 if task.kind == "multilabel" else values == index
            noun = "label" if task.kind == "multilabel" else "class"
            if not has[train].any():
                parts = [part for part in FRACTIONS if (has & (split == part)).any()]
                where = f"it has images in {' and '.join(parts)}" if parts else "none of its images can be used"
                raise DataError(f"{noun} {class_name!r} of `{name}` has no training images ({where}): {advice}")


def _plural(n, noun):
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def folds_of(paths, groups, labels, folds, seed):
    """Deal out all items for cross-validation: fold i is test once, 15 % of the rest is val.

    Args:
        paths: Names of the items.
        groups: One key per item.
        labels: Dict of task to its labels, as `Task` says.
        folds: Number of folds, at least 2.
        seed: Integer.

    Returns:
        list of `folds` arrays of "train", "val", "test".
    """
    dealt = assign(paths, groups, labels, dict.fromkeys(range(folds), 1 / folds), seed)
    splits = []
    for fold in range(folds):
        split = np.full(len(paths), "train", "<U5")
        split[dealt == fold] = "test"
        splits.append(carve(paths, groups, labels, split, seed))
    return splits


def carve(paths, groups, labels, split, seed):
    """Return a copy of `split` in which 15 % of the training items, stratified and grouped, are "val"."""
    train = np.flatnonzero(split == "train")
    shares = {"train": 1 - VALIDATION, "val": VALIDATION}
    carved = split.astype("<U5")
    carved[train] = assign(
        [paths[i] for i in train],
        [groups[i] for i in train],
        {task: np.asarray(values)[train] for task, values in labels.items()},
        shares,
        seed,
    )
    return carved
