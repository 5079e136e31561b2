"""Tiny data sets in the shapes of MNIST and CIFAR-10."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Path of an .npz file like MNIST's, sorted by class: 300 and 60 noisy images of three classes."""
    random = np.random.default_rng(0)
    parts = {}
    for split, each in (("train", 100), ("test", 20)):
        labels = np.repeat(np.arange(3), each)
        images = random.integers(0, 100, (3 * each, 28, 28))
        for number, label in enumerate(labels):
            images[number, 8 + 4 * label : 12 + 4 * label, 8:20] += 150
        parts |= {f"x_{split}": images.astype(np.uint8), f"y_{split}": labels.astype(np.uint8)}
    path = tmp_path_factory.mktemp("digits") / "mnist.npz"
    np.savez(path, **parts)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Folder like CIFAR-10's, of two classes: 20 training and 4 test images each."""
    folder, random = tmp_path_factory.mktemp("pictures") / "cifar10", np.random.default_rng(0)
    for split, each in (("train", 20), ("test", 4)):
        for brightness, name in ((60, "cat"), (180, "dog")):
            (folder / split / name).mkdir(parents=True)
            for number in range(each):
                pixels = np.clip(random.normal(brightness, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number:04d}.jpg")
    return folder
