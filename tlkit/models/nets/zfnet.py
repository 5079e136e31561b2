"""ZFNet: AlexNet in one tower, with the first layers made finer after a look at what they had learned.

The paper also rescales filters of the convolutions to a length whenever they grow beyond it; that is training, and left
out here. Its normalization has no constants of its own: those of AlexNet are taken.

Reference:
    Zeiler & Fergus 2013, https://arxiv.org/abs/1311.2901, figure 3, section 3.
"""

from keras import layers

from tlkit.models.nets.parts import (
    classify_with_two_hidden,
    gaussian,
    local_response_normalization,
    overlapping_pooling,
)

INITIALIZER = gaussian(0.01)


def zfnet(image, filters=(384, 384, 256)):
    """Build ZFNet's convolutional layers.

    Args:
        image: KerasTensor `(batch, 224, 224, 3)`.
        filters: Of the last three convolutions; the paper's larger net has (512, 1024, 512).

    Returns:
        KerasTensor `(batch, 6, 6, filters[-1])`.
    """
    settings = {"activation": "relu", "kernel_initializer": INITIALIZER}
    x = layers.ZeroPadding2D(1, name="margin")(image)  # 226 x 226 x 3
    x = layers.Conv2D(96, 7, strides=2, name="conv1", **settings)(x)  # 110 x 110 x 96
    x = overlapping_pooling(x, "pool1")  # 55 x 55 x 96
    x = local_response_normalization(x, "norm1")
    x = layers.Conv2D(256, 5, strides=2, name="conv2", **settings)(x)  # 26 x 26 x 256
    x = overlapping_pooling(x, "pool2")  # 13 x 13 x 256
    x = local_response_normalization(x, "norm2")
    for number, width in enumerate(filters, start=3):
        x = layers.Conv2D(width, 3, padding="same", name=f"conv{number}", **settings)(x)  # 13 x 13 x 384, 384, 256
    return overlapping_pooling(x, "pool5")  # 6 x 6 x 256


def top(features, outputs):
    """Build the dense layers: `(batch, 6, 6, 256)` to a dict of logits by the name of the output."""
    return classify_with_two_hidden(features, outputs, initializer=INITIALIZER)  # 4096, 4096, 1000
