"""The images that a net takes for most alike."""

import numpy as np


def nearest(features, own, count):
    """Find the images whose features lie nearest.

    Args:
        features: float array `(n, ...)` of the images to choose from.
        own: float array `(...)` of the image that is explained.
        count: How many to find.

    Returns:
        `(positions, distances)`: int64 and float64 `(min(count, n),)`, the nearest first; Euclidean distances.

    Reference:
        Krizhevsky et al. 2012, https://papers.nips.cc/paper/4824, section 6.1 and figure 4, right.
    """
    apart = np.asarray(features, np.float64).reshape(len(features), -1) - np.asarray(own, np.float64).reshape(1, -1)
    distances = np.sqrt(np.square(apart).sum(axis=1))
    order = np.argsort(distances, kind="stable")[:count]
    return order, distances[order]


def pooled(features):
    """Return features as vectors: feature maps `(n, height, width, channels)` are averaged over the image."""
    return features.mean(axis=(1, 2)) if features.ndim == 4 else features
