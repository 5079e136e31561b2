"""What the screen says of the data before training begins."""

from tlkit.api.scoring import primary_split
from tlkit.data.labels import labelled
from tlkit.evaluation.metrics import wilson_interval

# Below this many images a test split of 15 % gives an interval too wide to compare two models with.
FEW_IMAGES = 500


def describe_in_words(data, folds):
    """Return lines for the screen: what the data are, what was left out, and how much a test on them can say."""
    counts = ", ".join(f"{split} {count:,}" for split, count in data.counts().items())
    tasks = [_describe_task(name, task, data.labels[name]) for name, task in data.tasks.items()]
    lines = [f"{len(data):,} images, {', '.join(tasks)}: {counts}"]
    for left_out, what in ((True, "left out"), (False, "worth a look")):
        found = [finding for finding in data.findings if finding["left_out"] == left_out]
        if found:
            first = f"{found[0]['path']}: {found[0]['problem']}"
            lines.append(f"{len(found)} {what} (`tlkit audit` and data.json name all); the first: {first}")
    if len(data) < FEW_IMAGES and not folds and not data.splits_given:
        split = primary_split(data)
        count = len(data.indices(split))
        wide = "wide"
        if next(iter(data.tasks.values())).kind == "single_label":
            low, high = wilson_interval(round(0.9 * count), count)
            wide = f"some {round(100 * (high - low))} points wide"
        lines.append(f"{count} {split} images: the 95 % interval will be {wide}; --folds 5 tests all {len(data)}")
    return lines


def _describe_task(name, task, labels):
    known = labels[labelled(labels)]
    missing = f" (missing for {len(labels) - len(known):,})" if len(known) < len(labels) else ""
    if task.kind == "regression":
        return f"{name} from {known.min():g} to {known.max():g}{missing}"
    noun = "classes" if task.kind == "single_label" else "labels"
    return f"{len(task.classes)} {noun}" + ("" if name == "label" else f" of {name}") + missing


def describe_monitor(recipe):
    """Return a line for the screen that says by what the best epoch of several tasks is chosen."""
    if recipe.training.monitor == "accuracy":
        return "the best epoch is that of the highest mean of the tasks' validation accuracies (explained variance)"
    weights = {} if recipe.loss.weights == "uncertainty" else recipe.loss.weights
    parts = " + ".join(f"{weights.get(name, 1.0):g} x {name}" for name in recipe.tasks)
    learned = ", whatever weights are learned" if recipe.loss.weights == "uncertainty" else ""
    return f"the best epoch is that of the lowest sum of validation losses {parts}{learned}"
