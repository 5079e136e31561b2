"""What a net's channels look for: the images that make them strongest."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strongest:
    """The images that make one channel strongest.

    Attributes:
        channel: Its position in the layer.
        images: int64 `(images,)`: which ones, the strongest first.
        peaks: float32 `(images,)`: the channel's largest value in each.
        maps: float32 `(images, height, width)`: the channel in each.
    """

    channel: int
    images: np.ndarray
    peaks: np.ndarray
    maps: np.ndarray


def leading_channels(maps, slopes, count):
    """Return the channels that speak most for a class in one image: in Grad-CAM's sum, those with the largest share.

    Args:
        maps, slopes: float arrays `(height, width, channels)`, of one image, from `maps_and_slopes`.
        count: How many.

    Returns:
        int64 array, the one with the largest share first.
    """
    shares = slopes.mean(axis=(0, 1)) * maps.mean(axis=(0, 1))
    return np.argsort(-shares, kind="stable")[:count]


def strongest_images(batches, channels, count):
    """Find the images that make some channels strongest.

    Args:
        batches: Iterable of `(images, maps)`: int64 `(batch,)`, and float32 `(batch, height, width, all channels)`.
        channels: Positions of the channels.
        count: How many images of each channel.

    Returns:
        List of `Strongest`, one a channel.

    Reference:
        Zeiler & Fergus 2013, https://arxiv.org/abs/1311.2901, figure 2 (the strongest images of a channel).
    """
    taken = [(images, maps[..., channels]) for images, maps in batches]
    images = np.concatenate([images for images, _ in taken])
    maps = np.concatenate([maps for _, maps in taken])
    found = []
    for position, channel in enumerate(channels):
        peaks = maps[..., position].max(axis=(1, 2))
        order = np.argsort(-peaks, kind="stable")[:count]
        found.append(Strongest(int(channel), images[order], peaks[order], maps[order, :, :, position]))
    return found
