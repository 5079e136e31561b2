"""Who goes to train, val and test: stratified by class, never tearing a group apart, the same for ever.

Items of one group (identical files, or named as belonging together) move as one. Order comes from hashes of paths and
seed, so it depends neither on the file system nor on a generator's version.
"""

import hashlib
from collections import Counter, defaultdict

import numpy as np

from tlkit.errors import DataError

VALIDATION = 0.15  # of what is left after the test images
FRACTIONS = {"train": 0.70, "val": 0.15, "test": 0.15}


def assign(paths, groups, labels, fractions, seed):
    """Assign every item to one of the named parts.

    The class with the fewest groups goes first. Its groups, the largest before the smaller, go one after the other to
    the part that lacks most of that class; the last ones are kept for parts that would otherwise get none.

    Args:
        paths: Names of the items, unique; together with `seed` they decide every tie.
        groups: One key per item; items with the same key stay together.
        labels: Dict of task to a sequence of class indices, one per item.
        fractions: Dict of part to its share of every class; sums to 1.
        seed: Integer.

    Returns:
        numpy array of str: the part of each item.
    """
    members = defaultdict(list)
    for item, group in enumerate(groups):
        members[group].append(item)
    contents = {group: _classes_in(items, labels) for group, items in members.items()}
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
    """How many items of every class each part still lacks."""

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


def _classes_in(items, labels):
    return Counter((task, int(values[item])) for task, values in labels.items() for item in items)


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


def need_groups(groups, labels, tasks, least, purpose):
    """Refuse classes with fewer than `least` groups.

    Args:
        groups: One key per item.
        labels: Dict of task to class indices, one per item.
        tasks: Dict of task to `Task`.
        least: Groups that every class needs.
        purpose: What they are needed for, to end the sentence with.

    Raises:
        DataError: Naming the first such class.
    """
    for name, task in tasks.items():
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
                "(identical files count once): add images or leave the class out"
            )


def _plural(n, noun):
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def folds_of(paths, groups, labels, folds, seed):
    """Deal out all items for cross-validation: fold i is test once, 15 % of the rest is val.

    Args:
        paths: Names of the items.
        groups: One key per item.
        labels: Dict of task to class indices, one per item.
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
