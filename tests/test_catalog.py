"""The table of backbones against what Keras itself states."""

import importlib
import inspect
import subprocess
import sys

import pytest

from tlkit.catalog import BACKBONES, DEFAULT_BACKBONE, Download, Package

KERAS = [backbone for backbone in BACKBONES.values() if isinstance(backbone.weights, Download)]


def test_it_holds_all_of_keras_applications_and_three_of_ours():
    from keras import applications

    builders = {name for name in dir(applications) if name[0].isupper()}
    assert {backbone.builder.partition(":")[2] for backbone in KERAS} == builders
    assert len(BACKBONES) == len(builders) + 3 == 43


def test_the_default_needs_no_download():
    assert isinstance(BACKBONES[DEFAULT_BACKBONE].weights, Package)


def test_reading_it_imports_nothing():
    script = "import sys; before = set(sys.modules); import tlkit.catalog; print(*sorted(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "keras" not in output
    assert "numpy" not in output


@pytest.mark.parametrize("backbone", KERAS, ids=lambda backbone: backbone.name)
def test_hashes_are_in_keras_source(backbone):
    builder = _builder(backbone)
    source = inspect.getsource(sys.modules[builder.__module__])
    if backbone.builder.endswith("V2") and "ResNet" in backbone.builder and "Inception" not in backbone.builder:
        source = inspect.getsource(importlib.import_module("keras.src.applications.resnet"))
    if backbone.weights.hash is None:
        assert "file_hash" not in source  # Keras states none for MobileNet V1 and V2
    else:
        assert source.count(backbone.weights.hash) == 1


class _Asked(Exception):  # noqa: N818
    """Keras has asked for a weights file."""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", KERAS, ids=lambda backbone: backbone.name)
def test_keras_asks_for_this_file(backbone, monkeypatch):
    """File name, URL and hash are what Keras' builder would download."""
    import keras
    from keras.src.utils import file_utils

    def get_file(file, url, cache_subdir="", file_hash=None):
        raise _Asked(file, url, cache_subdir, file_hash)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    shape = (backbone.image_size, backbone.image_size, 3)
    with pytest.raises(_Asked) as asked:
        _builder(backbone)(weights="imagenet", include_top=False, input_shape=shape)
    weights = backbone.weights
    assert asked.value.args == (weights.file, weights.url, "models", weights.hash)
    keras.backend.clear_session()


def _builder(backbone):
    module, _, function = backbone.builder.partition(":")
    return getattr(importlib.import_module(module), function)
