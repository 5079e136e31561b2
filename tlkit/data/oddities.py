"""What deserves a look in an index although every file can be used: leaks, contradictions, labels that tell nothing."""

from tlkit.data.labels import label_texts
from tlkit.data.splits import SPLITS


def oddities(paths, sha256, own, copies, split, labels, tasks):
    """Name copies and groups that straddle splits, copies labelled in two ways, labels that all images have.

    Args:
        paths, sha256: Name and content of each item.
        own: The group that the source gives each item, or None.
        copies: Pairs of items of different contents that show one picture.
        split: Array of "train", "val" and "test".
        labels: Dict of task to its labels, as `Task` says.
        tasks: Dict of task to `Task`.

    Returns:
        List of dicts of `path`, `problem`, and mostly `kind` and `other`.
    """
    findings = [
        {"path": name, "problem": f"label {label!r} is on all labelled training images: nothing tells it from others"}
        for name, task in tasks.items()
        if task.kind == "multilabel"
        for label, column in zip(task.classes, labels[name][(split == "train")].T, strict=True)
        if not (column == 0).any()
    ]
    by_hash, by_group = {}, {}
    texts = [label_texts(task, labels[name]) for name, task in tasks.items()]
    for i, (content, group) in enumerate(zip(sha256, own, strict=True)):
        by_hash.setdefault(content, []).append(i)
        if group is not None:
            by_group.setdefault(group, []).append(i)
    pairs = [(same[0], i, "identical to") for same in by_hash.values() for i in same[1:]]
    pairs += [(first, i, "the same picture as") for first, i in copies]
    seen = set()
    for first, i, relation in pairs:
        found = {"path": paths[i], "other": paths[first]}
        if split[i] != split[first] and (i, split[first]) not in seen:  # of many copies, one of each split
            seen.add((i, split[first]))
            problem = f"{relation} {paths[first]}, but in {split[i]} while that is in {split[first]}"
            findings.append(found | {"problem": problem, "kind": "leak"})
        for of_task in texts:
            mine, other = of_task[i], of_task[first]
            if mine and other and mine != other:
                problem = f"{relation} {paths[first]}, but labelled {mine!r} while that is {other!r}"
                findings.append(found | {"problem": problem, "kind": "conflicting_label"})
    for group, members in by_group.items():
        parts = [part for part in SPLITS if part in split[members]]
        if len(parts) > 1:
            problem = f"group {group!r} straddles the given splits {' and '.join(parts)}"
            findings.append({"path": paths[members[0]], "problem": problem, "kind": "leak"})
    return findings
