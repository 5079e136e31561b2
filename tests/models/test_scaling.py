"""Our scaling against Keras' own: `preprocess_input`, or the preprocessing built into a net."""

import keras
import numpy as np
import pytest
from keras import applications as apps
from keras.src.applications import efficientnet

from tlkit.catalog import BACKBONES
from tlkit.models.backbones import IMAGENET_MEAN, IMAGENET_STD, SCALINGS, build_backbone

FAMILIES = [
    ("vgg16", apps.vgg16),
    ("vgg19", apps.vgg19),
    ("resnet50", apps.resnet),
    ("resnet50_v2", apps.resnet_v2),
    ("inception_v3", apps.inception_v3),
    ("inception_resnet_v2", apps.inception_resnet_v2),
    ("xception", apps.xception),
    ("mobilenet", apps.mobilenet),
    ("mobilenet_v2", apps.mobilenet_v2),
    ("densenet121", apps.densenet),
    ("nasnet_mobile", apps.nasnet),
]
BUILT_IN = ["mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_v2_b0", "efficientnet_v2_s", "convnext_tiny"]


def random_image(size, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (1, size, size, 3)).astype("float32")


@pytest.mark.parametrize(("name", "module"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_it_is_what_preprocess_input_does(name, module):
    image = keras.Input((8, 8, 3))
    ours = keras.Model(image, SCALINGS[BACKBONES[name].scaling](image))
    expected = module.preprocess_input(random_image(8).copy())
    np.testing.assert_allclose(ours(random_image(8)), expected, atol=1e-4)


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_is_what_keras_builds_in(name):
    """The same weights in Keras' own graph, preprocessing included, compute the same features."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    ours = build_backbone(name, image_size=32)
    builder = getattr(apps, BACKBONES[name].builder.partition(":")[2])
    theirs = builder(weights=None, include_top=False, input_shape=(32, 32, 3))
    theirs.set_weights(ours.get_weights())
    expected = np.asarray(theirs(random_image(32)))
    np.testing.assert_allclose(ours(random_image(32)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_lite_scales_by_127_and_128():
    image = keras.Input((8, 8, 3))
    ours = keras.Model(image, SCALINGS["lite"](image))
    np.testing.assert_allclose(ours(random_image(8)), (random_image(8) - 127) / 128, atol=1e-6)


def test_efficientnet_normalizes_by_the_standard_deviation(monkeypatch, tmp_path):
    """Trap 3: Keras' `weights="imagenet"` graph, its file holding the standard deviation as variance, is our graph.

    Keras' own weights are out of reach without a network, so a file of the same form takes their place.
    """
    keras.utils.set_random_seed(0)
    source = apps.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
    (normalization,) = (layer for layer in source.layers if isinstance(layer, keras.layers.Normalization))
    normalization.adapt_mean.assign(IMAGENET_MEAN)
    normalization.adapt_variance.assign(IMAGENET_STD)
    file = tmp_path / "efficientnetb0_notop.weights.h5"
    source.save_weights(file)
    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: file)
    theirs = apps.EfficientNetB0(weights="imagenet", include_top=False, input_shape=(32, 32, 3))
    assert len(theirs.layers) == len(source.layers) + 1  # the Rescaling that only this graph has

    ours = build_backbone("efficientnet_b0", weights=file, image_size=32)
    expected = np.asarray(theirs(random_image(32)))
    np.testing.assert_allclose(ours(random_image(32)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(source(random_image(32)), expected, rtol=0, atol=1e-2 * np.abs(expected).max())


def test_efficientnet_scales_to_zero_mean_and_unit_deviation_of_imagenet():
    model = build_backbone("efficientnet_b0", image_size=32)
    (normalization,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    scaled = keras.Model(model.inputs[0], normalization.output)(random_image(32))
    expected = (random_image(32) / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(scaled, expected, atol=1e-5)
