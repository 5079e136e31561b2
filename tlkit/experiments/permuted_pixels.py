"""Digits as they are, and with their pixels permuted: a dense net and LeNet-5, from scratch.

Each seed has a permutation of its own, the same for all its images, and training images of its own; both nets get
them, as they are and permuted.
"""

import numpy as np

from tlkit.experiments.digits import SIDE, balanced, check_digits, read_digits, recipe
from tlkit.experiments.intervals import judged, spread
from tlkit.experiments.study import Outcome

NETS = {"dense": "fully_connected", "LeNet-5": "lenet5"}
COLOURS = {"dense": "#1f77b4", "LeNet-5": "#d62728"}
SMALL = 1.0  # points of accuracy
HEADER = ("net", "pixels", "test accuracy %", "lowest", "highest")


def check(study):
    """Check the file of digits, before TensorFlow loads."""
    check_digits(study)


def measure(study):
    """Train both nets on both kinds of images with every seed; return the `Outcome`."""
    (images, labels), (test_images, test_labels) = read_digits(study.settings["data"])
    found = {name: {"normal": [], "permuted": []} for name in NETS}
    for seed in study.seeds:
        chosen = balanced(labels, study.settings["images"], seed)
        order = np.random.default_rng(seed).permutation(SIDE * SIDE)
        for pixels in ("normal", "permuted"):
            train, test = images[chosen], test_images
            if pixels == "permuted":
                train, test = permuted(train, order), permuted(test, order)
            source = ((train, labels[chosen]), (test, test_labels))
            for name, net in NETS.items():
                values = recipe(net, SIDE, study.settings["epochs"])
                found[name][pixels].append(100 * study.trained(f"{net}-{pixels}", seed, values, source).accuracy)
    rows = []
    for name, of_net in found.items():
        for pixels, values in of_net.items():
            one = spread(values)
            rows.append((name, pixels, *(f"{value:.2f}" for value in (one.mean, one.lowest, one.highest))))
    return Outcome(
        HEADER, rows, {"test_accuracy_percent": found}, _verdict(study, found), lambda f: _draw(f, found), (7, 4.8)
    )


def permuted(images, order):
    """Return images `(n, height, width)` whose pixels lie in another order, the same for all."""
    return images.reshape(len(images), -1)[:, order].reshape(images.shape)


def _verdict(study, found):
    losses = {name: np.subtract(of["normal"], of["permuted"]) for name, of in found.items()}
    dense = spread(losses["dense"])
    care = (
        f"less than {SMALL:g} point either way, so it does not care"
        if max(abs(dense.low), abs(dense.high)) < SMALL
        else f"which these seeds can't tell from {SMALL:g} point or more"
    )
    ahead = {pixels: spread(np.subtract(found["LeNet-5"][pixels], found["dense"][pixels])) for pixels in found["dense"]}
    return (
        f"Permuting the pixels costs the dense net {dense.words(2, 'points')} of test accuracy: {care}. "
        f"{judged(spread(losses['LeNet-5']), 'It makes LeNet-5 worse', 2)} "
        f"{judged(spread(losses['LeNet-5'] - losses['dense']), 'LeNet-5 loses more than the dense net', 2)} "
        f"LeNet-5's lead over the dense net is {ahead['normal'].words(2, 'points')} on images and "
        f"{ahead['permuted'].words(2, 'points')} on permuted ones. {study.settings['images']:,} training images, "
        f"{study.settings['epochs']} epochs."
    )


def _draw(figure, found):
    axes = figure.subplots()
    for offset, (name, of_net) in enumerate(found.items()):
        spreads = [spread(values) for values in of_net.values()]
        places = [position + 0.1 * (offset - 0.5) for position in range(len(spreads))]
        axes.plot(places, [one.mean for one in spreads], "-", color=COLOURS[name], label=name)
        for side, place, values, one in zip((-1, 1), places, of_net.values(), spreads, strict=True):
            axes.plot([place] * len(values), values, "o", color=COLOURS[name], markersize=5)
            axes.annotate(
                f"{one.mean:.2f}", (place, one.mean), (40 * side, -4), textcoords="offset points", ha="center"
            )
    axes.set_xlim(-0.5, 1.5)
    axes.set_xticks((0, 1), ("images as they are", "pixels permuted"))
    axes.set(ylabel="test accuracy (%)", title="MNIST, its pixels permuted; a dot a seed, lines through the means")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(frameon=False, loc="lower left")
