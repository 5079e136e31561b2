"""What makes a picture recognizable after it was saved anew: a hash of its coarse pattern, and a thumbnail.

A hash only proposes pairs; thumbnails decide, since different digits, scans and drawings may have the same hash.
"""

import numpy as np

SIDE = 32  # pixels of a thumbnail
BAND = 8  # frequencies along each side that the hash takes
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue in a grey copy of a picture
FLATTEST = 2.0  # grey levels: a thumbnail with a smaller standard deviation shows nothing to be recognized by

# The ways a picture may be turned: quarter turns to the left, after a mirror (left to right) or not.
TURNS = tuple((mirrored, quarters) for mirrored in (False, True) for quarters in range(4))

_ALL_PAIRS = 20_000  # images up to which every pair is compared; beyond, those that share a quarter of their bits
_ROWS = 64  # of a block of the table of all pairs
_NEIGHBOURS = 64  # images with the same quarter that one is compared with, at most
_PER_ROW = 32  # pairs of one image and turn, at most: in a set of look-alikes they prove nothing


def thumbnail(image):
    """Return a picture squashed to 32 x 32 pixels.

    Args:
        image: uint8 RGB `(height, width, 3)`.

    Returns:
        float32 `(32, 32, 3)` in [0, 255].
    """
    import cv2

    shrinks = min(image.shape[:2]) >= SIDE
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return small.astype(np.float32)


def perceptual_hash(image):
    """Return the hash of a picture's coarse pattern: the signs of the 63 lowest frequencies of its grey thumbnail.

    Saving the picture anew or in another size changes a few bits, if any. Signs, unlike comparisons with the median,
    follow a mirror or a quarter turn of the picture bit by bit (see `turned_hashes`).

    Args:
        image: uint8 RGB `(height, width, 3)`, or the `thumbnail` of one.

    Returns:
        Whole number in [1, 2**63), or 0 for a picture that shows nothing.

    Reference:
        Zauner 2010, "Implementation and benchmarking of perceptual image hash functions",
        https://www.phash.org/docs/pubs/thesis_zauner.pdf, section 3.2.1: the hash by the discrete cosine transform.
    """
    import cv2

    gray = (thumbnail(image) if image.dtype == np.uint8 else image) @ LUMA
    if gray.std() < FLATTEST:
        return 0
    signs = cv2.dct(gray)[:BAND, :BAND].ravel() > 0
    signs[0] = False  # the mean says nothing
    return max(1, sum(1 << int(bit) for bit in np.flatnonzero(signs)) >> 1)


def turned_hashes(hashes):
    """Return the hashes that pictures would have if they were turned.

    Args:
        hashes: uint64 `(n,)`.

    Returns:
        uint64 `(8, n)`, in the order of `TURNS`; 0 stays 0.
    """
    bits = (hashes[:, None] >> np.arange(BAND * BAND - 1, dtype=np.uint64)) & np.uint64(1)
    signs = np.concatenate([np.zeros((len(hashes), 1), np.uint64), bits], axis=1).reshape(-1, BAND, BAND)
    odd = np.arange(BAND, dtype=np.uint64) % 2
    turned = []
    for mirrored, quarters in TURNS:
        found = signs ^ odd[None, None, :] if mirrored else signs  # a mirror flips what is odd along the columns
        for _ in range(quarters):  # a quarter turn to the left swaps the axes and flips the rows
            found = found.transpose(0, 2, 1) ^ odd[None, :, None]
        flat = found.reshape(len(hashes), BAND * BAND)[:, 1:]
        value = (flat << np.arange(BAND * BAND - 1, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
        turned.append(np.where(hashes > 0, np.maximum(value, np.uint64(1)), np.uint64(0)))
    return np.stack(turned)


def turn(image, number):
    """Return a picture or thumbnail turned as `TURNS[number]` says."""
    mirrored, quarters = TURNS[number]
    return np.rot90(image[:, ::-1] if mirrored else image, quarters)


def close_pairs(hashes, distance, turns=(0,)):
    """Find pairs of pictures whose hashes differ in few bits.

    Up to 20,000 pictures every pair is compared; beyond, only pairs that agree in one of four quarters of their bits:
    those are all pairs at a distance up to 3, and most beyond. Of pictures that are near to very many, not all are
    named.

    Args:
        hashes: uint64 `(n,)`; pictures of hash 0 are in no pair.
        distance: Largest number of differing bits.
        turns: Numbers of `TURNS`: how the second picture of a pair may be turned.

    Returns:
        int64 `(pairs, 4)`: first picture, second (larger) picture, number of the turn, distance.
    """
    shown = np.flatnonzero(hashes)
    known = hashes[shown]
    find = _all_pairs if len(shown) <= _ALL_PAIRS else _banded_pairs
    turned = [known, *turned_hashes(known)[1:]] if set(turns) - {0} else [known]
    parts = [np.zeros((0, 4), np.int64)]
    for number in turns:
        for first, second, apart in find(known, turned[number], distance):
            columns = (shown[first], shown[second], np.full(len(first), number), apart)
            parts.append(np.stack(columns, axis=1).astype(np.int64))
    return np.unique(np.concatenate(parts), axis=0)


def _all_pairs(hashes, turned, distance):
    """Yield `(first, second, distance)` of blocks of pairs, first < second."""
    for start in range(0, len(hashes), _ROWS):
        apart = np.bitwise_count(hashes[start : start + _ROWS, None] ^ turned[None, start:])
        first, second = np.divmod(np.flatnonzero(apart <= distance), apart.shape[1])
        once = first < second
        first, second = first[once], second[once]
        if len(first) > _PER_ROW * len(apart):
            order = np.lexsort((apart[first, second], first))
            first, second = first[order], second[order]
            place = np.arange(len(first)) - np.searchsorted(first, first)
            first, second = first[place < _PER_ROW], second[place < _PER_ROW]
        yield first + start, second + start, apart[first, second]


def _banded_pairs(hashes, turned, distance):
    """Yield the same of pairs that agree in a quarter of their bits: sorted by it, they are neighbours."""
    count, itself = len(hashes), turned is hashes
    both = hashes if itself else np.concatenate([hashes, turned])
    image = np.arange(len(both)) % count
    for band in range(4):
        quarter = (both >> np.uint64(16 * band)).astype(np.uint16)
        order = np.lexsort((both, quarter))
        quarter, place = quarter[order], np.arange(len(both))
        for offset in range(1, _NEIGHBOURS + 1):
            place = place[place + offset < len(both)]
            place = place[quarter[place] == quarter[place + offset]]
            one, other = order[place], order[place + offset]
            apart = np.bitwise_count(both[one] ^ both[other])
            kept = (apart <= distance) & (image[one] != image[other])
            if not itself:
                kept &= (one < count) != (other < count)
            one, other = image[one[kept]], image[other[kept]]
            yield np.minimum(one, other), np.maximum(one, other), apart[kept]


def signatures(thumbnails):
    """Return what thumbnails are compared by, each centred and of length 1, so that products are correlations.

    Args:
        thumbnails: float32 `(n, 32, 32, 3)`.

    Returns:
        Two float32 arrays `(n, 32, 32)`: the grey picture, and its details, which is what is left of it without its
        coarse pattern.
    """
    import cv2

    grays = thumbnails @ LUMA
    coarse = np.stack([cv2.GaussianBlur(gray, (0, 0), 2.0) for gray in grays]) if len(grays) else grays
    return _units(grays), _units(grays - coarse)


def _units(pictures):
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), 1e-3)
