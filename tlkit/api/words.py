"""What the screen says of the data before training begins."""

from tlkit.api.scoring import primary_split
from tlkit.evaluation.metrics import wilson_interval

# Below this many images a test split of 15 % gives an interval too wide to compare two models with.
FEW_IMAGES = 500


def describe_in_words(data, folds):
    """Return lines for the screen: what the data are, what was left out, and how much a test on them can say."""
    counts = ", ".join(f"{split} {count:,}" for split, count in data.counts().items())
    lines = [f"{len(data):,} images, {', '.join(_describe_task(*item) for item in data.tasks.items())}: {counts}"]
    for left_out, what in ((True, "left out"), (False, "worth a look")):
        found = [finding for finding in data.findings if finding["left_out"] == left_out]
        if found:
            first = f"{found[0]['path']}: {found[0]['problem']}"
            lines.append(f"{len(found)} {what} (`tlkit audit` and data.json name all); the first: {first}")
    if len(data) < FEW_IMAGES and not folds and not data.splits_given:
        split = primary_split(data)
        count = len(data.indices(split))
        low, high = wilson_interval(round(0.9 * count), count)
        width = round(100 * (high - low))
        wide = f"{count} {split} images: the 95 % interval will be some {width} points wide"
        lines.append(f"{wide}; --folds 5 tests all {len(data)}")
    return lines


def _describe_task(name, task):
    return f"{len(task.classes)} classes" + ("" if name == "label" else f" of {name}")
