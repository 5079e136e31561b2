"""Copies of one picture in several files: saved anew, or in another size. What is called one here is one for certain.

A picture that is only alike must never be taken for a copy: different digits, scans and pictures of one thing in two
colours are the measure of it. So `tlkit audit`, which only names what it finds, looks further.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tlkit.data.files import read_file
from tlkit.run import usable_cpus

DISTANCE = 3  # bits of the hash that saving anew may change
# Measured: of 341, 396 and 364 photos, saved anew at quality 40 or at three quarters of their sides and quality 75, at
# least 98 % are above these; of the 1.8 billion pairs of 60,000 handwritten digits none comes nearer than 0.9945 and
# 0.987, of digits of 8 x 8 pixels than 0.991 and 0.971.
LEAST_ALIKE, LEAST_DETAIL = 0.997, 0.99  # correlation of the grey thumbnails, and of their details
MOST_COLOUR = 8.0  # levels of 255 between the thumbnails, in the mean
MOST_PAIRS = 200_000  # that are looked at, the nearest first
CHUNK = 2048  # pairs that are compared at a time


def copies_among(hashes, read, contents):
    """Find pictures that were saved anew or in another size.

    Args:
        hashes: uint64 `(n,)`: `tlkit.data.perceptual.perceptual_hash` of each picture.
        read: Function from a picture's position to its `tlkit.data.perceptual.thumbnail`; called in threads.
        contents: One key per picture; those with equal ones are known to be the same and are not compared.

    Returns:
        List of `(first, second)` positions, first < second, in order.
    """
    from tlkit.data.perceptual import close_pairs, signatures

    pairs = close_pairs(np.asarray(hashes, np.uint64), DISTANCE)
    contents = np.asarray(contents)
    pairs = pairs[contents[pairs[:, 0]] != contents[pairs[:, 1]]]
    pairs = pairs[np.argsort(pairs[:, 3], kind="stable")][:MOST_PAIRS]
    if not len(pairs):
        return []
    images = np.unique(pairs[:, :2])
    with ThreadPoolExecutor(min(32, usable_cpus())) as pool:
        thumbnails = np.stack(list(pool.map(read, images.tolist())))
    alike, details = signatures(thumbnails)
    kept = []
    for start in range(0, len(pairs), CHUNK):
        first, second = np.searchsorted(images, pairs[start : start + CHUNK, :2]).T
        same = (alike[first] * alike[second]).sum(axis=(1, 2)) >= LEAST_ALIKE
        same &= (details[first] * details[second]).sum(axis=(1, 2)) >= LEAST_DETAIL
        same &= np.abs(thumbnails[first] - thumbnails[second]).mean(axis=(1, 2, 3)) <= MOST_COLOUR
        kept += pairs[start : start + CHUNK][same, :2].tolist()
    return sorted(map(tuple, kept))


def read_thumbnail(path):
    """Return the thumbnail of an image file, of zeros if it has gone or changed to no image meanwhile."""
    from tlkit.data.decode import DecodeError, decode
    from tlkit.data.perceptual import SIDE, thumbnail

    try:
        return thumbnail(decode(read_file(path), at_least=SIDE))
    except (OSError, DecodeError):
        return np.zeros((SIDE, SIDE, 3), np.float32)
