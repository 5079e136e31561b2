"""Activation maximization: images that a net makes up when it is asked for a class, or for one of its channels."""

import cv2
import numpy as np

GREY = 127.0
STEPS = 48
STEP = 10.0  # grey levels, of a typical change of a value in the first step; it falls to a third
DECAY = 0.03  # of the distance from grey, at every step
SCALES = (1, 2, 4, 8)  # pixels: the standard deviations of the Gaussians through which a slope is seen
SHIFT = 8  # pixels at most, by which the image is moved while its slope is taken
CALM_EVERY, BLUR = 4, 0.5  # steps, and pixels of the Gaussian's standard deviation
CLIP_PERCENTILE = 10  # of the pixels, those nearest to grey, which become grey when the image is calmed


def maximize(slopes, shape, *, steps=STEPS, seed=0, on_step=None):
    """Climb from grey noise to images that make some values large.

    A slope itself is mostly noise that no photo has; blurred in several widths, of which each counts as much as the
    others, it draws shapes. After every step values decay towards grey, and now and then the image is blurred and its
    faintest pixels become grey, so that what remains is what counts.

    Args:
        slopes: Function from float32 images to `(values, slopes)`, such as `ascent_slopes` returns.
        shape: Shape of the images: `(n, height, width, 3)`.
        steps: How many.
        seed: Whole number that decides the noise and the shifts.
        on_step: Function of `(done, steps)`, or None.

    Returns:
        `(images, first, last)`: uint8 of `shape`, and the values at the beginning and at the end, float32 `(n,)`.

    Reference:
        Yosinski et al. 2015, https://arxiv.org/abs/1506.06579, section 4 (decay, blur, clipping of small norms);
        Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 2. Shifts and slopes in several widths are as in
        Mordvintsev et al. 2015, "Inceptionism".
    """
    random = np.random.default_rng(seed)
    images = (GREY + random.normal(0, 10, shape)).astype(np.float32)
    first = slopes(images)[0]
    for step in range(steps):
        shift = random.integers(-SHIFT, SHIFT + 1, 2)
        rising = np.roll(slopes(np.roll(images, shift, (1, 2)))[1], -shift, (1, 2))
        length = STEP * (1 - 2 / 3 * step / steps)
        images = images + length * np.stack([_in_several_widths(slope) for slope in rising])
        images = GREY + (1 - DECAY) * (images - GREY)
        if step % CALM_EVERY == CALM_EVERY - 1 and step < steps - CALM_EVERY:
            images = np.stack([_calm(image) for image in images])
        images = np.clip(images, 0, 255).astype(np.float32)
        if on_step:
            on_step(step + 1, steps)
    images = images.round().astype(np.uint8)
    return images, first, slopes(images.astype(np.float32))[0]


def _in_several_widths(slope):
    """Return the mean of a slope's blurred versions, each divided by its own typical value."""
    blurred = [cv2.GaussianBlur(slope, (0, 0), scale) for scale in SCALES]
    return np.mean([one / (one.std() or 1) for one in blurred], axis=0)


def _calm(image):
    """Blur an image, and make its faintest pixels grey."""
    image = cv2.GaussianBlur(image, (0, 0), BLUR)
    norms = np.sqrt(np.square(image - GREY).sum(axis=-1))
    image[norms < np.percentile(norms, CLIP_PERCENTILE)] = GREY
    return image
