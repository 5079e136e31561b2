"""Gradient ascent climbs, in a net and on a hill whose top is known."""

import keras
import numpy as np

from tlkit.evaluation.explain.ascent import maximize
from tlkit.evaluation.explain.gradients import ascent_slopes
from tlkit.tasks import Task


def test_it_finds_bright_where_bright_counts():
    """The value is the brightness of the left half less that of the right half."""
    sign = np.where(np.arange(32) < 16, 1.0, -1.0)[:, None] * np.ones((32, 32, 3))

    def slopes(images):
        return (images * sign).mean(axis=(1, 2, 3)), np.broadcast_to(sign, images.shape).astype(np.float32)

    images, first, last = maximize(slopes, (2, 32, 32, 3), steps=16)
    assert images.dtype == np.uint8
    assert (last > first + 30).all()
    assert images[:, :, 2:14].mean() > 150 > 100 > images[:, :, 18:30].mean()
    again, _, _ = maximize(slopes, (2, 32, 32, 3), steps=16)
    np.testing.assert_array_equal(images, again)


def test_it_raises_the_logit_and_the_channels_of_a_net_and_leaves_the_net_alone():
    """The channels begin silent behind their ReLU6: it is before it that they are made to rise."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 127, offset=-1)(image))
    x = keras.layers.ReLU(6.0, name="block")(keras.layers.Rescaling(1.0, offset=-3.0)(x))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model = keras.Model(image, keras.layers.Activation("softmax", name="label")(logits))
    before = model.get_weights()
    slopes = ascent_slopes(model, ["block"], {"label": Task("single_label", ("a", "b", "c"))}, "label", 1, [2, 0])
    values, rising = slopes(np.full((3, 16, 16, 3), 127, np.float32))
    assert values.shape == (3,)
    assert rising.shape == (3, 16, 16, 3)
    images, first, last = maximize(slopes, (3, 16, 16, 3), steps=24)
    assert (last[1:] > first[1:] + 0.5).all()
    assert last[0] >= first[0]
    assert len({image.tobytes() for image in images}) == 3
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
