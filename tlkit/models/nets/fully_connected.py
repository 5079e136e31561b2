"""The net that knows nothing of images: every unit sees every pixel.

Reference:
    Rumelhart, Hinton & Williams 1986, https://www.nature.com/articles/323533a0: layers of hidden units, trained by
    back-propagation. The widths are an exercise's, a baseline for what convolutions save.
"""

from keras import layers

from tlkit.models.nets.parts import classify


def fully_connected(image, widths=(256, 128, 64), activation="relu"):
    """Build the hidden layers, `fc1` and so on; their vectors are maps of one pixel.

    Args:
        image: KerasTensor `(batch, height, width, channels)` of any size.
        widths: Units of the hidden layers, first one first.
        activation: Of the hidden layers.

    Returns:
        KerasTensor `(batch, 1, 1, widths[-1])`.
    """
    x = layers.Reshape((1, 1, -1), name="pixels")(image)  # 1 x 1 x 4096 of 64 x 64 pixels
    for number, width in enumerate(widths, start=1):
        x = layers.Dense(width, activation=activation, kernel_initializer="he_normal", name=f"fc{number}")(x)
    return x  # 1 x 1 x 64


def top(features, outputs):
    """Build the outputs: `(batch, 1, 1, 64)` to a dict of logits by the name of the output."""
    return classify(layers.Flatten(name="flatten")(features), outputs)  # 16
