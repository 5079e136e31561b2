"""GoogLeNet: Inception modules, which look at each place with kernels of several sizes at once.

22 layers with weights one after the other: conv1, two of conv2, two in each of nine modules, the logits. No hidden
dense layers: the mean of each of 1,024 maps goes to the logits. The paper is silent about initializers and the
constants of local response normalization; these are Glorot's and AlexNet's.

Reference:
    Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke & Rabinovich 2014, https://arxiv.org/abs/1409.4842,
    table 1, figures 2 and 3, section 5.
"""

from keras import layers

from tlkit.models.nets.parts import bn_relu, classify, classify_pooled, local_response_normalization

# Table 1. Channels: of the 1x1 convolution, before the 3x3 and its own, before the 5x5 and its own, after the pooling.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
AUXILIARY_ENDS = ("inception_4a", "inception_4d")


def googlenet(image):
    """Build GoogLeNet: see `inception`."""
    return inception(image)


def googlenet_naive(image):
    """Build GoogLeNet with naive modules (figure 2a), whose pooling passes all maps on, so that they add up.

    The paper draws this to show why nobody would build it; widths are those of table 1.
    """
    return inception(image, naive=True)


def googlenet_bn(image):
    """Build GoogLeNet with BatchNorm before each ReLU, and without what that makes needless: biases, normalization.

    Reference:
        Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167, section 4.2. (Their best net also has two 3x3
        convolutions in place of each 5x5, and other widths; this is the 2014 net.)
    """
    return inception(image, batch_norm=True)


def inception(image, *, modules=None, naive=False, batch_norm=False):
    """Build a net of Inception modules at three resolutions.

    Args:
        image: KerasTensor `(batch, 224, 224, 3)`, or of other sides.
        modules: Dict from a module's name to its six widths, as `MODULES`; the first character of the name is its
            resolution, and a new one begins by halving both sides.
        naive: Whether the modules lack the 1x1 convolutions that reduce channels.
        batch_norm: Whether BatchNorm follows each convolution, in place of its bias; then nothing else normalizes.

    Returns:
        KerasTensor `(batch, 7, 7, 1024)`; with naive modules 4,944 channels.
    """
    modules = MODULES if modules is None else modules
    convolve = _convolve_bn if batch_norm else _convolve
    normalize = _leave if batch_norm else local_response_normalization
    x = convolve(image, 64, 7, "conv1", strides=2)  # 112 x 112 x 64
    x = _halve(x, "pool1")  # 56 x 56 x 64
    x = normalize(x, name="norm1")
    x = convolve(x, 64, 1, "conv2_reduce")  # 56 x 56 x 64
    x = convolve(x, 192, 3, "conv2")  # 56 x 56 x 192
    x = normalize(x, name="norm2")
    resolution = "2"
    for name, widths in modules.items():
        if name[0] != resolution:
            x = _halve(x, f"pool{resolution}")  # 28 x 28 x 192, then 14 x 14 x 480, then 7 x 7 x 832
            resolution = name[0]
        x = _naive_module(x, widths, convolve, name) if naive else _module(x, widths, convolve, name)
    return x  # 7 x 7 x 1024


def top(features, outputs):
    """Build the outputs: `(batch, 7, 7, 1024)` to a dict of logits by the name of the output."""
    return classify_pooled(features, outputs, dropout=0.4)  # 1024, 1000


def auxiliaries(model, outputs):
    """Build the two auxiliary classifiers, whose losses help the lower layers while the net trains.

    They have biases and no BatchNorm, in `googlenet_bn`, too.

    Args:
        model: `keras.Model` that contains the body.
        outputs: As for `top`.

    Returns:
        List of two dicts of logits by the name of the output, from after 4a and after 4d. The losses count
        0.3 each (section 5); once trained, nobody needs them.
    """
    return [
        _auxiliary(model.get_layer(end).output, outputs, f"auxiliary{number}")
        for number, end in enumerate(AUXILIARY_ENDS, start=1)
    ]


def _auxiliary(x, outputs, name):
    size = min(5, x.shape[1], x.shape[2])  # 5 in the paper; the maps of images below 80 pixels are smaller
    x = layers.AveragePooling2D(size, strides=3, name=f"{name}_pool")(x)  # 4 x 4 x 512, after 4d 528
    x = _convolve(x, 128, 1, f"{name}_conv")  # 4 x 4 x 128
    x = layers.Flatten(name=f"{name}_flatten")(x)  # 2048
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)  # 1024
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    logits = classify(x, {f"{name}_{output}": width for output, width in outputs.items()})  # 1000
    return {output: logits[f"{name}_{output}"] for output in outputs}


def _module(x, widths, convolve, name):
    """Build an Inception module with dimension reduction: figure 2b."""
    ones, threes_reduce, threes, fives_reduce, fives, pooled = widths
    name = f"inception_{name}"
    one = convolve(x, ones, 1, f"{name}_1x1")
    three = convolve(convolve(x, threes_reduce, 1, f"{name}_3x3_reduce"), threes, 3, f"{name}_3x3")
    five = convolve(convolve(x, fives_reduce, 1, f"{name}_5x5_reduce"), fives, 5, f"{name}_5x5")
    pool = convolve(_pool_in_place(x, name), pooled, 1, f"{name}_projection")
    return layers.Concatenate(name=name)([one, three, five, pool])


def _naive_module(x, widths, convolve, name):
    """Build an Inception module in its naive version: figure 2a."""
    ones, _, threes, _, fives, _ = widths
    name = f"inception_{name}"
    branches = [
        convolve(x, width, size, f"{name}_{size}x{size}") for width, size in ((ones, 1), (threes, 3), (fives, 5))
    ]
    return layers.Concatenate(name=name)([*branches, _pool_in_place(x, name)])


def _convolve(x, filters, kernel_size, name, strides=1):
    return layers.Conv2D(filters, kernel_size, strides, padding="same", activation="relu", name=name)(x)


def _convolve_bn(x, filters, kernel_size, name, strides=1):
    settings = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
    return bn_relu(layers.Conv2D(filters, kernel_size, strides, **settings)(x), name=name)


def _halve(x, name):
    return layers.MaxPooling2D(3, strides=2, padding="same", name=name)(x)


def _pool_in_place(x, name):
    return layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(x)


def _leave(x, name):
    return x
