"""A prediction depends on the image alone: not on the batch it came in."""

import keras
import numpy as np
import pytest

from tlkit.data.pipeline import Views
from tlkit.evaluation.infer import predict_images
from tlkit.models.chain import Chain
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("a", "b", "c"))}


class Images:
    """What can be read is all that prediction needs of a data set."""

    def __init__(self, images):
        self.images = images

    def read(self, i, at_least=None):
        return self.images[i]


@pytest.fixture(scope="module")
def chain():
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255, name="block")(image))
    model = keras.Model(image, keras.layers.Activation("softmax", name="label")(keras.layers.Dense(3)(x)))
    return Chain(model, ["block"], TASKS, batch_size=4)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)


def predict(chain, images, indices=None, **settings):
    views = Views(Images(images), image_size=16, fit="squash")
    indices = np.arange(len(images)) if indices is None else indices
    return predict_images(chain, views, indices, TASKS, **settings)["label"]


def test_short_batches_are_padded_and_the_padding_is_dropped(chain, images):
    whole = predict(chain, images)
    single = np.concatenate([predict(chain, images, np.array([i])) for i in range(10)])
    assert whole.shape == (10, 3)
    np.testing.assert_array_equal(whole, single)


def test_flip_averages_the_image_and_its_mirror(chain, images):
    both = predict(chain, images, tta="flip")
    plain, mirrored = (predict(chain, view) for view in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-7)
    assert (both != plain).any()


def test_no_images_give_no_rows(chain, images):
    assert predict(chain, images[:0]).shape == (0, 3)
