"""The receptive field by arithmetic, and by the gradient of one position with respect to the image.

How much a pixel counts is the mean, over random weights and random images, of the squared gradient of the middle
position, its channels weighted at random. All pixels with any gradient are the measured field. The effective one is,
as in the paper, the side of a square of as many pixels as have a gradient (its root mean square) of at least 4.55 % of
the largest, which is what a bell has within two standard deviations.

Reference:
    Luo, Li, Urtasun & Zemel 2016, https://arxiv.org/abs/1701.04128, sections 3.1 and 3.2.
"""

import numpy as np

from tlkit.experiments.intervals import spread
from tlkit.experiments.study import Outcome

STACKS = (1, 2, 3, 5, 10, 20, 40)  # 3x3 convolutions
STACK_FILTERS = 16
BLOCKS = {
    "vgg_d": ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
    "resnet18_b": ("conv2_2", "conv3_2", "conv4_2"),  # conv5_x sees 435 pixels, more than the image has
}
NET_SIZE = 224
NET_IMAGES = 2  # of 224 pixels, for one of the stacks' 8: they have far more positions to average over
SHARE = 1 - 0.9545
MAP_SIDE = 81  # pixels of a map that is drawn
HEADER = ("net", "up to", "by arithmetic", "any gradient", "effective", "lowest", "highest", "effective / arithmetic")


def measure(study):
    """Measure stacks of convolutions, and blocks of nets, with every seed; return the `Outcome`."""
    images = study.settings["images"]
    cases = {}
    for depth in STACKS:
        cases[f"stack-{depth}"] = [
            study.measured(f"stack-{depth}-{seed}", lambda a=depth, b=seed: measure_stack(a, b, images))
            for seed in study.seeds
        ]
    study.listener.note("stacks of 3x3 convolutions: measured")
    for net, ends in BLOCKS.items():
        for end in ends:
            case = f"{net}-{end}"
            count = max(1, images * NET_IMAGES // 8)
            cases[case] = [
                study.measured(f"{case}-{seed}", lambda a=net, b=end, c=seed, n=count: measure_block(a, b, c, n))
                for seed in study.seeds
            ]
            study.listener.note(f"{net} up to {end}: measured")
    summary = {name: _summary(of_seeds) for name, of_seeds in cases.items()}
    rows = [_row(name, one) for name, one in summary.items()]
    figures = {
        name: {key: one[key] for key in ("theoretical", "support", "effective")} for name, one in summary.items()
    }
    return Outcome(HEADER, rows, figures, _verdict(summary), lambda figure: _draw(figure, summary), (12, 7))


def measure_stack(depth, seed, images):
    """Measure a stack of 3x3 convolutions with ReLU between them; see `measure_model`."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    side = 2 * depth + 1 + 8  # a margin, so that what is seen is no matter of the image's size
    image = x = keras.Input((side, side, 3), name="image")
    for number in range(depth):
        activation = "relu" if number < depth - 1 else None
        x = layers.Conv2D(
            STACK_FILTERS, 3, padding="same", activation=activation, kernel_initializer="he_normal", use_bias=False
        )(x)
    return measure_model(keras.Model(image, x, name="stack"), seed, images)


def measure_block(net, end, seed, images):
    """Measure a net of `tlkit nets` with random weights up to one of its blocks; see `measure_model`."""
    import keras

    from tlkit.models.backbones import build_backbone

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    backbone = build_backbone(net, weights="none", image_size=NET_SIZE)
    return measure_model(keras.Model(backbone.input, backbone.get_layer(end).output, name=net), seed, images)


def measure_model(model, seed, images):
    """Measure what the middle position of a model's output depends on.

    Args:
        model: `keras.Model` from images to a feature map, with random weights.
        seed: Seed of the images and of the channels' weights.
        images: Number of random images.

    Returns:
        Dict of `theoretical`, `support` and `effective`, sides in pixels, and `map`, the middle of the map of root mean
        square gradients as rows of numbers, the largest of them 1.
    """
    from tlkit.models.layer_table import layer_table

    gradient = _mean_square_gradient(model, np.random.default_rng(seed), images) ** 0.5
    gradient /= gradient.max()
    rows, columns = np.nonzero(gradient)
    sides = (np.ptp(rows) + 1, np.ptp(columns) + 1)
    return {
        "theoretical": int(layer_table(model).rows[-1].field[0]),
        "support": int(max(sides)),
        "effective": float((gradient >= SHARE).sum() ** 0.5),
        "map": np.round(_middle(gradient, int(rows.mean()), int(columns.mean())), 4).tolist(),
    }


def _mean_square_gradient(model, random, images):
    """Return the map `(height, width)`: float64 mean over images and channels of the squared gradient."""
    import tensorflow as tf

    total = np.zeros(model.input_shape[1:3])
    for _ in range(images):
        image = tf.constant(random.uniform(0, 255, (1, *model.input_shape[1:])), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(image)
            features = model(image, training=False)
            middle = features[0, features.shape[1] // 2, features.shape[2] // 2]
            signs = tf.constant(random.choice((-1.0, 1.0), middle.shape), tf.float32)
            value = tf.reduce_sum(middle * signs)
        gradient = np.asarray(tape.gradient(value, image), np.float64)[0]
        total += (gradient / max(np.abs(gradient).max(), 1e-300)) ** 2 @ np.full(gradient.shape[-1], 1 / images)
    return total


def _middle(gradient, row, column):
    half = MAP_SIDE // 2
    padded = np.pad(gradient, half)
    return padded[row : row + MAP_SIDE, column : column + MAP_SIDE]


def _summary(of_seeds):
    return {
        "theoretical": of_seeds[0]["theoretical"],
        "support": max(one["support"] for one in of_seeds),
        "effective": [one["effective"] for one in of_seeds],
        "map": np.mean([one["map"] for one in of_seeds], axis=0),
    }


def _row(name, one):
    net, _, end = name.partition("-")
    effective = spread(one["effective"])
    what, upto = ("3x3 convolutions", end) if net == "stack" else (net, end)
    sides = (f"{side:.1f}" for side in (effective.mean, effective.lowest, effective.highest))
    return (what, upto, one["theoretical"], one["support"], *sides, f"{effective.mean / one['theoretical']:.2f}")


def growth(summary):
    """Return the exponent with which the effective side of the stacks grows, from 5 convolutions on, for each seed."""
    deep = [depth for depth in STACKS if depth >= 5]
    sides = np.array([summary[f"stack-{depth}"]["effective"] for depth in deep])
    return np.polyfit(np.log(deep), np.log(sides), 1)[0]


def _verdict(summary):
    stacks = [summary[f"stack-{depth}"] for depth in STACKS]
    exact = all(one["support"] == one["theoretical"] == 2 * n + 1 for n, one in zip(STACKS, stacks, strict=True))
    blocks = [one for name, one in summary.items() if not name.startswith("stack")]
    reached = sum(one["support"] == one["theoretical"] for one in blocks)
    within = all(one["support"] <= one["theoretical"] for one in blocks)
    last = summary["vgg_d-block5_pool"]
    three = "three see 7 x 7, as claimed" if summary["stack-3"]["support"] == 7 else "three do not see 7 x 7"
    return (
        f"Stacks of n 3x3 convolutions have gradients in {'exactly' if exact else 'NOT exactly'} 2n + 1 pixels a side: "
        f"{three}. Of {len(blocks)} blocks {'none sees' if within else 'SOME see'} more than arithmetic allows, and "
        f"{reached} see all of it. What counts is less: the effective side of a stack grows as n to the power "
        f"{spread(growth(summary)).words(2)}, the paper's theory says 0.5 and arithmetic 1; after {STACKS[-1]} "
        f"convolutions it is {spread(stacks[-1]['effective']).words()} of {stacks[-1]['theoretical']} pixels, and of "
        f"VGG-16's {last['theoretical']} pixels it is {spread(last['effective']).words()}. "
        "Random weights, random images."
    )


def _draw(figure, summary):
    above, below = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    stacks, blocks = above.subplots(1, 2)
    sides = np.array([summary[f"stack-{depth}"]["effective"] for depth in STACKS])
    stacks.plot(STACKS, [2 * depth + 1 for depth in STACKS], "o-", color="#1f77b4", label="by arithmetic, 2n + 1")
    support = [summary[f"stack-{depth}"]["support"] for depth in STACKS]
    stacks.plot(STACKS, support, "x", color="black", markersize=8, label="any gradient")
    stacks.plot(STACKS, sides.mean(axis=1), "o-", color="#d62728", label="effective (range over seeds)")
    stacks.fill_between(STACKS, sides.min(axis=1), sides.max(axis=1), color="#d62728", alpha=0.25, lw=0)
    stacks.set(xlabel="number n of 3x3 convolutions", ylabel="side in pixels", title="Stacks of convolutions")
    stacks.legend(frameon=False)
    stacks.grid(alpha=0.25)
    names = [name for name in summary if not name.startswith("stack")]
    places = np.arange(len(names))
    blocks.bar(places - 0.2, [summary[name]["theoretical"] for name in names], 0.4, label="by arithmetic")
    spreads = [spread(summary[name]["effective"]) for name in names]
    reach = [[s.mean - s.lowest for s in spreads], [s.highest - s.mean for s in spreads]]
    blocks.bar(places + 0.2, [s.mean for s in spreads], 0.4, yerr=reach, color="#d62728", label="effective")
    blocks.set_xticks(places, [name.replace("-", "\n").removesuffix("_pool") for name in names], fontsize=7)
    blocks.set(ylabel="side in pixels", title="Blocks of nets")
    blocks.legend(frameon=False)
    shown = ("stack-3", "stack-10", "stack-40", "vgg_d-block2_pool", "vgg_d-block3_pool", "resnet18_b-conv2_2")
    for axes, name in zip(below.subplots(1, len(shown)), shown, strict=True):
        axes.imshow(summary[name]["map"], cmap="magma", vmin=0, vmax=1)
        half, middle = summary[name]["theoretical"] / 2, MAP_SIDE // 2
        corners = (middle - half, middle + half)
        axes.plot(
            *zip(*[(corners[i], corners[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))], strict=True), "w:"
        )
        axes.set(xlim=(-0.5, MAP_SIDE - 0.5), ylim=(MAP_SIDE - 0.5, -0.5), xticks=[], yticks=[])
        axes.set_title(name.replace("stack-", "convolutions: ").replace("-", "\n"), fontsize=8)
    below.suptitle(f"gradient's size, {MAP_SIDE} pixels a side; dotted: by arithmetic", fontsize=9, y=0.02, va="bottom")
