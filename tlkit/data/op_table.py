"""Ops of our own, for what albumentations has not: RandAugment, TrivialAugment, AlexNet's crop and colour noise, flips.

A builder takes an op's settings and returns `f(image, rng)`, which turns a uint8 RGB image `(height, width, 3)` into
another and draws all that is random from the generator. `OWN_OPS` names the builders for policies.
"""

from typing import NamedTuple

import cv2
import numpy as np

from tlkit.data.resize import resize

MAGNITUDES = 30  # magnitudes are whole numbers from 0, which changes nothing, to this

# Of the pixels of ImageNet's training images in [0, 1], as computed from a random subset of them:
# https://github.com/facebookarchive/fb.resnet.torch/blob/master/datasets/imagenet.lua; columns are the eigenvectors.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def random_square(image_size, share=0.875):
    """Build the op that takes a random square out of the image's middle square.

    With the default share it is AlexNet's: "rescaled the image such that the shorter side was of length 256, and then
    cropped out the central 256 x 256 patch", of which random 224 x 224 patches are trained on.

    Args:
        image_size: Side of the result in pixels.
        share: Side of the square, as a share of the image's shorter side, above 0 and at most 1.

    Reference:
        Krizhevsky, Sutskever & Hinton 2012, https://papers.nips.cc/paper/4824, sections 2 and 4.1.
    """
    if not _is_number(share) or not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1. Received: {share!r}")

    def crop(image, rng):
        height, width = image.shape[:2]
        middle = min(height, width)
        side = max(1, round(share * middle))
        down, right = rng.integers(0, middle - side, 2, endpoint=True)
        top, left = (height - middle) // 2 + down, (width - middle) // 2 + right
        return resize(image[top : top + side, left : left + side], image_size, image_size)

    return crop


def flips(horizontal=0.5, vertical=0.5):
    """Build the op that mirrors the image along each axis on its own account.

    (Of two albumentations ops in a row, seeded alike, either both or none would flip.)

    Args:
        horizontal, vertical: Probabilities of turning left into right, and top into bottom.
    """
    for name, value in (("horizontal", horizontal), ("vertical", vertical)):
        if not _is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be a number from 0 to 1. Received: {value!r}")

    def flip(image, rng):
        left_right, up_down = rng.random(2) < (horizontal, vertical)
        image = image[:, ::-1] if left_right else image
        return np.ascontiguousarray(image[::-1] if up_down else image)

    return flip


def pca_noise(std=0.1):
    """Build the op that shifts all pixels along the principal components of ImageNet's colours.

    The shift is `[p1, p2, p3] [a1 l1, a2 l2, a3 l3]`: eigenvectors p and eigenvalues l of the covariance of RGB pixels,
    a drawn anew for each view. (albumentations' FancyPCA takes the components of the one image, and scales its
    deviations from the mean instead of shifting it.)

    Args:
        std: Standard deviation of a.

    Reference:
        Krizhevsky, Sutskever & Hinton 2012, https://papers.nips.cc/paper/4824, section 4.1.
    """
    if not _is_number(std) or std < 0:
        raise ValueError(f"`std` must be a number, at least 0. Received: {std!r}")

    def shift(image, rng):
        shifts = 255 * EIGENVECTORS @ (rng.normal(0, std, 3) * EIGENVALUES)
        return _look_up(image, np.arange(256)[:, None] + shifts)

    return shift


def rand_augment(num_ops=2, magnitude=9):
    """Build the op that applies `num_ops` ops of the table, drawn with replacement, all of the same magnitude.

    Args:
        num_ops: Number of ops, at least 1.
        magnitude: Whole number from 0 to 30, where 30 is the largest of AutoAugment's ranges. (The authors' code calls
            that 10 and goes beyond it.)

    Reference:
        Cubuk et al. 2019, https://arxiv.org/abs/1909.13719, algorithm 2; ranges: Cubuk et al. 2018,
        https://arxiv.org/abs/1805.09501, table 6.
    """
    _check_whole("num_ops", num_ops, 1, 100)
    _check_whole("magnitude", magnitude, 0, MAGNITUDES)

    def augment(image, rng):
        for name in rng.choice(list(OP_TABLE), num_ops):
            image = apply_op(image, name, magnitude, wide=False, negative=rng.random() < 0.5)
        return image

    return augment


def trivial_augment():
    """Build the op that applies one op of the table, with a magnitude drawn uniformly from the wide ranges.

    Reference:
        Müller & Hutter 2021, https://arxiv.org/abs/2103.10158, algorithm 1 and the wide space of table 1.
    """

    def augment(image, rng):
        magnitude = int(rng.integers(0, MAGNITUDES, endpoint=True))
        return apply_op(image, rng.choice(list(OP_TABLE)), magnitude, wide=True, negative=rng.random() < 0.5)

    return augment


def apply_op(image, name, magnitude, *, wide, negative=False):
    """Apply one op of the table.

    Args:
        image: uint8 RGB `(height, width, 3)`.
        name: Key of `OP_TABLE`.
        magnitude: Whole number from 0 to 30.
        wide: Whether magnitude 30 is the end of TrivialAugment's wide range or of RandAugment's.
        negative: Whether ops that have two directions go the other way.

    Returns:
        uint8 RGB `(height, width, 3)`.
    """
    op = OP_TABLE[name]
    amount = (op.wide if wide else op.narrow) * magnitude / MAGNITUDES
    return op.apply(image, -amount if negative and op.signed else amount)


class TableOp(NamedTuple):
    """One op.

    Attributes:
        apply: Function of `(image, amount)`.
        narrow, wide: Largest amount for RandAugment, and for TrivialAugment.
        signed: Whether the amount may be negative, too.
    """

    apply: object
    narrow: float = 0
    wide: float = 0
    signed: bool = False


def _identity(image, _amount):
    return image


def _autocontrast(image, _amount):
    """Stretch each channel to the whole of [0, 255]."""
    table = np.empty((256, 3))
    for channel in range(3):
        low, high, _, _ = cv2.minMaxLoc(image[..., channel])
        scale = 255 / (high - low) if high > low else 1.0
        table[:, channel] = np.trunc(np.arange(256) * scale - (low * scale if high > low else 0))
    return _look_up(image, table)


def _equalize(image, _amount):
    """Make all values of each channel about equally frequent, as Pillow does."""
    table = np.empty((256, 3))
    for channel in range(3):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        below = np.concatenate([[0], counts.cumsum()[:-1]])
        table[:, channel] = (step // 2 + below) // step if step else np.arange(256)
    return _look_up(image, table)


def _solarize(image, amount):
    """Invert the brightest `amount` of the 256 values."""
    values = np.arange(256)
    return _look_up(image, np.where(values < 256 - amount, values, 255 - values))


def _posterize(image, amount):
    """Clear the lowest `amount` bits, rounded to a whole number."""
    return image & np.uint8(256 - 2 ** round(amount))


def _brightness(image, amount):
    return _look_up(image, np.arange(256) * (1 + amount))


def _contrast(image, amount):
    mean = round(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean())
    return _look_up(image, mean + (np.arange(256) - mean) * (1 + amount))


def _colour(image, amount):
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(image, 1 + amount, grey, -amount, 0)


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def _sharpness(image, amount):
    return cv2.addWeighted(image, 1 + amount, cv2.filter2D(image, -1, _SMOOTH), -amount, 0)


def _rotate(image, degrees):
    height, width = image.shape[:2]
    return _warp(image, cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0))


def _shear_x(image, amount):
    return _warp(image, np.array([[1, amount, -amount * (image.shape[0] - 1) / 2], [0, 1, 0]]))


def _shear_y(image, amount):
    return _warp(image, np.array([[1, 0, 0], [amount, 1, -amount * (image.shape[1] - 1) / 2]]))


def _translate_x(image, amount):
    return _warp(image, np.array([[1, 0, amount * image.shape[1]], [0, 1, 0]]))


def _translate_y(image, amount):
    return _warp(image, np.array([[1, 0, 0], [0, 1, amount * image.shape[0]]]))


def _warp(image, matrix):
    """Move pixels by an affine map; what comes in from outside is the image reflected, no black to learn from."""
    height, width = image.shape[:2]
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _look_up(image, table):
    """Replace each value by the table's, `(256,)` or one column per channel, rounded and clipped."""
    table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table.reshape(1, 256, -1) if table.ndim == 2 else table)


# The 14 ops of RandAugment, which TrivialAugment shares. Enhancements go from the plain image both ways, by up to 0.9
# (0.99), which are the papers' factors 0.1 to 1.9 (0.01 to 2) with the unchanged image at magnitude 0. Shears are about
# the centre. Translations are shares of the side: 150 of 331 pixels (AutoAugment's ImageNet), 32 of 224.
OP_TABLE = {
    "identity": TableOp(_identity),
    "autocontrast": TableOp(_autocontrast),
    "equalize": TableOp(_equalize),
    "rotate": TableOp(_rotate, 30, 135, signed=True),  # degrees
    "solarize": TableOp(_solarize, 256, 256),  # values
    "colour": TableOp(_colour, 0.9, 0.99, signed=True),
    "posterize": TableOp(_posterize, 4, 6),  # bits
    "contrast": TableOp(_contrast, 0.9, 0.99, signed=True),
    "brightness": TableOp(_brightness, 0.9, 0.99, signed=True),
    "sharpness": TableOp(_sharpness, 0.9, 0.99, signed=True),
    "shear_x": TableOp(_shear_x, 0.3, 0.99, signed=True),
    "shear_y": TableOp(_shear_y, 0.3, 0.99, signed=True),
    "translate_x": TableOp(_translate_x, 150 / 331, 32 / 224, signed=True),
    "translate_y": TableOp(_translate_y, 150 / 331, 32 / 224, signed=True),
}

OWN_OPS = {
    "RandomSquare": random_square,
    "Flips": flips,
    "PCANoise": pca_noise,
    "RandAugment": rand_augment,
    "TrivialAugment": trivial_augment,
}


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_whole(name, value, low, high):
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"`{name}` must be a whole number from {low} to {high}. Received: {value!r}")
