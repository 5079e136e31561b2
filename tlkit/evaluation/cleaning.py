"""Which images a cleaned data set leaves out, and why."""

import os
from collections import Counter

from tlkit.data.labels import label_texts
from tlkit.evaluation.audit import SAME_PICTURE
from tlkit.evaluation.duplicates import copy_groups

RULE = (
    "of copies with equal labels one stays: that in test before val before train, then that with most labels, then the "
    "largest picture, then the first by name; one picture with two labels goes with all its copies"
)
KEPT_FIRST = ("test", "val", "train")
DROPPABLE = ("label_error", "outlier", "tiny")


def clean(data, copies, facts, findings=(), drop=()):
    """Say which images a cleaned data set leaves out, by `RULE`.

    Args:
        data: `Data`.
        copies: List of `tlkit.evaluation.duplicates.Copy`. A mirrored, turned, recoloured or cropped copy with another
            label stays: an arrow to the left is none to the right.
        facts: What `tlkit.evaluation.audit.read_facts` returns.
        findings: Findings of the audit.
        drop: Kinds of `findings`, of `DROPPABLE`, whose images are left out, too.

    Returns:
        Dict of position to the reason.
    """
    texts = list(zip(*(label_texts(task, data.labels[name]) for name, task in data.tasks.items()), strict=True))
    left_out = {}
    same = [copy for copy in copies if copy.relation in SAME_PICTURE]
    for members in _groups(len(data), same):
        if any(_contradict(texts[one], texts[other]) for one in members for other in members if one < other):
            left_out |= dict.fromkeys(members, "one picture with two labels")
    agreeing = [copy for copy in copies if not _contradict(texts[copy.first], texts[copy.second])]
    for members in _groups(len(data), agreeing):
        there = [i for i in members if i not in left_out]
        there.sort(key=lambda i: _place(data, texts, facts, i))
        # Two that contradict each other may be tied by a third that lacks the label.
        others = [i for i in there[1:] if not _contradict(texts[i], texts[there[0]])]
        left_out |= dict.fromkeys(others, f"a copy of {data.paths[there[0]]}")
    position = {path: i for i, path in enumerate(data.paths)}
    for finding in findings:
        if finding.get("kind") in drop and finding["path"] in position:
            left_out.setdefault(position[finding["path"]], finding["kind"])
    return left_out


def _place(data, texts, facts, i):
    """Return what copies are ordered by: the first stays."""
    missing, pixels = texts[i].count(""), facts[i].width * facts[i].height
    return KEPT_FIRST.index(data.split[i]), missing, -pixels, data.paths[i]


def _groups(count, copies):
    keys = copy_groups(count, copies)
    tied = {i for copy in copies for i in (copy.first, copy.second)}
    members = {}
    for i in sorted(tied):
        members.setdefault(int(keys[i]), []).append(i)
    return members.values()


def _contradict(one, other):
    return any(mine and theirs and mine != theirs for mine, theirs in zip(one, other, strict=True))


def clean_rows(data, left_out, folder):
    """Return header and rows of a CSV that `load_data` reads: what stays, with its split, groups and labels.

    Args:
        data: `Data` of files.
        left_out: Positions to leave out.
        folder: Absolute path of the folder that the CSV will lie in; the paths are relative to it.
    """
    kept = [i for i in range(len(data)) if i not in left_out]
    root, folder = data.root.resolve(), folder.resolve()  # `..` leads out of where a link points to
    columns = {name: label_texts(task, data.labels[name]) for name, task in data.tasks.items()}
    members = Counter(data.groups[i] for i in kept)
    shared = {group for group, count in members.items() if count > 1}
    header = ["path", "split", *(["group"] if shared else []), *columns]
    rows = []
    for i in kept:
        group = [data.groups[i] if data.groups[i] in shared else ""] if shared else []
        path = os.path.relpath(root / data.paths[i], folder)
        rows.append([path.replace(os.sep, "/"), str(data.split[i]), *group, *(of[i] for of in columns.values())])
    return header, rows
