"""A prediction depends on the image alone: not on the batch it came in."""

import keras
import numpy as np
import pytest

from tlkit.evaluation.infer import predict_batches
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("a", "b", "c"))}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, keras.layers.Activation("softmax", name="label")(keras.layers.Dense(3)(x)))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)


def batches(images, size):
    return ({"image": images[i : i + size]} for i in range(0, len(images), size))


def test_short_batches_are_padded_and_the_padding_is_dropped(model, images):
    whole = predict_batches(model, batches(images, 4), TASKS, batch_size=4)["label"]
    single = predict_batches(model, batches(images, 1), TASKS, batch_size=4)["label"]
    assert whole.shape == (10, 3)
    np.testing.assert_array_equal(whole, single)


def test_flip_averages_the_image_and_its_mirror(model, images):
    both = predict_batches(model, batches(images, 4), TASKS, batch_size=4, tta="flip")["label"]
    plain, mirrored = (
        predict_batches(model, batches(view, 4), TASKS, batch_size=4)["label"] for view in (images, images[:, :, ::-1])
    )
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-7)
    assert (both != plain).any()


def test_no_images_give_no_rows(model):
    assert predict_batches(model, iter(()), TASKS, batch_size=4)["label"].shape == (0, 3)
