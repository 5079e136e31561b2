"""AlexNet, in two towers as it was trained on two GPUs, and in one.

Order within a layer as in the paper: convolution, ReLU, normalization, pooling. (Caffe's widespread single-tower model
pools before it normalizes.)

Reference:
    Krizhevsky, Sutskever & Hinton 2012,
    https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html, sections 3 to 5, figure 2.
"""

from keras import layers

from tlkit.models.nets.parts import (
    channel_groups,
    classify_with_two_hidden,
    gaussian,
    grouped_convolution,
    local_response_normalization,
    overlapping_pooling,
)

INITIALIZER = gaussian(0.01)


def alexnet(image):
    """Build AlexNet in one tower, in which every map sees all maps below: see `towers`."""
    return towers(image, number=1)


def alexnet_two_towers(image):
    """Build AlexNet as in the paper: the towers know of each other at conv3 and the dense layers only: see `towers`."""
    return towers(image, number=2)


def towers(image, number):
    """Build AlexNet's convolutional layers in as many towers as wanted.

    Args:
        image: KerasTensor `(batch, 227, 227, 3)`: the size that the paper's own numbers need. Of 224 pixels, as its
            text says, it gets the three that are missing as a margin of zeros. Other sizes are taken as they are.
        number: Of towers, each with its share of the maps. Normalization does not cross from one to the other.

    Returns:
        KerasTensor `(batch, 6, 6, 256)`.
    """
    if image.shape[1] == 224:
        image = layers.ZeroPadding2D(((1, 2), (1, 2)), name="margin")(image)  # 227 x 227 x 3
    x = _convolve(image, 96, 11, 1, "conv1", strides=4)  # 55 x 55 x 96
    x = _normalize(x, number, "norm1")
    x = overlapping_pooling(x, "pool1")  # 27 x 27 x 96
    x = _convolve(x, 256, 5, number, "conv2", padding="same", bias_initializer="ones")  # 27 x 27 x 256
    x = _normalize(x, number, "norm2")
    x = overlapping_pooling(x, "pool2")  # 13 x 13 x 256
    x = _convolve(x, 384, 3, 1, "conv3", padding="same")  # 13 x 13 x 384
    x = _convolve(x, 384, 3, number, "conv4", padding="same", bias_initializer="ones")  # 13 x 13 x 384
    x = _convolve(x, 256, 3, number, "conv5", padding="same", bias_initializer="ones")  # 13 x 13 x 256
    return overlapping_pooling(x, "pool5")  # 6 x 6 x 256


def top(features, outputs):
    """Build the dense layers: `(batch, 6, 6, 256)` to a dict of logits by the name of the output."""
    return classify_with_two_hidden(features, outputs, initializer=INITIALIZER, hidden_bias="ones")  # 4096, 4096, 1000


def _convolve(x, filters, kernel_size, groups, name, **settings):
    settings |= {"activation": "relu", "kernel_initializer": INITIALIZER}
    return grouped_convolution(x, filters, kernel_size, groups, name, **settings)


def _normalize(x, groups, name):
    if groups == 1:
        return local_response_normalization(x, name)
    parts = enumerate(channel_groups(x, groups), start=1)
    return layers.Concatenate(name=name)([local_response_normalization(part, f"{name}_{one}") for one, part in parts])
