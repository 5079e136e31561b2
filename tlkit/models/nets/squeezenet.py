"""SqueezeNet 1.1: AlexNet's accuracy with a fiftieth of its parameters.

Version 1.1 is the authors' own, after the paper: a smaller first convolution and earlier pooling.

Reference:
    Iandola et al. 2016, https://arxiv.org/abs/1602.07360, sections 3.2 and 3.3; version 1.1:
    https://github.com/forresti/SqueezeNet/tree/master/SqueezeNet_v1.1
"""

from keras import layers

from tlkit.models.nets.parts import gaussian, overlapping_pooling

CONVOLUTION = {"activation": "relu", "kernel_initializer": "lecun_uniform"}  # that is Caffe's "xavier"


def squeezenet1_1(image):
    """Build SqueezeNet 1.1 up to its last fire module.

    Args:
        image: KerasTensor `(batch, 224, 224, 3)`, the paper's size; the authors' files train on 227 pixels.

    Returns:
        KerasTensor `(batch, 13, 13, 512)`.
    """
    x = layers.Conv2D(64, 3, strides=2, name="conv1", **CONVOLUTION)(image)  # 111 x 111 x 64
    x = overlapping_pooling(x, "pool1")  # 55 x 55 x 64
    x = fire(x, 16, 64, "fire2")  # 55 x 55 x 128
    x = fire(x, 16, 64, "fire3")
    x = overlapping_pooling(x, "pool3")  # 27 x 27 x 128
    x = fire(x, 32, 128, "fire4")  # 27 x 27 x 256
    x = fire(x, 32, 128, "fire5")
    x = overlapping_pooling(x, "pool5")  # 13 x 13 x 256
    x = fire(x, 48, 192, "fire6")  # 13 x 13 x 384
    x = fire(x, 48, 192, "fire7")
    x = fire(x, 64, 256, "fire8")  # 13 x 13 x 512
    return fire(x, 64, 256, "fire9")


def fire(x, squeezed, expanded, name):
    """Build a fire module: a 1x1 convolution to few maps, then 1x1 and 3x3 convolutions side by side.

    Args:
        x: KerasTensor `(batch, height, width, channels)`.
        squeezed: Maps between.
        expanded: Maps of each of the two convolutions at the end.
        name: Of the result.

    Returns:
        KerasTensor `(batch, height, width, 2 * expanded)`.
    """
    x = layers.Conv2D(squeezed, 1, name=f"{name}_squeeze", **CONVOLUTION)(x)
    small = layers.Conv2D(expanded, 1, name=f"{name}_expand1x1", **CONVOLUTION)(x)
    large = layers.Conv2D(expanded, 3, padding="same", name=f"{name}_expand3x3", **CONVOLUTION)(x)
    return layers.Concatenate(name=name)([small, large])


def top(features, outputs):
    """Build dropout, a 1x1 convolution per output and the average of its maps, which are the logits.

    As in the original, a ReLU follows that convolution: logits are never negative. That is fine for a softmax; for
    numbers, or several labels an image, take another head.
    """
    x = layers.Dropout(0.5, name="fire9_dropout")(features)
    settings = {"activation": "relu", "kernel_initializer": gaussian(0.01)}
    maps = {name: layers.Conv2D(width, 1, name=f"{name}_conv10", **settings)(x) for name, width in outputs.items()}
    return {name: layers.GlobalAveragePooling2D(name=f"{name}_logits")(x) for name, x in maps.items()}  # 1000
