"""Inception-v4, without shortcuts: a stem and three kinds of modules, with reductions between them.

BatchNorm and ReLU follow each convolution, which has no biases. The paper is silent about initializers and about
BatchNorm's scale; these are He's, and it has one.

Reference:
    Szegedy, Ioffe, Vanhoucke & Alemi 2016, https://arxiv.org/abs/1602.07261, figures 3 to 9, table 1.
"""

from keras import layers

from tlkit.models.nets.parts import bn_relu, classify_pooled


def inception_v4(image):
    """Build Inception-v4: see `inception`."""
    return inception(image)


def inception(image, counts=(4, 7, 3)):
    """Build the stem and the modules: figure 9.

    Args:
        image: KerasTensor `(batch, 299, 299, 3)`, or of other sides, at least 75.
        counts: Number of modules of kind A, B and C.

    Returns:
        KerasTensor `(batch, 8, 8, 1536)`.
    """
    x = _stem(image)  # 35 x 35 x 384
    for number in range(1, counts[0] + 1):
        x = _module_a(x, f"inception_a{number}")  # 35 x 35 x 384
    x = _reduction_a(x)  # 17 x 17 x 1024
    for number in range(1, counts[1] + 1):
        x = _module_b(x, f"inception_b{number}")  # 17 x 17 x 1024
    x = _reduction_b(x)  # 8 x 8 x 1536
    for number in range(1, counts[2] + 1):
        x = _module_c(x, f"inception_c{number}")  # 8 x 8 x 1536
    return x


def top(features, outputs):
    """Build the outputs: `(batch, 8, 8, 1536)` to a dict of logits by the name of the output."""
    return classify_pooled(features, outputs, dropout=0.2, kernel_initializer="he_normal")  # 1536, 1000


def _convolve(x, filters, *kernel_size, strides=1, padding="same"):
    """Convolve with a kernel of sides `kernel_size`, one for both or height and width, then BatchNorm and ReLU."""
    settings = {"use_bias": False, "kernel_initializer": "he_normal"}
    return bn_relu(layers.Conv2D(filters, kernel_size * (2 // len(kernel_size)), strides, padding, **settings)(x))


def _halve(x):
    return layers.MaxPooling2D(3, strides=2)(x)


def _smooth(x):
    return layers.AveragePooling2D(3, strides=1, padding="same")(x)


def _stem(image):
    """Figure 3: from 299 x 299 x 3 to 35 x 35 x 384."""
    x = _convolve(image, 32, 3, strides=2, padding="valid")  # 149 x 149 x 32
    x = _convolve(x, 32, 3, padding="valid")  # 147 x 147 x 32
    x = _convolve(x, 64, 3)  # 147 x 147 x 64
    halved = _convolve(x, 96, 3, strides=2, padding="valid")
    x = layers.Concatenate(name="stem1")([_halve(x), halved])  # 73 x 73 x 160
    short = _convolve(_convolve(x, 64, 1), 96, 3, padding="valid")
    long = _convolve(_convolve(_convolve(x, 64, 1), 64, 7, 1), 64, 1, 7)
    long = _convolve(long, 96, 3, padding="valid")
    x = layers.Concatenate(name="stem2")([short, long])  # 71 x 71 x 192
    halved = _convolve(x, 192, 3, strides=2, padding="valid")
    return layers.Concatenate(name="stem")([halved, _halve(x)])  # 35 x 35 x 384


def _module_a(x, name):
    """Figure 4: 35 x 35 x 384."""
    pooled = _convolve(_smooth(x), 96, 1)
    one = _convolve(x, 96, 1)
    three = _convolve(_convolve(x, 64, 1), 96, 3)
    five = _convolve(_convolve(_convolve(x, 64, 1), 96, 3), 96, 3)
    return layers.Concatenate(name=name)([pooled, one, three, five])


def _reduction_a(x):
    """Figure 7 with table 1's k, l, m, n of 192, 224, 256, 384: to 17 x 17 x 1024."""
    three = _convolve(x, 384, 3, strides=2, padding="valid")
    five = _convolve(_convolve(_convolve(x, 192, 1), 224, 3), 256, 3, strides=2, padding="valid")
    return layers.Concatenate(name="reduction_a")([_halve(x), three, five])


def _module_b(x, name):
    """Figure 5: 17 x 17 x 1024. Its third branch is 1x7 and 7x1, as in the authors' code."""
    pooled = _convolve(_smooth(x), 128, 1)
    one = _convolve(x, 384, 1)
    seven = _convolve(_convolve(_convolve(x, 192, 1), 224, 1, 7), 256, 7, 1)
    thirteen = _convolve(_convolve(_convolve(x, 192, 1), 192, 1, 7), 224, 7, 1)
    thirteen = _convolve(_convolve(thirteen, 224, 1, 7), 256, 7, 1)
    return layers.Concatenate(name=name)([pooled, one, seven, thirteen])


def _reduction_b(x):
    """Figure 8: to 8 x 8 x 1536."""
    three = _convolve(_convolve(x, 192, 1), 192, 3, strides=2, padding="valid")
    nine = _convolve(_convolve(_convolve(x, 256, 1), 256, 1, 7), 320, 7, 1)
    nine = _convolve(nine, 320, 3, strides=2, padding="valid")
    return layers.Concatenate(name="reduction_b")([_halve(x), three, nine])


def _module_c(x, name):
    """Figure 6: 8 x 8 x 1536."""
    pooled = _convolve(_smooth(x), 256, 1)
    one = _convolve(x, 256, 1)
    three = _convolve(x, 384, 1)
    five = _convolve(_convolve(_convolve(x, 384, 1), 448, 1, 3), 512, 3, 1)
    wide_and_high = [_convolve(branch, 256, *size) for branch in (three, five) for size in ((1, 3), (3, 1))]
    return layers.Concatenate(name=name)([pooled, one, *wide_and_high])
