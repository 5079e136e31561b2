"""What is known of a data set, as plain values: `data.json` and `tlkit audit`."""

import numpy as np


def describe_data(data):
    """Return sizes, classes, findings and fingerprint of a `Data` as a JSON-able dict."""
    return {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "splits_given": data.splits_given,
        "counts": data.counts(),
        "classes": {name: list(task.classes) for name, task in data.tasks.items()},
        "class_counts": {
            name: {
                split: dict(zip(task.classes, _class_counts(data, name, split), strict=True)) for split in data.counts()
            }
            for name, task in data.tasks.items()
        },
        "findings": list(data.findings),
    }


def _class_counts(data, task, split):
    labels = data.labels[task][data.indices(split)]
    return np.bincount(labels, minlength=len(data.tasks[task].classes)).tolist()
