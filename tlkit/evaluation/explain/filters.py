"""The filters of a net's first layer, as pictures."""

import keras
import numpy as np

from tlkit.errors import TlkitError


def first_filters(model):
    """Return the kernels of the first convolution that sees the image, as they act on RGB.

    Args:
        model: `keras.Model` that begins with an RGB image.

    Returns:
        `(name, kernels)`: the layer's name and float32 `(filters, height, width, 3)`.

    Raises:
        TlkitError: If no convolution of three channels is there.

    Reference:
        Krizhevsky et al. 2012, https://papers.nips.cc/paper/4824, figure 3.
    """
    flipped = False
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            return first_filters(operation)
        flipped ^= type(operation).__name__ == "Flip"  # nets in the manner of Caffe take blue first
        if not isinstance(operation, keras.layers.Conv2D):
            continue
        kernels = keras.ops.convert_to_numpy(operation.kernel).transpose(3, 0, 1, 2)
        if kernels.shape[-1] != 3:
            break
        return operation.name, kernels[..., ::-1] if flipped else kernels
    raise TlkitError(f"filters: {model.name} does not begin with a convolution of the image's three channels.")


def as_pictures(kernels):
    """Return kernels as pictures: each by its own largest weight, so that grey, 0.5, is a weight of 0.

    Args:
        kernels: float array `(filters, height, width, 3)`.

    Returns:
        float32 of that shape in [0, 1]; a kernel of zeros is grey.
    """
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    return (0.5 + 0.5 * kernels / np.where(largest > 0, largest, 1)).astype(np.float32)


def strongest_first(kernels):
    """Return the order of kernels by their length, float64 `(filters,)`, longest first, and the lengths in that order.

    Small kernels look like noise when each is shown by its own largest weight; in this order they come last.
    """
    lengths = np.sqrt(np.square(kernels.astype(np.float64)).sum(axis=(1, 2, 3)))
    order = np.argsort(-lengths, kind="stable")
    return order, lengths[order]


def tile(pictures, columns=None, gap=1, paper=1.0):
    """Lay pictures in rows.

    Args:
        pictures: float array `(n, height, width, 3)` in [0, 1].
        columns: Pictures in a row; None for about twice as many as rows.
        gap: Pixels between pictures, and around them.
        paper: Brightness of the gaps, in [0, 1].

    Returns:
        float32 `(rows * (height + gap) + gap, columns * (width + gap) + gap, 3)`.
    """
    count, height, width = pictures.shape[:3]
    columns = columns or max(1, round(np.sqrt(2 * count)))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), paper, np.float32)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet
