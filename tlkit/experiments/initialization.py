"""How large activations and gradients are through 30 layers, by how the weights began.

A dense ReLU net on normal noise; the gradient is that of the cross-entropy to random labels. Nothing is trained.
Under ReLU a layer of `n` inputs multiplies the mean square of its input by `n * variance / 2` (He et al. 2015,
https://arxiv.org/abs/1502.01852, section 2.2): 1 for He's weights, 1/2 for Glorot's.
"""

import numpy as np

from tlkit.experiments.intervals import spread
from tlkit.experiments.study import Outcome

DEPTH, WIDTH, BATCH, CLASSES = 30, 256, 256, 10
NORMAL = {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.01}}
SCHEMES = {"N(0, 0.01)": NORMAL, "Glorot": "glorot_normal", "He": "he_normal"}
COLOURS = {"N(0, 0.01)": "#7f7f7f", "Glorot": "#1f77b4", "He": "#d62728"}
DASHES = {"N(0, 0.01)": (0, (2, 6)), "Glorot": (3, (2, 6)), "He": (6, (2, 6))}  # of lines that coincide
SMALLEST = 1e-45  # below it float32 knows nothing but zero, which no logarithm shows
HEADER = (
    "weights",
    "BatchNorm",
    "std layer 1",
    f"std layer {DEPTH}",
    f"lowest std layer {DEPTH}",
    f"highest std layer {DEPTH}",
    "gradient layer 1",
    f"gradient layer {DEPTH}",
)


def measure(study):
    """Measure every scheme with every seed; return the `Outcome`."""
    found = {}
    for scheme in SCHEMES:
        for batch_norm in (False, True):
            name = f"{scheme}{' + BatchNorm' if batch_norm else ''}"
            file = f"{scheme.partition('(')[0]}{'-batch-norm' if batch_norm else ''}"
            found[name] = [
                study.measured(f"{file}-{seed}", lambda a=scheme, b=batch_norm, c=seed: measure_net(a, b, c))
                for seed in study.seeds
            ]
            study.listener.note(f"{name}: measured")
    rows = [_row(name, found[name]) for name in found]
    return Outcome(HEADER, rows, {"by_layer": found}, _verdict(found), lambda figure: _draw(figure, found))


def measure_net(scheme, batch_norm, seed):
    """Return the standard deviation of each layer's activations, and the size of each kernel's gradient.

    Args:
        scheme: One of `SCHEMES`.
        batch_norm: Whether batch normalization, with the batch's statistics, stands before each ReLU.
        seed: Seed of weights, images and labels.

    Returns:
        Dict of `activations` and `gradients`, a number for each layer; the gradients' are root mean squares.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    model = build(scheme, batch_norm)
    random = np.random.default_rng(seed)
    noise = tf.constant(random.standard_normal((BATCH, WIDTH)), tf.float32)
    labels = tf.constant(random.integers(CLASSES, size=BATCH))
    kernels = [model.get_layer(f"dense{number}").kernel.value for number in range(1, DEPTH + 1)]
    with tf.GradientTape() as tape:
        *activations, logits = model(noise, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, kernels)
    return {
        "activations": [float(np.asarray(one, np.float64).std()) for one in activations],
        "gradients": [float(np.sqrt((np.asarray(one, np.float64) ** 2).mean())) for one in gradients],
    }


def build(scheme, batch_norm):
    """Return the `keras.Model` from noise `(batch, 256)` to a list: every layer's activations, then the logits."""
    import keras
    from keras import layers

    noise = x = keras.Input((WIDTH,), name="noise")
    activations = []
    for number in range(1, DEPTH + 1):
        settings = {"kernel_initializer": SCHEMES[scheme], "use_bias": False}
        x = layers.Dense(WIDTH, name=f"dense{number}", **settings)(x)
        if batch_norm:
            x = layers.BatchNormalization(name=f"norm{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        activations.append(x)
    logits = layers.Dense(CLASSES, kernel_initializer=SCHEMES[scheme], name="logits")(x)
    return keras.Model(noise, [*activations, logits], name="deep")


def _row(name, of_seeds):
    first, last = (np.array([one["activations"][layer] for one in of_seeds]) for layer in (0, -1))
    gradients = [np.mean([one["gradients"][layer] for one in of_seeds]) for layer in (0, -1)]
    scheme, _, batch_norm = name.partition(" + ")
    numbers = (first.mean(), last.mean(), last.min(), last.max(), *gradients)
    return (scheme, "yes" if batch_norm else "no", *(f"{number:.2e}" for number in numbers))


def factor(of_seeds):
    """Return the `Spread` of what a layer multiplies the activations by: the geometric mean of the layers 2 to 30."""
    ends = [(max(one["activations"][0], SMALLEST), max(one["activations"][-1], SMALLEST)) for one in of_seeds]
    return spread([(last / first) ** (1 / (DEPTH - 1)) for first, last in ends])


def _verdict(found):
    said = []
    expected = {"N(0, 0.01)": 0.01 * (WIDTH / 2) ** 0.5, "Glorot": 0.5**0.5, "He": 1.0}
    for scheme, by in expected.items():
        measured = factor(found[scheme])
        holds = "as" if measured.low <= by <= measured.high or abs(measured.mean / by - 1) < 0.02 else "not quite as"
        said.append(
            f"{scheme} multiplies activations by {measured.words(3)} a layer, {holds} arithmetic says ({by:.3f})"
        )
    deepest, first = ({name: _mean(of, *what) for name, of in found.items()} for what in _ENDS)
    plain, normed = _ratio(deepest, ""), _ratio(deepest, " + BatchNorm")
    return (
        f"{'; '.join(said)}. After {DEPTH} layers the largest standard deviation is {plain:.1e} times the smallest, "
        f"with BatchNorm {normed:.2f} times. The first layer's gradient is {first['He']:.1e} with He's weights, "
        f"{first['Glorot']:.1e} with Glorot's, {first['N(0, 0.01)']:.1e} with N(0, 0.01), where nothing is learned; "
        f"with BatchNorm the largest of the three is {_ratio(first, ' + BatchNorm'):.1f} times the smallest. But "
        f"BatchNorm makes gradients grow towards the image, with He's weights "
        f"{first['He + BatchNorm'] / _mean(found['He + BatchNorm'], 'gradients', -1):.0f}-fold over the layers. "
        f"A dense net of {WIDTH} units a layer, before any training."
    )


_ENDS = (("activations", -1), ("gradients", 0))


def _mean(of_seeds, what, layer):
    return np.mean([one[what][layer] for one in of_seeds])


def _ratio(numbers, suffix):
    """Return how many times the smallest of the three schemes the largest is."""
    three = [numbers[f"{scheme}{suffix}"] for scheme in SCHEMES]
    return max(three) / max(min(three), SMALLEST)


def _draw(figure, found):
    for axes, what, label in zip(
        figure.subplots(1, 2),
        ("activations", "gradients"),
        ("standard deviation of the activations", "root mean square of the kernel's gradient"),
        strict=True,
    ):
        for name, of_seeds in found.items():
            scheme, _, batch_norm = name.partition(" + ")
            values = np.maximum([one[what] for one in of_seeds], SMALLEST)
            style = {"color": COLOURS[scheme], "linestyle": DASHES[scheme] if batch_norm else "-"}
            layers = range(1, DEPTH + 1)
            axes.plot(layers, np.exp(np.log(values).mean(axis=0)), label=name, **style)
            axes.fill_between(layers, values.min(axis=0), values.max(axis=0), color=COLOURS[scheme], alpha=0.2, lw=0)
        axes.set_yscale("log")
        axes.set(xlabel="layer", ylabel=label, xlim=(1, DEPTH))
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.suptitle(f"{DEPTH} dense ReLU layers of {WIDTH} units at initialization; bands: range over seeds")
