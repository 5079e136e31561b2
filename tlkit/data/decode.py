"""One decoder for every path: bytes of an image file to RGB pixels.

The index, the pipeline and prediction all come through here, so a picture has the same pixels everywhere.
"""

import os
from typing import NamedTuple

import cv2
import numpy as np

from tlkit.data.files import LARGE_PIXELS, in_turn
from tlkit.data.headers import DecodeError, plain_png, read_header
from tlkit.data.perceptual import SIDE, perceptual_hash

cv2.setNumThreads(0)  # images are decoded in parallel; threads inside one image would only fight with those
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged files are reported by us, once

BAND = 2**22  # pixels that are laid on white at a time: it takes ten times as many bytes as they have
PIXELS = 2  # raise it when the same bytes give other pixels

# How far JPEG's own arithmetic can reduce both sides, to the flag for it; as "grayscale", to be joined with RGB order.
REDUCED = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
}

# EXIF orientation to the step that sets an image upright (a mirror is undone before a rotation).
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
}


class Check(NamedTuple):
    """The verdict on one file; what is unknown of it is 0 or empty.

    Attributes:
        problem: None if its image can be used.
        width, height: Stored sides in pixels, before any rotation.
        format: As `tlkit.data.headers.Header` says.
        orientation: EXIF orientation, 1 (upright) to 8.
        pattern: `tlkit.data.perceptual.perceptual_hash` of the picture.
    """

    problem: str | None
    width: int = 0
    height: int = 0
    format: str = ""
    orientation: int = 0
    pattern: int = 0


def decode(data, at_least=None):
    """Decode an image file to RGB pixels.

    JPEG (also CMYK, progressive), PNG (also 16-bit, palette), WebP, BMP, TIFF, GIF (first frame). EXIF orientation is
    applied, transparency is composited on white, 16 bits are reduced to 8, grayscale is repeated over the channels.

    Args:
        data: The bytes of the file.
        at_least: Pixels, at least 1, that suffice for the shorter side: a JPEG is decoded at the smallest of 1/2, 1/4
            and 1/8 of its size that leaves as many, which is faster. None for the whole size, as in all other formats.

    Returns:
        uint8 array `(height, width, 3)`, RGB, C-contiguous.

    Raises:
        DecodeError: If the bytes are empty, truncated, damaged, too large or no image.
    """
    header = read_header(data)
    with in_turn(header.width * header.height > LARGE_PIXELS):
        if header.alpha:
            return _composite(_imdecode(data, header, cv2.IMREAD_UNCHANGED), header)
        return _imdecode(data, header, cv2.IMREAD_COLOR_RGB | _reduction(header, at_least))


def check(data):
    """Say whether an image file can be used, as cheaply as is certain.

    Args:
        data: The bytes of the file.

    Returns:
        `Check`.
    """
    try:
        header = read_header(data)
        # A reduced JPEG still has every bit of it decoded, and leaves out most of the arithmetic.
        image = decode(data, at_least=SIDE)
    except DecodeError as error:
        return Check(str(error))
    return Check(None, header.width, header.height, header.format, header.orientation, perceptual_hash(image))


def _reduction(header, at_least):
    if header.format != "JPEG" or at_least is None:
        return 0
    shorter = min(header.width, header.height)
    return next((flag for factor, flag in REDUCED.items() if shorter // factor >= at_least), 0)


def _imdecode(data, header, flags):
    if header.format == "PNG":
        data = plain_png(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise DecodeError(f"damaged, or a variant of {header.format} that isn't supported: it can't be decoded")
    return image


def _composite(image, header):
    """Lay the decoder's BGRA picture on white, upright."""
    if image.dtype not in (np.uint8, np.uint16):
        raise DecodeError(f"{header.format} of {image.dtype} values, which isn't supported: save it with 8 or 16 bits")
    rgb = np.empty((*image.shape[:2], 3), np.uint8)
    rows = max(1, BAND // image.shape[1])
    for top in range(0, len(image), rows):
        rgb[top : top + rows] = _on_white(image[top : top + rows], header)
    return np.ascontiguousarray(UPRIGHT[header.orientation](rgb))


def _on_white(image, header):
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    rgb = image[..., 2::-1].astype(np.uint16)
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.uint16)
        # The TIFF decoder hands out colours that are already multiplied by alpha.
        colored = rgb if header.format == "TIFF" else (rgb * alpha + 127) // 255
        rgb = np.minimum(colored + (255 - alpha), 255)
    return rgb.astype(np.uint8)
