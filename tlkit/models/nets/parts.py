"""What several of the classic nets are made of, and Keras lacks.

Initializers are given to layers by name or as a dict: an initializer object that several layers share would give all of
them the same values.
"""

from keras import layers, ops


def gaussian(stddev):
    """Return the initializer N(0, stddev squared), as a dict that any number of layers may share."""
    return {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": stddev}}


def uniform(limit):
    """Return the initializer that is uniform in [-limit, limit], as a dict that any number of layers may share."""
    return {"class_name": "RandomUniform", "config": {"minval": -limit, "maxval": limit}}


def classify(x, outputs, **settings):
    """End in one dense layer per output, called `<name>_logits`.

    Args:
        x: KerasTensor `(batch, width)`.
        outputs: Dict of output's name to number of logits.
        **settings: Of every layer, such as its initializer.

    Returns:
        Dict of output's name to KerasTensor of logits.
    """
    return {name: layers.Dense(width, name=f"{name}_logits", **settings)(x) for name, width in outputs.items()}


def classify_pooled(features, outputs, *, dropout=0.0, **settings):
    """End as most nets have since 2014: every map's mean, dropout where wanted, and the logits.

    Args:
        features: KerasTensor `(batch, height, width, channels)`.
        outputs: Dict of output's name to number of logits.
        dropout: Fraction in [0, 1) of the means that drops out.
        **settings: Of every layer of logits, such as its initializer.

    Returns:
        Dict of output's name to KerasTensor of logits.
    """
    x = layers.GlobalAveragePooling2D(name="avg_pool")(features)
    if dropout:
        x = layers.Dropout(dropout, name="avg_pool_dropout")(x)
    return classify(x, outputs, **settings)


def classify_with_two_hidden(features, outputs, *, width=4096, dropout=0.5, initializer, hidden_bias="zeros"):
    """End as AlexNet and its heirs do: two wide hidden layers, half of whose units drop out, and the logits.

    Args:
        features: KerasTensor `(batch, height, width, channels)`.
        outputs: Dict of output's name to number of logits.
        width: Units of each hidden layer.
        dropout: Fraction in [0, 1) of each hidden layer's units that drops out.
        initializer: Of all kernels, as a name or a dict.
        hidden_bias: How the biases of the hidden layers begin; those of the logits begin at zero.

    Returns:
        Dict of output's name to KerasTensor of logits.
    """
    hidden = {"activation": "relu", "kernel_initializer": initializer, "bias_initializer": hidden_bias}
    x = layers.Flatten(name="flatten")(features)
    for name in ("fc6", "fc7"):
        x = layers.Dense(width, name=name, **hidden)(x)
        x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return classify(x, outputs, kernel_initializer=initializer)


def overlapping_pooling(x, name):
    """Take the largest of 3x3 values, two apart: windows overlap, and the last row and column are never left out.

    Where a side is even, the last window has but two rows or columns: 110 becomes 55, as 111 does.

    Args:
        x: KerasTensor `(batch, height, width, channels)` of a square map.
        name: Of the layer.

    Returns:
        KerasTensor with half the side, rounded down.

    Reference:
        Krizhevsky, Sutskever & Hinton 2012,
        https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html, section 3.4.
    """
    return layers.MaxPooling2D(3, strides=2, padding="valid" if x.shape[1] % 2 else "same", name=name)(x)


def grouped_convolution(x, filters, kernel_size, groups, name, **settings):
    """Convolve each of several equal groups of channels by itself, and put the results next to each other.

    On a CPU, that trains many times faster than `Conv2D(groups=...)`: about a hundred times with 32 groups of 1,024,
    512 or 128 channels on maps of 7, 14 or 56 pixels.

    Args:
        x: KerasTensor `(batch, height, width, channels)`; `groups` divides the channels.
        filters: Of all groups together.
        kernel_size: Side in pixels.
        groups: Their number; 1 gives an ordinary convolution.
        name: Of the result; the groups' layers are called `<name>_1` and so on.
        **settings: Of every convolution; initializers as names or dicts.

    Returns:
        KerasTensor `(batch, height, width, filters)`.
    """
    if groups == 1:
        return layers.Conv2D(filters, kernel_size, name=name, **settings)(x)
    convolved = [
        layers.Conv2D(filters // groups, kernel_size, name=f"{name}_{number}", **settings)(part)
        for number, part in enumerate(channel_groups(x, groups), start=1)
    ]
    return layers.Concatenate(name=name)(convolved)


def channel_groups(x, groups):
    """Return the list of the equal groups of channels that a map consists of."""
    return ops.split(x, groups, axis=-1)  # slices would fill a whole map of zeros each on the way back


def local_response_normalization(x, name, *, neighbours=5, k=2.0, alpha=1e-4, beta=0.75):
    """Divide every value by a power of how strong the neighbouring channels are at the same place.

        b_i = a_i / (k + alpha * sum of a_j squared, |j - i| <= neighbours // 2) ^ beta

    `alpha` multiplies the sum, as in the paper and in `tf.nn.local_response_normalization`. Caffe's and PyTorch's
    alpha is divided by `neighbours` first: theirs would have to be 5e-4 for the same result.

    The sum is a mean of a window that moves along the channels, so these come last but one for it.

    Args:
        x: KerasTensor `(batch, height, width, channels)`.
        name: Of the layer that gives the result.
        neighbours: Channels in the sum, the value's own among them: odd. At the ends there are fewer.
        k, alpha, beta: The paper's constants.

    Returns:
        KerasTensor of the same shape.

    Reference:
        Krizhevsky, Sutskever & Hinton 2012,
        https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html, section 3.3.
    """
    _, height, width, channels = x.shape
    margin = neighbours // 2
    squares = ops.transpose(ops.reshape(ops.square(x), (-1, height * width, channels)), (0, 2, 1))
    squares = ops.pad(squares, [[0, 0], [margin, margin], [0, 0]])
    means = layers.AveragePooling1D(neighbours, strides=1)(squares)
    means = ops.reshape(ops.transpose(means, (0, 2, 1)), (-1, height, width, channels))
    return layers.Multiply(name=name)([x, ops.power(k + alpha * neighbours * means, -beta)])


def maxout(x, width, pieces, name, **settings):
    """Build units that put out the largest of several linear functions of their inputs, each with weights of its own.

    No net here has it in its paper; it is for heads and nets of your own.

    Args:
        x: KerasTensor `(batch, ..., channels)`; on a feature map, every position is an input of its own.
        width: Number of units.
        pieces: Linear functions of each.
        name: Of the dense layer that computes them all.
        **settings: Of that layer.

    Returns:
        KerasTensor `(batch, ..., width)`.

    Reference:
        Goodfellow et al. 2013, https://arxiv.org/abs/1302.4389, section 3.
    """
    linear = layers.Dense(width * pieces, name=name, **settings)(x)
    return ops.max(ops.reshape(linear, (-1, *linear.shape[1:-1], width, pieces)), axis=-1)


def convolve(x, filters, kernel_size, strides=1, *, groups=1, name=None):
    """Convolve as the residual nets and their heirs do: without biases, He's initializer, zeros all around.

    Half a kernel of zeros on each side puts the outputs of stride 2 on the pixels 0, 2, 4, as a shortcut does that
    takes every other pixel; `padding="same"` would put them on 1, 3, 5.

    Args:
        x: KerasTensor `(batch, height, width, channels)`.
        filters: Channels of the result.
        kernel_size: Side in pixels, odd.
        strides: In pixels.
        groups: See `grouped_convolution`.
        name: Of the result.

    Returns:
        KerasTensor of sides divided by `strides`, rounded up.
    """
    padding = "same"
    if strides > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2)(x)
        padding = "valid"
    settings = {"strides": strides, "padding": padding, "use_bias": False, "kernel_initializer": "he_normal"}
    if groups == 1:
        return layers.Conv2D(filters, kernel_size, name=name, **settings)(x)
    return grouped_convolution(x, filters, kernel_size, groups, name, **settings)


def batch_norm(x, name=None):
    """Normalize every channel over the batch: four values a channel, of which scale and offset train.

    Momentum and epsilon are what Torch has, in which the residual nets' authors published theirs.

    Reference:
        Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167.
    """
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def bn_relu(x, name=None):
    """Normalize over the batch, then keep what is above zero; `name` is the ReLU's."""
    return layers.ReLU(name=name)(batch_norm(x))


def residual_stem(image, filters=64):
    """Build the first layers of the residual nets and their heirs for ImageNet, which divide both sides by four."""
    x = bn_relu(convolve(image, filters, 7, strides=2, name="conv1_conv"), name="conv1")  # 112 x 112 x filters
    x = layers.ZeroPadding2D(1)(x)  # nothing is below zero here
    return layers.MaxPooling2D(3, strides=2, name="pool1")(x)  # 56 x 56 x filters
