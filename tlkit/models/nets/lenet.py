"""LeNet-5, which reads digits: as it is usually drawn today, and as it was in 1998.

What stays different from 1998, also in `lenet5_1998`: the outputs are dense layers for the softmax, not distances from
fixed drawings of the characters (radial basis functions), so the loss isn't the paper's either. And training is
whatever the recipe says: the paper's second-order rates, one for each weight, made up for small first weights, with
which plain SGD at a low rate hardly leaves its first plateau; Adam does.

Reference:
    LeCun, Bottou, Bengio & Haffner 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-01a.pdf, section II.B, table I,
    appendix A.
"""

from keras import layers, ops

from tlkit.errors import TlkitError
from tlkit.models.nets.parts import classify, uniform

BACKGROUND = -0.1  # of the paper's images

# Table I: which of S2's six maps each of C3's sixteen sees. 60 pairs: three neighbours (around the end, too), four
# neighbours, two pairs of neighbours, all.
SEEN = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

SUBSAMPLINGS = ("average", "trainable", "max")
CONNECTIONS = ("full", "partial")
# How weights begin, by their units' number of inputs, and what is part of the layers that have them.
INITIALIZERS = {"tanh": lambda fan_in: "glorot_uniform", "scaled_tanh": lambda fan_in: uniform(2.4 / fan_in)}
ACTIVATIONS = {"tanh": "tanh", "scaled_tanh": None}


def lenet5(image):
    """Build LeNet-5 with every map of C3 seeing all of S2, average pooling and tanh, up to C5: see `lenet`."""
    return lenet(image)


def lenet5_1998(image):
    """Build LeNet-5 with the subsampling, connections, squashing and initialization of 1998, up to C5: see `lenet`."""
    return lenet(image, subsampling="trainable", connections="partial", squashing="scaled_tanh")


def lenet(image, subsampling="average", connections="full", squashing="tanh"):
    """Build LeNet-5 up to C5.

    Args:
        image: KerasTensor `(batch, 32, 32, 1)`, background -0.1 and ink 1.175; of 28 pixels, it gets a margin of
            background, as the paper's digits have.
        subsampling: What S2 and S4 make of 2 x 2 values: `"average"`; `"max"`; or `"trainable"`: their sum times a
            coefficient plus a bias, both learned, one of each a map, squashed.
        connections: `"full"`: each map of C3 sees all six of S2; `"partial"`: some, see `SEEN`.
        squashing: `"tanh"`, beginning with Glorot's weights; or `"scaled_tanh"`, 1.7159 tanh(2/3 x), beginning with
            weights uniform in 2.4 / fan-in, as in appendix A.

    Returns:
        KerasTensor `(batch, 1, 1, 120)`.

    Raises:
        TlkitError: If an option is unknown.
    """
    _check("subsampling", subsampling, SUBSAMPLINGS)
    _check("connections", connections, CONNECTIONS)
    _check("squashing", squashing, INITIALIZERS)
    if image.shape[1] == 28:
        image = ops.pad(image, [[0, 0], [2, 2], [2, 2], [0, 0]], constant_values=BACKGROUND)  # 32 x 32 x 1
    x = _convolve(image, 6, squashing, "c1")  # 28 x 28 x 6
    x = _subsample(x, subsampling, squashing, "s2")  # 14 x 14 x 6
    x = (_convolve if connections == "full" else _convolve_some)(x, 16, squashing, "c3")  # 10 x 10 x 16
    x = _subsample(x, subsampling, squashing, "s4")  # 5 x 5 x 16
    return _convolve(x, 120, squashing, "c5")  # 1 x 1 x 120


def top(features, outputs, squashing="tanh"):
    """Build F6 and the outputs: `(batch, 1, 1, 120)` to a dict of logits by the name of the output."""
    x = layers.Flatten(name="flatten")(features)  # 120
    x = layers.Dense(84, name="f6", **_unit(squashing, fan_in=120))(x)  # 84
    x = _squash(x, squashing, "f6")
    return classify(x, outputs, kernel_initializer=INITIALIZERS[squashing](84))  # 10


def top_1998(features, outputs):
    """Build F6, squashed as in 1998, and the outputs: see `top`."""
    return top(features, outputs, squashing="scaled_tanh")


def _convolve(x, filters, squashing, name):
    x = layers.Conv2D(filters, 5, name=name, **_unit(squashing, fan_in=25 * x.shape[-1]))(x)
    return _squash(x, squashing, name)


def _convolve_some(x, filters, squashing, name):
    """Convolve, for each of the filters, the maps that it sees."""
    maps = [x[..., number : number + 1] for number in range(x.shape[-1])]
    convolved = []
    for number, seen in zip(range(filters), SEEN, strict=True):
        some = layers.Concatenate()([maps[one] for one in seen])
        settings = _unit(squashing, fan_in=25 * len(seen))
        convolved.append(layers.Conv2D(1, 5, name=f"{name}_{number}", **settings)(some))
    return _squash(layers.Concatenate(name=name)(convolved), squashing, name)


def _subsample(x, subsampling, squashing, name):
    if subsampling == "average":
        return layers.AveragePooling2D(2, name=name)(x)
    if subsampling == "max":
        return layers.MaxPooling2D(2, name=name)(x)
    sums = 4.0 * layers.AveragePooling2D(2)(x)
    coefficients = uniform(2.4 / 4)  # a unit has four inputs
    x = layers.DepthwiseConv2D(1, activation=ACTIVATIONS[squashing], depthwise_initializer=coefficients, name=name)(
        sums
    )  # as many coefficients as maps, and biases
    return _squash(x, squashing, name)


def _unit(squashing, fan_in):
    return {"activation": ACTIVATIONS[squashing], "kernel_initializer": INITIALIZERS[squashing](fan_in)}


def _squash(x, squashing, name):
    """Squash by 1.7159 tanh(2/3 x), which leaves 1 and -1 as they are; a plain tanh is part of the layers."""
    if squashing == "tanh":
        return x
    x = layers.Activation("tanh")(layers.Rescaling(2 / 3)(x))
    return layers.Rescaling(1.7159, name=f"{name}_squashed")(x)


def _check(option, value, known):
    if value not in known:
        raise TlkitError(f"`{option}` must be one of {', '.join(known)}. Received: {value!r}.")
