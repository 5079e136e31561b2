"""mixup and CutMix: pure functions of (seed, step), so that a resumed run mixes what an undisturbed one would.

They mix inputs. Where features of frozen layers are kept, mixed images have none, and must go through all layers.
"""

import math
from dataclasses import dataclass

import numpy as np

_STREAM = 1  # of the generator keyed with (seed, step); the order of epochs draws from stream 0 of (seed, epoch)


def mix_batch(images, seed, step, *, mixup=0.0, cutmix=0.0):
    """Mix each image of a batch with another one of it.

    The partners form one random cycle, so that no image is its own. Shares are drawn for each image, not once a batch
    as in the authors' code: then a batch holds weak and strong mixtures, and its gradient doesn't hang on one draw.
    An image's target is `share * own + (1 - share) * partner's`.

    Args:
        images: `(batch, height, width, 3)` in [0, 255], uint8 or float32; it is not changed.
        seed, step: Whole numbers, at least 0, that alone decide what is mixed and how.
        mixup: Alpha of the beta distribution (alpha, alpha) that the shares are drawn from; 0: no mixup.
        cutmix: Alpha for CutMix, where a box of the partner, of the rest's area, is pasted over the image; its centre
            is anywhere, what lies outside the image is lost, and the share is that of the pixels that are left;
            0: no CutMix. With both, a batch takes one of them, either as often as the other.

    Returns:
        float32 images like `images`, partners int64 `(batch,)` and shares float32 `(batch,)` in [0, 1]. A batch of one
        has nothing to mix with and keeps share 1, and so do all where both alphas are 0.

    Reference:
        Zhang et al. 2017, https://arxiv.org/abs/1710.09412; Yun et al. 2019, https://arxiv.org/abs/1905.04899.
    """
    size = len(images)
    if size < 2 or not (mixup or cutmix):
        return images.astype(np.float32), np.arange(size), np.ones(size, np.float32)
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, _STREAM]))
    partners = _partners(size, rng)
    cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    alpha = cutmix if cut else mixup
    shares = rng.beta(alpha, alpha, size)
    if cut:
        return _paste_boxes(images, partners, shares, rng)
    shares = shares.astype(np.float32)
    weights = shares[:, None, None, None]
    return weights * images + (1 - weights) * images[partners], partners, shares


def mixed_epochs(epochs, mix_off):
    """Return how many of a stage's epochs, its first ones, are trained on mixed images.

    Args:
        epochs: Number of epochs of the stage.
        mix_off: Share of them, the last ones, that are not; it is rounded to whole epochs, a half up.
    """
    return epochs - math.floor(mix_off * epochs + 0.5)


def _partners(size, rng):
    """Return a random permutation that is one cycle."""
    order = rng.permutation(size)
    partners = np.empty(size, np.int64)
    partners[order] = np.roll(order, 1)
    return partners


def _paste_boxes(images, partners, shares, rng):
    """Paste boxes of `1 - shares` of the area; return the images, the partners and the shares as they came out."""
    size, height, width = images.shape[:3]
    mixed = images.astype(np.float32)
    centres = rng.random((size, 2)) * (height, width)
    halves = np.sqrt(1 - shares)[:, None] * (height, width) / 2
    starts = np.clip(np.rint(centres - halves), 0, (height, width)).astype(int)
    stops = np.clip(np.rint(centres + halves), 0, (height, width)).astype(int)
    for i, ((top, left), (bottom, right)) in enumerate(zip(starts, stops, strict=True)):
        mixed[i, top:bottom, left:right] = images[partners[i], top:bottom, left:right]
    pasted = (stops - starts).prod(axis=1)
    return mixed, partners, (1 - pasted / (height * width)).astype(np.float32)


@dataclass(frozen=True)
class Mixing:
    """What a training mixes.

    Attributes:
        mixup, cutmix: As for `mix_batch`.
        epochs: The epochs that do, counted over all stages.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    epochs: frozenset = frozenset()

    def mix(self, images, seed, step):
        """Return what `mix_batch` does."""
        return mix_batch(images, seed, step, mixup=self.mixup, cutmix=self.cutmix)
