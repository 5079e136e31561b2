"""Who is near whom in feature space, and who is far from everybody."""

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

NEIGHBOURS = 10
FEW = 20  # members of a class below which its own distances say too little
ROWS = 512  # of a block of the table of all pairs
# Of the features' variance; the axes beyond are left out where there are many images: the table of 100,000 images then
# takes a tenth of the time.
MANY, AXES = 20_000, 256
FALSE_RATE = 1e-3  # of ordinary images that are called outliers, if their distances were normally distributed


class Neighbours(NamedTuple):
    """The nearest images of each image, the nearest first.

    Attributes:
        index: int64 `(n, k)`; -1 where there is none.
        similarity: float32 `(n, k)`: cosine of the centred features, from -1 to 1; -1 where there is none.
    """

    index: np.ndarray
    similarity: np.ndarray


def find_neighbours(directions, k):
    """Find the nearest images of each image, by the cosine of their directions; of n images in n * n steps.

    Args:
        directions: float32 `(n, width)`, of length 1, such as `contrasts` and `contents`.
        k: Number of neighbours.

    Returns:
        `Neighbours`.
    """
    count, k = len(directions), min(k, len(directions) - 1)
    index, similarity = np.full((count, k), -1, np.int64), np.full((count, k), -1.0, np.float32)
    if k < 1:
        return Neighbours(index, similarity)
    for start in range(0, count, ROWS):
        table = directions[start : start + ROWS] @ directions.T
        table[np.arange(len(table)), np.arange(start, start + len(table))] = -np.inf
        nearest = np.argpartition(-table, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(table, nearest, axis=1)
        order = np.lexsort((nearest, -found), axis=1)
        index[start : start + ROWS] = np.take_along_axis(nearest, order, axis=1)
        similarity[start : start + ROWS] = np.take_along_axis(found, order, axis=1)
    return Neighbours(index, similarity)


def contrasts(features):
    """Return what tells the images of a set from each other: their centred square roots, of length 1.

    Args:
        features: float32 `(n, width)`; the root keeps the sign.
    """
    rooted = _rooted(features)
    return _in_few_axes(rooted - rooted.mean(axis=0, dtype=np.float64).astype(np.float32))


def contents(features):
    """Return what the images show, whatever the others of the set do: the square roots of their features, of length 1.

    Cosines of them are Bhattacharyya coefficients where features are positive. Distances between centred features
    are blind to pictures of other things: those, too, lie at right angles to most of the set.
    """
    return _in_few_axes(_rooted(features))


def _rooted(features):
    return np.sign(features) * np.sqrt(np.abs(features))


def _in_few_axes(vectors):
    """Return vectors of length 1, along their principal axes where there are very many."""
    if len(vectors) > MANY and vectors.shape[1] > AXES:
        some = vectors[:: len(vectors) // MANY]
        vectors = vectors @ np.linalg.eigh(some.T @ some)[1][:, -AXES:]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def without_copies(neighbours, groups, k=NEIGHBOURS):
    """Return the `k` nearest images that aren't copies of the image or of each other.

    Args:
        neighbours: `Neighbours`, of more than `k`.
        groups: int `(n,)`, equal for copies of one picture.
        k: Number of neighbours.
    """
    index, similarity = neighbours
    if len(np.unique(groups)) == len(groups):
        return Neighbours(index[:, :k], similarity[:, :k])
    of = np.where(index >= 0, groups[index], -1)
    kept = (of != groups[:, None]) & (index >= 0)
    for column in range(1, of.shape[1]):
        kept[:, column] &= (of[:, :column] != of[:, column : column + 1]).all(axis=1)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, axis=1)
    index, similarity = (np.take_along_axis(part, order, axis=1) for part in (index, similarity))
    return Neighbours(np.where(kept, index, -1), np.where(kept, similarity, -1.0))


def votes(neighbours, labels, classes):
    """Return the share of each class among an image's neighbours, weighed by the square of their similarity.

    Args:
        neighbours: `Neighbours`.
        labels: int `(n,)`, -1 where missing.
        classes: Number of classes.

    Returns:
        float64 `(n, classes)`; even shares where no neighbour has a label.
    """
    index, similarity = neighbours
    said = np.where(index >= 0, labels[index], -1)
    weights = np.where(said >= 0, np.maximum(similarity, 1e-3).astype(np.float64) ** 2, 0.0)
    shares = np.zeros((len(index), classes))
    rows = np.broadcast_to(np.arange(len(index))[:, None], said.shape)
    np.add.at(shares, (rows[said >= 0], said[said >= 0]), weights[said >= 0])
    total = shares.sum(axis=1, keepdims=True)
    return np.where(total > 0, shares / np.maximum(total, 1e-12), 1 / classes)


def find_outliers(neighbours, kinds, false_rate=FALSE_RATE):
    """Find images that are far from all others, measured by what is usual for their class.

    Args:
        neighbours: `Neighbours`; the distance of the last one counts, so that a few outliers of one kind don't hide
            each other.
        kinds: int `(n,)`: the class of each image, -1 where there is none. Images of classes with fewer than 20 are
            measured by the whole set.
        false_rate: Share of ordinary images that would be called outliers if their distances were normally distributed,
            with the median and the upper quartile that they have. Measured: of 2,000 photos of CIFAR-10 0.0015 where
            0.001 was asked for.

    Returns:
        List of `(image, score)`, the farthest first; the score is in standard deviations of that distribution.

    Reference:
        Ramaswamy, Rastogi & Shim 2000, "Efficient algorithms for mining outliers from large data sets",
        https://doi.org/10.1145/342009.335437: the distance of the k-th neighbour.
    """
    last = np.take_along_axis(neighbours.similarity, _last(neighbours)[:, None], axis=1)[:, 0]
    far = np.sqrt(np.maximum(2 - 2 * last, 0.0)).astype(np.float64)
    scores = _robust(far)
    for kind in np.unique(kinds[kinds >= 0]):
        members = np.flatnonzero(kinds == kind)
        if len(members) >= FEW:
            scores[members] = np.minimum(scores[members], _robust(far[members]))
    beyond = np.flatnonzero(scores > norm.isf(false_rate))
    return sorted(((int(i), float(scores[i])) for i in beyond), key=lambda found: (-found[1], found[0]))


def _last(neighbours):
    return np.maximum((neighbours.index >= 0).sum(axis=1) - 1, 0)


def _robust(values):
    """Return values in standard deviations from the median, by the distance from it to the upper quartile."""
    middle, upper = np.quantile(values, [0.5, 0.75])
    spread = (upper - middle) / norm.isf(0.25)
    return (values - middle) / max(spread, 1e-3)
