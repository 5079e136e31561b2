"""Grad-CAM against arithmetic by hand, and on nets of every family; the model stays as it was."""

import hashlib

import keras
import numpy as np
import pytest

from tlkit.catalog import BACKBONES
from tlkit.errors import TlkitError
from tlkit.evaluation.explain import grad_cam, grad_cams
from tlkit.models.assemble import assemble
from tlkit.models.backbones import build_backbone
from tlkit.models.heads import make_head
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("a", "b"))}
EIGHT = {"label": Task("single_label", tuple("abcdefgh"))}
HEAD = np.array([[2.0, -1.0], [-3.0, 1.0]], np.float32)  # channels x classes


def tiny(image_size=4):
    """Two channels, the image's red and green, averaged over the image and weighed by `HEAD`."""
    image = keras.Input((image_size, image_size, 3))
    channels = keras.layers.Conv2D(2, 1, use_bias=False, name="block")
    x = keras.layers.GlobalAveragePooling2D()(channels(image))
    logits = keras.layers.Dense(2, use_bias=False, name="logits")
    model = keras.Model(image, keras.layers.Activation("softmax", name="label")(logits(x)))
    channels.set_weights([np.eye(3, 2, dtype=np.float32)[None, None]])
    logits.set_weights([HEAD])
    return model


def some_images(count=3, size=4):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_it_is_what_the_paper_says():
    """The mean of 16 equal slopes is the slope; the map is the positive part of the weighted channels."""
    images = some_images()
    for index in (0, 1):
        found = grad_cams(tiny(), ["block"], TASKS, images, "label", [index] * 3)
        expected = np.maximum(images[..., :2].astype(np.float64) @ HEAD[:, index], 0)
        expected /= expected.max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_map_is_stretched_over_the_image():
    """A feature map of 2 x 2 with one corner on: bilinear, so it falls off from that corner in both directions."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.AveragePooling2D(4, name="block")(image)
    logits = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Rescaling(1.0, offset=0.0, name="n")(logits))
    model.layers[-2].set_weights([np.ones((3, 1), np.float32), np.zeros(1, np.float32)])
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, 4:] = 255
    found = grad_cam(model, ["block"], {"n": Task("regression")}, picture, "n", 0)
    along = np.array([0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])
    np.testing.assert_allclose(found, along[::-1, None] * along, atol=1e-6)


def test_nothing_speaks_for_a_class_where_all_speaks_against_it():
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[..., 1] = 200
    assert (grad_cam(tiny(), ["block"], TASKS, picture, "label", 0) == 0).all()
    assert grad_cam(tiny(), ["block"], TASKS, picture, "label", 1).max() == 1


def test_a_layer_that_something_passes_by_still_has_a_map():
    """A shortcut around the layer: the graph can't be cut there, and the slopes are those through the layer alone."""
    image = keras.Input((4, 4, 3))
    branch = keras.layers.Conv2D(3, 1, use_bias=False, name="branch")
    x = keras.layers.Add(name="block")([image, branch(image)])
    logits = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(
        image, keras.layers.Activation("softmax", name="label")(logits(keras.layers.GlobalAveragePooling2D()(x)))
    )
    branch.set_weights([2 * np.eye(3, dtype=np.float32)[None, None]])
    weights = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    logits.set_weights([weights])
    images = some_images()
    found = grad_cams(model, ["block"], TASKS, images, "label", [0, 0, 0], layer="branch")
    expected = np.maximum(images.astype(np.float64) @ weights[:, 0], 0)
    np.testing.assert_allclose(found, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-6)


def test_batches_do_not_matter_and_no_images_give_no_maps():
    images, model = some_images(5), tiny()
    whole = grad_cams(model, ["block"], TASKS, images, "label", [0, 1, 0, 1, 0])
    parts = grad_cams(model, ["block"], TASKS, images, "label", [0, 1, 0, 1, 0], batch_size=2)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    assert grad_cams(model, ["block"], TASKS, images[:0], "label", []).shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": "blok"}, "Did you mean 'block'?"),
        ({"layer": "logits"}, "must give a feature map"),
        ({"task_name": "lable"}, "Did you mean 'label'?"),
        ({"image": np.zeros((5, 4, 3), np.uint8)}, "Received: (1, 5, 4, 3)"),
    ],
)
def test_mistakes_are_one_line(change, said):
    settings = {"image": some_images()[0], "task_name": "label", "class_index": 0} | change
    with pytest.raises(TlkitError) as error:
        grad_cam(tiny(), ["block"], TASKS, **settings)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def digest(model):
    found = hashlib.sha256()
    for weight in model.weights:
        found.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)))
    return found.hexdigest()


QUICK = ("mobilenet_v2", "resnet50", "efficientnet_lite0", "convnext_tiny", "densenet121")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
)
def test_every_backbone_has_maps_and_is_left_as_it_was(name):
    """At the last block end, with random weights, for a class that something speaks for."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    size, ends = max(64, BACKBONES[name].smallest_image), BACKBONES[name].block_ends
    model = assemble(build_backbone(name, image_size=size), make_head(EIGHT), EIGHT)
    before = digest(model)
    described = model.to_json()
    nodes = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
    images, classes = some_images(8, size), np.arange(8)
    found = grad_cams(model, ends, EIGHT, images, "label", classes)
    assert found.shape == (8, size, size)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() == 1
    assert before == digest(model)
    assert described == model.to_json()
    assert nodes == [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in model.layers]
