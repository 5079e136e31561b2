"""Occlusion sensitivity: how much of a score is lost when a part of the image is hidden."""

import numpy as np

GREY = 127
PATCHES = 7  # patches that fit side by side


def occlusion(score, image, patch=None, stride=None, batch_size=32):
    """Hide one square of an image after the other with grey, and see what that costs.

    Args:
        score: Function from uint8 RGB `(n, height, width, 3)` to float `(n,)`.
        image: uint8 RGB `(height, width, 3)`.
        patch: Side of the square in pixels; None for a seventh of the shorter side.
        stride: Pixels from one square to the next; None for half a patch. The last one ends at the image's edge.
        batch_size: How many hidden images are scored at a time.

    Returns:
        float32 `(height, width)`, in the unit of `score`: what is lost, on average over all squares that hide a pixel;
        below zero where hiding raises the score.

    Reference:
        Zeiler & Fergus 2013, https://arxiv.org/abs/1311.2901, section 4.2.
    """
    height, width = image.shape[:2]
    patch = patch or max(1, round(min(height, width) / PATCHES))
    stride = stride or max(1, patch // 2)
    corners = [(top, left) for top in _starts(height, patch, stride) for left in _starts(width, patch, stride)]
    whole = float(score(image[None])[0])
    lost, times = np.zeros((height, width)), np.zeros((height, width))
    for first in range(0, len(corners), batch_size):
        places = corners[first : first + batch_size]
        hidden = np.repeat(image[None], len(places), axis=0)
        for view, (top, left) in zip(hidden, places, strict=True):
            view[top : top + patch, left : left + patch] = GREY
        for value, (top, left) in zip(score(hidden), places, strict=True):
            lost[top : top + patch, left : left + patch] += whole - value
            times[top : top + patch, left : left + patch] += 1
    return (lost / times).astype(np.float32)


def _starts(side, patch, stride):
    """Return where squares begin along a side, so that the first and the last end at its edges."""
    return sorted({*range(0, side - patch, stride), side - patch})
