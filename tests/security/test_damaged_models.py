"""`.keras` files with any part changed: read as what they were, or refused in one line."""

import json
import tracemalloc

import keras
import numpy as np
import pytest
from damage import changed, damaged
from hypothesis import example, given, settings
from small_files import dense_config, functional, hdf5, keras_file, part

from tlkit.errors import WeightsError
from tlkit.models.reader import read_model

QUICK = settings(deadline=None, max_examples=30)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where the files are written, one over the other."""
    return tmp_path_factory.mktemp("models") / "model.keras"


def outcome(path, content):
    """Return the model in a file, or the line with which it is refused."""
    path.write_bytes(content)
    try:
        return read_model(path)
    except WeightsError as error:
        return str(error)


def check(found):
    if isinstance(found, str):
        assert "\n" not in found
        assert len(found) < 1000
    else:
        assert isinstance(found, keras.Model)


def test_the_sound_file_is_read(path):
    model = outcome(path, keras_file())
    np.testing.assert_array_equal(model.get_weights()[0], np.arange(12).reshape(4, 3))


@QUICK
@given(config=changed(dense_config()))
@example(config=dense_config(units=10**30))
@example(config=functional(part("Dense", inputs=["image"], units=3, name="../../x")))
@example(config=functional(part("Reshape", inputs=["image"], target_shape=[10**30, -1])))
@example(config=functional(part("RepeatVector", inputs=["image"], n=2**40), part("Dense", inputs=["image"], units=3)))
@example(config={"class_name": ["Dense"], "module": {"a": 1}})
@example(config={"class_name": "Dense", "module": "keras.layers", "config": {"units": 3}})
@example(config={"class_name": "__numpy__", "module": None, "config": {"value": [0] * 9, "dtype": "S1000000000"}})
def test_any_configuration_is_built_or_refused(config, path):
    check(outcome(path, keras_file(config=json.dumps(config).encode())))


HUGE = 400_000_000
GROWN = part("BroadcastTo", name="grown", shape=[HUGE]) | {
    "module": "keras.src.ops.numpy",
    "registered_name": "BroadcastTo",
    "inbound_nodes": [
        {"args": [{"class_name": "__numpy__", "config": {"value": [1.0], "dtype": "float32"}}], "kwargs": {}}
    ],
}
BESIDE = part("InputLayer", name="beside", batch_shape=[None, HUGE], dtype="float32")
SPREAD = part("Normalization", inputs=["beside"], name="spread", axis=[1], mean=0.0, variance=1.0)
HALVES = [
    part("InputLayer", name="beside", batch_shape=[None, HUGE // 8], dtype="float32"),
    part("Normalization", inputs=["beside"], name="spread", axis=[1], mean=0.0, variance=1.0),
]


@pytest.mark.parametrize("more", [[GROWN], [BESIDE, SPREAD], HALVES], ids=["constant", "input", "normalization"])
def test_constants_that_grow_while_the_graph_is_built_are_refused(more, path):
    """Keras computes them at once: 16 KB would take gigabytes."""
    config = functional(*more, part("Dense", inputs=["image"], units=3))
    said = outcome(path, keras_file(config=json.dumps(config).encode()))
    assert "constants alone" in said or "takes arrays of shape" in said or "more weights than" in said


def test_statistics_of_colours_in_the_settings_are_read(path):
    norm = part("Normalization", inputs=["image"], axis=[1], mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 1.0, 1.0, 1.0])
    config = functional(norm, part("Dense", inputs=["normalization"], units=3))
    check(model := outcome(path, keras_file(config=json.dumps(config).encode())))
    assert isinstance(model, keras.Model), model


def test_statistics_of_many_numbers_in_the_file_are_read(path):
    norm = keras.layers.Normalization()
    norm.build((None, many := 70_000))
    keras.Sequential([keras.Input((many,)), norm]).save(path)
    check(model := outcome(path, path.read_bytes()))
    assert isinstance(model, keras.Model), model


def test_what_a_model_in_a_model_makes_counts(path):
    layers = keras.layers.UpSampling2D(8000), keras.layers.GlobalAveragePooling2D()
    inner = keras.Sequential([keras.Input((4, 4, 3)), *layers])
    image = keras.Input((4, 4, 3))
    keras.Model(image, keras.layers.Dense(2)(inner(image))).save(path)
    assert "makes (None, 32000, 32000, 3) of an image" in outcome(path, path.read_bytes())


@QUICK
@given(weights=damaged([hdf5()]))
def test_any_arrays_are_loaded_or_refused(weights, path):
    check(outcome(path, keras_file(weights=weights)))


@QUICK
@given(content=damaged([keras_file()]))
@example(content=b"PK\x05\x06" + b"\xff" * 16 + b"\0\0")
@example(content=b"")
def test_any_archive_is_read_or_refused(content, path):
    check(outcome(path, content))


def test_outputs_that_fit_into_no_memory_are_refused(path):
    wide = [part("RepeatVector", inputs=["image"], n=2**30), part("Dense", inputs=["image"], units=3)]
    config = functional(*wide)
    config["config"]["output_layers"] = [["repeatvector", 0, 0], ["dense", 0, 0]]
    said = outcome(path, keras_file(config=config))
    assert "repeatvector makes" in said


def test_a_split_into_a_billion_is_refused_before_it_is_made(path):
    split = {"class_name": "Split", "module": "keras.src.ops.numpy", "registered_name": "Split", "name": "split",
             "config": {"indices_or_sections": 10**9, "axis": -1, "name": "split"}, "inbound_nodes": []}  # fmt: skip
    tracemalloc.start()
    said = outcome(path, keras_file(config=functional(split)))
    assert "more parts than any net" in said
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
