"""EfficientNet-Lite against what its authors state, and its weights' loader."""

import keras
import numpy as np
import pytest
from keras import layers

from tlkit.catalog import BACKBONES
from tlkit.errors import WeightsError
from tlkit.models.backbones import build_backbone, build_classifier
from tlkit.models.efficientnet_lite import load_pytorch
from tlkit.models.pth import read_pth
from tlkit.models.weights import find_weights


@pytest.mark.parametrize(("number", "size", "millions"), [(0, 224, 4.7), (1, 240, 5.4), (2, 260, 6.1)])
def test_parameters_and_image_sizes_are_the_published_ones(number, size, millions):
    model = build_classifier(f"efficientnet_lite{number}")
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, 1000)
    trained = sum(np.prod(weight.shape) for weight in model.trainable_weights)
    assert round(trained / 1e6, 1) == millions


def test_it_has_no_squeeze_and_excitation_and_relu6_everywhere():
    model = build_backbone("efficientnet_lite0", image_size=64)
    assert not any(isinstance(layer, layers.GlobalAveragePooling2D | layers.Multiply) for layer in model.layers)
    activations = [layer for layer in model.layers if isinstance(layer, layers.ReLU)]
    assert len(activations) == 33  # stem, head, 16 blocks of one and 15 of them with an expansion
    assert {activation.max_value for activation in activations} == {6.0}


def test_the_backbone_is_the_classifier_without_its_top():
    images = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    classifier = build_classifier("efficientnet_lite0", weights="imagenet")
    backbone = build_backbone("efficientnet_lite0", weights="imagenet")
    features = keras.Model(classifier.inputs[0], classifier.get_layer("top_activation").output)(images)
    np.testing.assert_allclose(backbone(images), features, atol=1e-5)


def test_another_lites_arrays_get_one_line():
    model = build_backbone("efficientnet_lite1", image_size=64)
    path = find_weights("efficientnet_lite0", "imagenet")
    arrays = read_pth(path, BACKBONES["efficientnet_lite0"].weights.hash)
    with pytest.raises(WeightsError, match=r"lite0.*\.pth: holds 99 layers with weights; efficientnet_lite1 has 128"):
        load_pytorch(model, arrays, path)
    arrays = {name: array[..., :1] if array.ndim else array for name, array in arrays.items()}
    with pytest.raises(WeightsError, match="layer stem_conv of efficientnet_lite0 needs"):
        load_pytorch(build_backbone("efficientnet_lite0", image_size=64), arrays, path)
