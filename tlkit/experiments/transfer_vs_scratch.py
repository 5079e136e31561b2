"""Accuracy against the number of images per class: what is learned from scratch, and what was learned before.

Transferred: a linear model of the features of EfficientNet-Lite0 with its ImageNet weights. From scratch: ResNet-20
for images of 32 pixels. Each seed draws images of its own, and of one seed the fewer are among the more; both kinds
get the same ones, of which tlkit holds out 15 % to choose by. The test images are the same for all. From scratch, the
number of epochs is the same for all, so few images also mean few steps: part of the lead is that of optimization.
"""

import numpy as np

from tlkit.experiments.intervals import judged, spread
from tlkit.experiments.pictures import Pool, scratch_recipe, write_list
from tlkit.experiments.study import Outcome

PER_CLASS = (10, 30, 100, 300, 1000, 3000)  # up to --images, which is the last
TEST_PER_CLASS = 200
TRANSFER_SIDE = 96  # pixels that Lite0 sees images of 32 at
SMALL_BATCH = 32
TRANSFER, SCRATCH = "transfer", "scratch"
NAMES = {TRANSFER: "EfficientNet-Lite0, ImageNet weights, linear model", SCRATCH: "ResNet-20 from scratch"}
COLOURS = {TRANSFER: "#1f77b4", SCRATCH: "#d62728"}
HEADER = ("images per class", "transfer %", "lowest", "highest", "scratch %", "lowest accuracy", "highest accuracy")


def check(study):
    """Check that there are as many images as asked for, before TensorFlow loads."""
    _choose(study)


def measure(study):
    """Train both kinds on every number of images with every seed; return the `Outcome`."""
    pool, test, train = _choose(study)
    folder = study.path / "data"
    pool.lay_out({*test, *(name for names in train.values() for name in names)}, folder)
    recipes = {
        TRANSFER: transfer_recipe(),
        SCRATCH: scratch_recipe(
            "resnet20_cifar", study.settings["epochs"], batch_size=SMALL_BATCH, learning_rate=0.05, schedule="cosine"
        ),
    }
    counts = list(dict.fromkeys(count for count, _ in train))
    found = {kind: {str(count): [] for count in counts} for kind in recipes}
    planned, place_of = {}, {}
    for (count, seed), names in train.items():
        source = folder / f"images-{count}-{seed}.csv"
        write_list(source, {"train": names, "test": test})
        for kind, values in recipes.items():
            planned[f"{kind}-{count}", seed] = values, source
            place_of[f"{kind}-{count}", seed] = found[kind][str(count)]
    for which, run in study.all_trained(planned):
        place_of[which].append(100 * run.accuracy)
    rows = [_row(count, found) for count in counts]
    figures = {"test_accuracy_percent": found}
    return Outcome(HEADER, rows, figures, _verdict(study, counts, found), lambda f: _draw(f, counts, found), (7.5, 5))


def transfer_recipe():
    """Return the recipe of the linear model of pretrained features, as plain values."""
    return {
        "data": {"image_size": TRANSFER_SIDE, "fit": "squash"},
        "evaluation": {"tta": "none", "calibration": "none"},
        "stages": "probe",
    }


def _choose(study):
    """Return the pool, the names of the test images, and a dict of `(images per class, seed)` to training names."""
    pool, most = Pool(study.settings["data"]), study.settings["images"]
    test = pool.choose("test", min(TEST_PER_CLASS, *map(len, pool.names["test"].values())), 0)
    counts = [*(count for count in PER_CLASS if count < most), most]
    return pool, test, {(n, seed): pool.choose("train", n, seed) for n in counts for seed in study.seeds}


def _row(count, found):
    spreads = (spread(found[kind][str(count)]) for kind in (TRANSFER, SCRATCH))
    return (count, *(f"{value:.1f}" for one in spreads for value in (one.mean, one.lowest, one.highest)))


def _verdict(study, counts, found):
    gains = [np.subtract(found[TRANSFER][str(count)], found[SCRATCH][str(count)]) for count in counts]
    said = [
        judged(spread(gain), f"With {count} images per class the pretrained features are ahead")
        for count, gain in zip(counts, gains, strict=True)
    ]
    if len(counts) > 1:
        falls = spread(gains[0] - gains[-1])
        said.append(judged(falls, f"The lead with {counts[0]} images per class exceeds that with {counts[-1]}"))
    return (
        f"{' '.join(said)} From scratch: {study.settings['epochs']} epochs, so the fewer images the fewer steps, "
        f"no more tuning; the pretrained net sees the images of 32 pixels enlarged to {TRANSFER_SIDE}."
    )


def _draw(figure, counts, found):
    axes = figure.subplots()
    for kind, of_kind in found.items():
        values = np.array([of_kind[str(count)] for count in counts])
        axes.plot(counts, values.mean(axis=1), "o-", color=COLOURS[kind], label=NAMES[kind])
        axes.fill_between(counts, values.min(axis=1), values.max(axis=1), color=COLOURS[kind], alpha=0.2, lw=0)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
    axes.set(xlabel="training images per class", ylabel="test accuracy (%)", ylim=(0, 100))
    axes.set_title("CIFAR-10: accuracy against the number of images; bands: range over seeds", fontsize=10)
    axes.legend(frameon=False, loc="upper left")
    axes.grid(alpha=0.25)
