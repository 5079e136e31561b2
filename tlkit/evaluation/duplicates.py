"""Copies of pictures: saved anew, resized, mirrored, turned, in other colours, cropped.

Hashes and neighbours in feature space only propose pairs. What decides is the pictures themselves: their thumbnails,
held against how alike the pictures of the set are anyway; or a part of one that lies on a part of the other.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from tlkit.data.copies import MOST_COLOUR
from tlkit.data.perceptual import SIDE, TURNS, close_pairs, signatures, thumbnail, turn, turned_hashes
from tlkit.data.splits import tied
from tlkit.evaluation import registration
from tlkit.run import usable_cpus

DISTANCE, FAR = 6, 16  # bits of two hashes; of those of neighbours in feature space
NEAREST, LEAST_SIMILARITY = 3, 0.5  # neighbours of each image that are looked at, and the cosine from which on they are
MOST_PAIRS = 500_000  # whose thumbnails are compared, those of the nearest hashes first
MOST_REGISTERED = 1000  # pairs laid on each other, the nearest first: some 50 ms each, and 0.1 MB for each image
FLOORS = (0.95, 0.9)  # least correlation of the grey thumbnails and of their details, however different the set is
# A copy leaves at most this share of the difference that an image's fifth-nearest picture leaves, in one of 100 cases.
SHARE, FIFTH, QUANTILE = 0.2, 5, 0.99
SAMPLE = 1000  # images that stand for all
CHUNK = 1024

RELATIONS = {
    "identical": "identical to {}",
    "saved": "the same picture as {}",
    "recoloured": "the same picture as {} in other colours",
    "mirrored": "{} mirrored",
    "turned": "{} turned",
    "scene": "the same picture as {} cropped, shifted or turned",
}


class Copy(NamedTuple):
    """Two images of one picture.

    Attributes:
        first, second: Positions, first < second.
        relation: A key of `RELATIONS`: what the second is to the first.
        score: Correlation of what they share, from 0 to 1.
    """

    first: int
    second: int
    relation: str
    score: float


def find_copies(data, patterns, neighbours=None):
    """Find images that show one picture.

    Args:
        data: `Data`.
        patterns: uint64 `(n,)`: `tlkit.data.perceptual.perceptual_hash` of each image.
        neighbours: `tlkit.evaluation.neighbours.Neighbours`, or None to do without them.

    Returns:
        List of `Copy`, ordered. Of identical files each is named with the first of them; the rest of the work is done
        with that one.
    """
    copies, first_of = [], {}
    for i, content in enumerate(data.sha256):
        if (first := first_of.setdefault(content, i)) != i:
            copies.append(Copy(first, i, "identical", 1.0))
    distinct = np.zeros(len(data), bool)
    distinct[list(first_of.values())] = True
    hashed = close_pairs(np.where(distinct, patterns, 0).astype(np.uint64), DISTANCE, range(len(TURNS)))
    near = _near_pairs(neighbours, distinct) if neighbours is not None else np.zeros((0, 2), np.int64)
    thumbnails = _Thumbnails(data)
    candidates = np.unique(np.concatenate([hashed, _in_all_turns(near, patterns)]), axis=0)
    candidates = candidates[np.argsort(candidates[:, 3], kind="stable")][:MOST_PAIRS]
    found = []
    if len(candidates):
        found = _compare(candidates, thumbnails, _limits(thumbnails, np.flatnonzero(distinct)))
    known = {(copy.first, copy.second) for copy in found}
    rest = [pair for pair in map(tuple, near.tolist()) if pair not in known][:MOST_REGISTERED]
    return sorted(copies + found + _registered(data, rest))


def copy_groups(count, copies):
    """Return a number per image, equal for copies of one picture, directly or through others: int64 `(count,)`."""
    keys = tied(count, [(copy.first, copy.second) for copy in copies])
    return np.array([i if key is None else key for i, key in enumerate(keys)], np.int64)


class _Thumbnails:
    """Thumbnails of a data set's images and their `signatures`, each made once."""

    def __init__(self, data):
        self._data, self._made = data, {}

    def of(self, images):
        """Return uint8 `(images, 32, 32, 3)` and the two signatures of each, float32 `(images, 32, 32)`."""
        images = np.asarray(images, np.int64)
        missing = [i for i in np.unique(images).tolist() if i not in self._made]
        with ThreadPoolExecutor(usable_cpus()) as pool:
            self._made.update(zip(missing, pool.map(self._make, missing), strict=True))
        return tuple(np.stack(part) for part in zip(*(self._made[i] for i in images.tolist()), strict=True))

    def _make(self, i):
        made = thumbnail(self._data.read(i, SIDE))
        return made.round().astype(np.uint8), *(part[0] for part in signatures(made[None]))


def _near_pairs(neighbours, distinct):
    """Return the pairs of near neighbours, first < second, the nearest first: int64 `(pairs, 2)`."""
    index, similarity = (part[:, :NEAREST] for part in neighbours)
    rows, columns = np.nonzero((similarity >= LEAST_SIMILARITY) & (index >= 0))
    one, other, near = rows, index[rows, columns], similarity[rows, columns]
    kept = distinct[one] & distinct[other]
    pairs = np.sort(np.stack([one[kept], other[kept]], axis=1), axis=1)
    pairs = pairs[np.argsort(-near[kept], kind="stable")]
    _, first = np.unique(pairs, axis=0, return_index=True)
    return pairs[np.sort(first)]


def _in_all_turns(pairs, patterns):
    """Return pairs in the turns in which their hashes agree at all, as `close_pairs` does."""
    first, second = np.asarray(patterns, np.uint64)[pairs].T
    apart = np.bitwise_count(first ^ turned_hashes(second)).astype(np.int64)
    number, row = np.nonzero((apart <= FAR) & (first > 0) & (second > 0))
    return np.column_stack([pairs[row], number, apart[number, row]])


def _limits(thumbnails, images):
    """Return the least correlations, of the pictures and of their details, from which on two are copies.

    They are measured by the set's own images, so that digits, which are all alike, aren't taken for copies.
    """
    chosen = images[:: max(1, len(images) // SAMPLE)][:SAMPLE]
    if len(chosen) < 2 * FIFTH:
        return FLOORS
    flat = [part.reshape(len(chosen), -1) for part in thumbnails.of(chosen)[1:]]
    fifth = [-np.partition(-part @ part.T, FIFTH, axis=1)[:, FIFTH] for part in flat]  # the nearest is the image itself
    usual = np.quantile(fifth, QUANTILE, axis=1)
    return tuple(max(floor, 1 - SHARE * (1 - level)) for floor, level in zip(FLOORS, usual, strict=True))


def _compare(candidates, thumbnails, limits):
    """Return the `Copy` of each pair that is one by its thumbnails, in the turn that fits best."""
    best = {}
    for start in range(0, len(candidates), CHUNK):
        part = candidates[start : start + CHUNK]
        first, second = thumbnails.of(part[:, 0]), thumbnails.of(part[:, 1])
        second = [np.stack([turn(*of) for of in zip(array, part[:, 2], strict=True)]) for array in second]
        alike, detail = ((one * other).sum(axis=(1, 2)) for one, other in zip(first[1:], second[1:], strict=True))
        for row in np.flatnonzero((alike >= limits[0]) & (detail >= limits[1])):
            one, other, number = part[row, :3].tolist()
            colour = np.abs(first[0][row].astype(np.float32) - second[0][row]).mean()
            if detail[row] > best.get((one, other), (0.0,))[0]:
                best[one, other] = (float(detail[row]), _relation(number, colour))
    return [Copy(*pair, relation, min(1.0, score)) for pair, (score, relation) in best.items()]


def _relation(number, colour):
    if number:
        return "mirrored" if TURNS[number] == (True, 0) else "turned"
    return "saved" if colour <= MOST_COLOUR else "recoloured"


def _registered(data, pairs):
    """Return the `Copy` of each pair of which a part of one lies on a part of the other."""
    images = sorted({i for pair in pairs for i in pair})
    with ThreadPoolExecutor(usable_cpus()) as pool:
        seen = dict(
            zip(images, pool.map(lambda i: registration.see(data.read(i, registration.SIDE)), images), strict=True)
        )
        scores = pool.map(lambda pair: registration.same_scene(seen[pair[0]], seen[pair[1]]), pairs)
        return [Copy(*pair, "scene", score) for pair, score in zip(pairs, scores, strict=True) if score is not None]
