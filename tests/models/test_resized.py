"""The same network for another image size."""

import keras
import numpy as np
import pytest

from tlkit.errors import TlkitError
from tlkit.models.assemble import assemble
from tlkit.models.backbones import block_ends, build_backbone
from tlkit.models.heads import make_head
from tlkit.models.resized import resized
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("a", "b", "c"))}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2", "resnet50"])
def test_it_computes_what_the_network_built_for_that_size_does(name):
    keras.utils.set_random_seed(0)
    model = assemble(build_backbone(name, image_size=64), make_head(TASKS), TASKS)
    other = resized(model, 96)
    built = assemble(build_backbone(name, image_size=96), make_head(TASKS), TASKS)
    built.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("float32")
    np.testing.assert_array_equal(other.predict_on_batch(images), built.predict_on_batch(images))
    assert other.input_shape == (None, 96, 96, 3)
    assert block_ends(other) == block_ends(model)


def test_its_weights_are_its_own():
    model = assemble(build_backbone("mobilenet_v2", image_size=64), make_head(TASKS), TASKS)
    other = resized(model, 96)
    before = model.get_weights()
    other.set_weights([value + 1 for value in other.get_weights()])
    for mine, earlier in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, earlier)


def test_a_head_that_depends_on_the_size_is_refused():
    def head(features):
        return keras.layers.Dense(3)(keras.layers.Flatten()(features))

    model = assemble(build_backbone("mobilenet_v2", image_size=64), head, TASKS)
    with pytest.raises(TlkitError, match="can't be built for 96 pixels"):
        resized(model, 96)
