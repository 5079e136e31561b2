"""What is known of a data set, as plain values: `data.json` and `tlkit audit`."""

import numpy as np

from tlkit.data.labels import labelled
from tlkit.tasks import KINDS


def describe_data(data):
    """Return sizes, classes, labels, findings and fingerprint of a `Data` as a JSON-able dict.

    Per task and split, `class_counts` says how many images have each class or label, `values` what the numbers of a
    regression are like, and `missing` how many images have no label.
    """
    return {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "splits_given": data.splits_given,
        "counts": data.counts(),
        "kinds": {name: task.kind for name, task in data.tasks.items()},
        "classes": {name: list(task.classes) for name, task in data.tasks.items()},
        "class_counts": _per_split(data, _class_counts, ("single_label", "multilabel")),
        "values": _per_split(data, _spread, ("regression",)),
        "missing": _per_split(data, lambda _task, known, total: total - len(known), KINDS),
        "findings": list(data.findings),
    }


def _per_split(data, figure, kinds):
    """Return `figure(task, known labels, number of images)` for each task of those kinds and each split."""
    described = {}
    for name, task in data.tasks.items():
        if task.kind in kinds:
            by_split = {split: data.labels[name][data.indices(split)] for split in data.counts()}
            described[name] = {
                split: figure(task, labels[labelled(labels)], len(labels)) for split, labels in by_split.items()
            }
    return described


def _class_counts(task, known, _total):
    counts = known.sum(axis=0) if task.kind == "multilabel" else np.bincount(known, minlength=len(task.classes))
    return dict(zip(task.classes, counts.tolist(), strict=True))


def _spread(_task, known, _total):
    if not len(known):
        return None
    return {name: float(getattr(known, name)()) for name in ("mean", "std", "min", "max")}
