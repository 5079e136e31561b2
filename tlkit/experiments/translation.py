"""What a shift of the image does to convolutions, to pooled features, and to trained nets.

Features of random filters, on digits with a margin wide enough that nothing is cut off. Trained nets are a dense net
and LeNet-5, on digits in the middle of 32 x 32 pixels; their test images are shifted to all four sides.
"""

import numpy as np

from tlkit.experiments.digits import balanced, check_digits, read_digits, recipe, shifted
from tlkit.experiments.intervals import judged, spread
from tlkit.experiments.study import Outcome

NETS = {"dense": "fully_connected", "LeNet-5": "lenet5"}
COLOURS = {"dense": "#1f77b4", "LeNet-5": "#d62728"}
SIDE, MARGIN = 32, 2  # pixels of the nets' images, and of their margin around those of 28
CANVAS = 64  # side of what the features are of
SHIFTS = (0, 1, 2, 3, 4, 6, 8)  # of features
NET_SHIFTS = (0, 1, 2, 3, 4, 5, 6)
SIDES = ((0, 1), (0, -1), (1, 0), (-1, 0))
FILTERS, FEATURE_IMAGES, TEST_IMAGES = 16, 100, 2000
POOLINGS = ("none", "max 2x2", "max 4x4", "max 8x8", "average 4x4", "global max")
EQUAL = 1e-4  # of the largest activation: what counts as unchanged
HEADER = ("what", *(f"shift {shift}" for shift in sorted({*SHIFTS, *NET_SHIFTS})))


def check(study):
    """Check the file of digits, before TensorFlow loads."""
    check_digits(study)


def measure(study):
    """Measure features, then train both nets and shift their test images, with every seed; return the `Outcome`."""
    (images, labels), (test_images, test_labels) = read_digits(study.settings["data"])
    features = [
        study.measured(f"features-{seed}", lambda s=seed: measure_features(test_images, s)) for seed in study.seeds
    ]
    study.listener.note("convolution and pooling: measured")
    margin = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN))
    accuracies = {name: [] for name in NETS}
    for seed in study.seeds:
        chosen = balanced(labels, study.settings["images"], seed)
        held_out = np.random.default_rng(seed).permutation(len(test_images))[:TEST_IMAGES]
        test = (np.pad(test_images[held_out], margin), test_labels[held_out])
        source = ((np.pad(images[chosen], margin), labels[chosen]), test)
        for name, net in NETS.items():
            run = study.trained(net, seed, recipe(net, SIDE, study.settings["epochs"]), source)
            accuracies[name].append(study.measured(f"{net}-{seed}", lambda r=run, t=test: accuracy_by_shift(r, *t)))
    figures = {"features": features, "shifts": SHIFTS, "net_shifts": NET_SHIFTS, "test_accuracy_percent": accuracies}
    rows = _rows(features, accuracies)
    verdict = _verdict(features, accuracies)
    return Outcome(HEADER, rows, figures, verdict, lambda f: _draw(f, features, accuracies), (14, 4.6))


def measure_features(images, seed):
    """Measure what a shift does to convolved and to pooled digits.

    Args:
        images: uint8 `(n, 28, 28)`; some are drawn.
        seed: Seed of the choice, and of the random filters.

    Returns:
        Dict of `equivariance`, the largest difference between convolving the shifted and shifting the convolved image
        as a share of the largest activation, by stride and shift; `changed`, by pooling and shift the length of the
        features' change as a share of theirs; `unchanged`, the share of values that stay as they are, of those
        that are not zero both times.
    """
    import keras

    random = np.random.default_rng(seed)
    drawn = images[random.permutation(len(images))[:FEATURE_IMAGES]].astype(np.float32) / 255
    around = (CANVAS - drawn.shape[1]) // 2
    canvas = np.pad(drawn, ((0, 0), (around, around), (around, around)))[..., None]
    filters = random.standard_normal((5, 5, 1, FILTERS)).astype(np.float32) / 5

    def convolve(batch, stride=1):
        return np.asarray(keras.ops.conv(batch, filters, strides=stride, padding="same"))

    found = {"equivariance": {"1": [], "2": []}, "changed": {}, "unchanged": {}}
    for stride in (1, 2):
        still = convolve(canvas, stride)
        for shift in SHIFTS:
            moved = convolve(shifted(canvas, 0, shift), stride)
            expected = shifted(still, 0, shift // stride)
            found["equivariance"][str(stride)].append(float(np.abs(moved - expected).max() / np.abs(still).max()))
    activations = [np.maximum(convolve(shifted(canvas, 0, shift)), 0) for shift in SHIFTS]
    for pooling in POOLINGS:
        changes = [_compare(pool(one, pooling), pool(activations[0], pooling)) for one in activations]
        found["changed"][pooling], found["unchanged"][pooling] = map(list, zip(*changes, strict=True))
    return found


def pool(features, pooling):
    """Return features `(n, height, width, channels)` pooled as one of `POOLINGS`."""
    if pooling == "none":
        return features
    if pooling == "global max":
        return features.max(axis=(1, 2), keepdims=True)
    how, _, sides = pooling.partition(" ")
    side = int(sides[0])
    n, height, width, channels = features.shape
    windows = features.reshape(n, height // side, side, width // side, side, channels)
    return windows.max(axis=(2, 4)) if how == "max" else windows.mean(axis=(2, 4))


def _compare(one, other):
    alive = (one != 0) | (other != 0)
    unchanged = np.abs(one - other)[alive] <= EQUAL * other.max()
    return float(np.linalg.norm(one - other) / np.linalg.norm(other)), float(unchanged.mean())


def accuracy_by_shift(run, images, labels):
    """Return the accuracy in percent at each of `NET_SHIFTS`, the mean over the four sides.

    Args:
        run: `tlkit.delivery.predict.Run`.
        images: uint8 `(n, 32, 32)`.
        labels: int array `(n,)`, the classes' names.
    """
    classes = np.array([int(name) for name in run.tasks["label"].classes])
    found = []
    for shift in NET_SHIFTS:
        right = []
        for down, across in SIDES[:1] if shift == 0 else SIDES:
            moved = shifted(images, shift * down, shift * across)[..., None].repeat(3, axis=-1)
            guesses = classes[run.model.predict(moved.astype(np.float32), batch_size=500, verbose=0).argmax(axis=1)]
            right.append(100 * float((guesses == labels).mean()))
        found.append(float(np.mean(right)))
    return found


def _rows(features, accuracies):
    lines = []
    for stride in ("1", "2"):
        largest = np.max([one["equivariance"][stride] for one in features], axis=0)
        lines.append((f"convolution, stride {stride}: largest error", SHIFTS, [f"{value:.1e}" for value in largest]))
    for key, what in (("changed", "features change, share"), ("unchanged", "values unchanged, share")):
        for pooling in POOLINGS:
            means = np.mean([one[key][pooling] for one in features], axis=0)
            lines.append((f"{what}; pooling {pooling}", SHIFTS, [f"{value:.2f}" for value in means]))
    for name, values in accuracies.items():
        lines.append((f"{name}: test accuracy %", NET_SHIFTS, [f"{value:.1f}" for value in np.mean(values, axis=0)]))
    columns = sorted({*SHIFTS, *NET_SHIFTS})
    return [
        (what, *(dict(zip(at, cells, strict=True)).get(column, "") for column in columns)) for what, at, cells in lines
    ]


def _verdict(features, accuracies):
    error = max(max(one["equivariance"]["1"]) for one in features)
    odd = SHIFTS.index(1)
    stride = spread([100 * one["equivariance"]["2"][odd] for one in features])
    changed = {name: spread([100 * one["changed"][name][odd] for one in features]) for name in POOLINGS}
    same = {name: spread([100 * one["unchanged"][name][odd] for one in features]) for name in POOLINGS}
    far = NET_SHIFTS.index(4)
    losses = {name: np.array([one[0] - one[far] for one in values]) for name, values in accuracies.items()}
    exact = "equal to the last bits of float32" if error < 1e-5 else "NOT equal"
    return (
        f"Convolving a shifted digit and shifting the convolved one are {exact} (largest difference {error:.1g} of the "
        f"largest activation); with stride 2 a shift by 1 makes {stride.words(0, '%')} of difference. A shift by 1 "
        f"changes features without pooling by {changed['none'].words(0, '%')} of their length, max-pooled over 4 x 4 "
        f"by {changed['max 4x4'].words(0, '%')}, over 8 x 8 by {changed['max 8x8'].words(0, '%')}; "
        f"{same['none'].words(0, '%')}, {same['max 4x4'].words(0, '%')} and {same['max 8x8'].words(0, '%')} of the "
        "values stay as they are: partial invariance. A maximum over the whole map is invariant as long as nothing "
        f"leaves it. Trained on digits in the middle, a shift by 4 costs LeNet-5 {spread(losses['LeNet-5']).words()} "
        f"points of accuracy. {judged(spread(losses['dense'] - losses['LeNet-5']), 'The dense net loses more')}"
    )


def _draw(figure, features, accuracies):
    changed, unchanged, nets = figure.subplots(1, 3)
    for axes, key, label in (
        (changed, "changed", "change of the features, share of their length"),
        (unchanged, "unchanged", "share of values that stay as they are"),
    ):
        for number, pooling in enumerate(POOLINGS):
            values = np.array([one[key][pooling] for one in features])
            axes.plot(SHIFTS, values.mean(axis=0), "o-", color=f"C{number}", markersize=4, label=pooling)
            axes.fill_between(SHIFTS, values.min(axis=0), values.max(axis=0), color=f"C{number}", alpha=0.2, lw=0)
        axes.set(xlabel="shift (pixels)", ylabel=label)
        axes.grid(alpha=0.25)
    error = np.max([one["equivariance"]["1"] for one in features], axis=0)
    changed.plot(SHIFTS, error, "k:", label="convolution, its output moved back")
    changed.set_ylim(-0.05, 2.1)
    changed.legend(
        title="pooling after convolution and ReLU",
        frameon=False,
        fontsize=7,
        title_fontsize=7,
        ncols=2,
        loc="upper left",
    )
    for name, of_seeds in accuracies.items():
        values = np.array(of_seeds)
        nets.plot(NET_SHIFTS, values.mean(axis=0), "o-", color=COLOURS[name], label=name)
        nets.fill_between(NET_SHIFTS, values.min(axis=0), values.max(axis=0), color=COLOURS[name], alpha=0.2, lw=0)
    nets.set(xlabel="shift of the test images (pixels)", ylabel="test accuracy (%)", ylim=(0, 100))
    nets.legend(frameon=False, loc="lower left")
    nets.grid(alpha=0.25)
    figure.suptitle("Shifted digits; bands: range over seeds")
