"""The reader of `.keras` files: it loads what tlkit writes and refuses what could run."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops

from tlkit.errors import WeightsError
from tlkit.models import reader
from tlkit.models.reader import read_model


def saved(model, folder):
    path = folder / "model.keras"
    model.save(path)
    return path


def edited(path, edit):
    """Write `path` anew with its configuration changed by `edit`."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    edit(config["config"])
    content["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def small():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-4), name="conv")(image)
    x = ops.power(ops.mean(ops.maximum(x, 1e-6) ** 3, axis=(1, 2)), 1 / 3)[:, ::2]
    return keras.Model(image, layers.Dense(2, name="dense")(layers.BatchNormalization()(x)), name="small")


def test_it_reads_built_in_layers_and_operations(small, tmp_path):
    small.compile("adam", "mse")
    images = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype("float32")
    loaded = read_model(saved(small, tmp_path))
    np.testing.assert_array_equal(loaded(images), small(images))
    assert not loaded.compiled


def test_a_lambda_is_refused(tmp_path):
    image = keras.Input((4,))
    model = keras.Model(image, layers.Lambda(lambda x: x * 2)(image))
    with pytest.raises(WeightsError, match=r"model\.keras: refused, because it holds '(Lambda|__lambda__)'"):
        read_model(saved(model, tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("kernel_initializer", {"module": "os", "class_name": "mkdir", "config": {"path": "exploited"}}, "mkdir"),
        ("activation", {"module": "builtins", "class_name": "function", "config": "eval"}, "function"),
        ("activation", {"class_name": "__lambda__", "config": {"value": "4wEA"}}, "__lambda__"),
        (
            "kernel_initializer",
            {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": "mine>Zeros"},
            "mine>Zeros",
        ),
        ("activation", {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}}, "TFSMLayer"),
    ],
)
def test_what_is_not_on_the_list_is_refused(key, value, named, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def edit(config):
        (layer,) = (layer for layer in config["layers"] if layer["name"] == "conv")
        layer["config"][key] = value

    with pytest.raises(WeightsError, match=f"holds '{named}'"):
        read_model(edited(saved(small, tmp_path), edit))
    assert not (tmp_path / "exploited").exists()


def test_another_shape_of_weights_is_refused(small, tmp_path):
    def edit(config):
        (layer,) = (layer for layer in config["layers"] if layer["name"] == "conv")
        layer["config"]["filters"] = 6

    with pytest.raises(WeightsError, match=r"model\.keras: can't be loaded"):
        read_model(edited(saved(small, tmp_path), edit))


def test_files_that_are_none_get_one_line(small, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="there is no such file"):
        read_model(tmp_path / "absent.keras")
    (tmp_path / "text.keras").write_text("no archive")
    with pytest.raises(WeightsError, match=r"text\.keras: is no readable \.keras file"):
        read_model(tmp_path / "text.keras")
    monkeypatch.setattr(reader, "LARGEST_CONFIG", 100)
    with pytest.raises(WeightsError, match=r"config\.json has \d+ bytes"):
        read_model(saved(small, tmp_path))
