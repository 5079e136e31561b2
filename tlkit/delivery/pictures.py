"""The pictures of a report: small JPEGs inside the page, of images that still are what the run was made from."""

import base64
import hashlib
from pathlib import Path

import numpy as np

from tlkit.data.arrays import as_rgb, list_npz
from tlkit.data.resize import resize
from tlkit.errors import DataError

THUMBNAIL = 168  # pixels of the longer side
QUALITY = 80  # of JPEG


class Pictures:
    """Reads images of a run by their names.

    Args:
        folder: The run's `tlkit.delivery.folder.Folder`.
        data: Its `tlkit.data.index.Data`, where the process has it: images that are arrays can be seen only then.

    Attributes:
        missing: Number of images of the run that were asked for and can't be shown.
    """

    def __init__(self, folder, data=None):
        self._folder = folder
        self._arrays, self._position, self._root = None, {}, None
        self.missing = 0
        source = Path(folder.data.get("source", ""))
        if data is not None and data.images is not None:
            self._arrays, self._position = data.images, {path: i for i, path in enumerate(data.paths)}
        elif source.suffix.lower() == ".npz" and source.is_file():
            self._open_npz(source)
        elif source.is_absolute():
            self._root = source if source.is_dir() else source.parent

    def _open_npz(self, source):
        try:
            listing = list_npz(source, self._folder.data["kinds"])
        except DataError:
            return
        self._arrays, self._position = listing.images, {path: i for i, path in enumerate(listing.paths)}

    def read(self, path, at_least=None):
        """Return an image as uint8 RGB `(height, width, 3)`, or None where it has gone, changed or can't be decoded.

        Args:
            path: Its name in the run.
            at_least: As for `tlkit.data.decode.decode`.
        """
        image = self._read(path, at_least)
        self.missing += image is None and path in self._folder.sha256
        return image

    def _read(self, path, at_least):
        from tlkit.data.decode import DecodeError, decode
        from tlkit.data.files import read_file

        if self._arrays is not None:
            return as_rgb(np.asarray(self._arrays[self._position[path]])) if path in self._position else None
        if self._root is None:
            return None
        try:
            content = read_file(self._root / path)
            if hashlib.sha256(content).hexdigest() != self._folder.sha256.get(path):
                return None  # whoever made the run has to know a file to have it shown
            return decode(content, at_least)
        except (OSError, ValueError, DecodeError):
            return None

    def thumbnail(self, path):
        """Return a data URI of a small picture, or None as `read` does."""
        image = self.read(path, at_least=THUMBNAIL)
        return None if image is None else as_uri(image)


def as_uri(image, side=THUMBNAIL):
    """Return an image as a JPEG in a data URI, its longer side at most `side` pixels.

    Args:
        image: uint8 RGB `(height, width, 3)`.
        side: Pixels.
    """
    import cv2

    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        image = resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
    content = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def overlay(image, heat):
    """Lay a map over an image: unheated parts grow grey and dim, heated ones keep their colours and glow.

    Args:
        image: uint8 RGB `(height, width, 3)`.
        heat: float `(height, width)` in [0, 1].

    Returns:
        uint8 RGB `(height, width, 3)`.
    """
    import cv2

    heat = np.clip(heat, 0, 1)
    colours = cv2.applyColorMap(np.uint8(255 * heat), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = (0.25 + 0.4 * heat)[..., None]
    return np.uint8(np.clip((1 - share) * image + share * colours, 0, 255))


def matrix_uri(shares):
    """Return a confusion matrix as a PNG in a data URI, a few pixels a cell, transparent where nothing is.

    Args:
        shares: float `(classes, classes)` in [0, 1]: of each true class, the share that each class was predicted for.
    """
    import cv2

    pixels = np.zeros((*shares.shape, 4), np.uint8)
    right = np.eye(len(shares), dtype=bool)
    pixels[..., :3] = np.where(right[..., None], (200, 110, 40), (30, 90, 220))  # blue and orange, in OpenCV's order
    pixels[..., 3] = np.where(shares > 0, 55 + 200 * np.sqrt(shares), 0)
    cell = max(1, 480 // len(shares))
    pixels = pixels.repeat(cell, axis=0).repeat(cell, axis=1)
    content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return "data:image/png;base64," + base64.b64encode(content.tobytes()).decode()
