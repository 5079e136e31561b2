"""Heads: what their poolings compute, and what is said of values out of range."""

import keras
import numpy as np
import pytest

import tlkit
from tlkit.errors import RecipeError, TlkitError
from tlkit.models.heads import POOLINGS, cosine_logits, make_head
from tlkit.tasks import Task

TASKS = {"label": Task("single_label", ("ant", "bee", "cat"))}
FEATURES = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype("float32")  # half of them negative


def pooled(name, features):
    image = keras.Input(features.shape[1:])
    return np.asarray(keras.Model(image, POOLINGS[name](image))(features))


def test_average_and_maximum():
    np.testing.assert_allclose(pooled("avg", FEATURES), FEATURES.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(pooled("max", FEATURES), FEATURES.max(axis=(1, 2)))
    both = np.concatenate([FEATURES.mean(axis=(1, 2)), FEATURES.max(axis=(1, 2))], axis=-1)
    np.testing.assert_allclose(pooled("avg+max", FEATURES), both, rtol=1e-5)


def test_gem_is_the_generalized_mean():
    expected = np.mean(np.maximum(FEATURES, 1e-6).astype("float64") ** 3, axis=(1, 2)) ** (1 / 3)
    np.testing.assert_allclose(pooled("gem", FEATURES), expected, rtol=1e-5)
    constant = np.full((1, 4, 4, 2), 2.5, "float32")
    np.testing.assert_allclose(pooled("gem", constant), [[2.5, 2.5]], rtol=1e-6)


@pytest.mark.parametrize("features", [FEATURES, np.zeros_like(FEATURES), -np.abs(FEATURES)])
def test_gem_has_finite_gradients_also_where_nothing_is_positive(features):
    image = keras.Input(features.shape[1:])
    x = keras.layers.Conv2D(2, 1, kernel_initializer="ones")(image)
    model = keras.Model(image, keras.layers.Dense(1)(POOLINGS["gem"](x)))
    model.compile("sgd", "mse")
    model.fit(features, np.ones((2, 1)), epochs=2, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_have_one_column_per_class(pooling):
    image = keras.Input((4, 5, 6))
    assert make_head(TASKS, pooling=pooling)(image).shape == (None, 3)


def test_several_tasks_share_all_but_the_last_layer():
    tasks = TASKS | {"colour": Task("single_label", ("red", "blue"))}
    image = keras.Input((4, 5, 6))
    logits = make_head(tasks, hidden=(8, 7), dropout=0.1)(image)
    assert {name: logit.shape for name, logit in logits.items()} == {"label": (None, 3), "colour": (None, 2)}
    model = keras.Model(image, logits)
    assert model.count_params() == (6 * 8 + 8) + (8 * 7 + 7) + (7 * 3 + 3) + (7 * 2 + 2)
    assert sum(isinstance(layer, keras.layers.Dropout) for layer in model.layers) == 3


def test_l1_and_l2_enter_the_loss():
    image = keras.Input((1, 1, 2))
    model = keras.Model(image, make_head(TASKS, dropout=0, l1=0.1, l2=0.01)(image))
    (kernel,) = (weight for weight in model.weights if weight.name == "kernel")
    kernel.assign(np.full((2, 3), 2.0))
    assert float(sum(model.losses)) == pytest.approx(0.1 * 12 + 0.01 * 24)


def last_layers(**settings):
    """Return a small head as a model, with its hidden and last layers' kernels by layer."""
    image = keras.Input((1, 1, 4))
    model = keras.Model(image, make_head(TASKS, dropout=0, hidden=(6,), **settings)(image))
    return model, {layer.name: layer.kernel for layer in model.layers if hasattr(layer, "kernel")}


def cosine_model(width=5, classes=3):
    features = keras.Input((width,))
    model = keras.Model(features, cosine_logits(features, classes, "label"))
    return model, model.get_layer("label_vectors").kernel, model.get_layer("label_scale").kernel


def test_cosine_logits_are_ten_times_the_cosine():
    model, vectors, scale = cosine_model(width=2)
    vectors.assign([[[3.0, 0.0, -1.0], [4.0, 0.5, 1.0]]])  # the directions (3, 4), (0, 1), (-1, 1), one a column
    expected = [[6.0, 0.0, -10 / 2**0.5], [8.0, 10.0, 10 / 2**0.5]]
    np.testing.assert_allclose(model(np.array([[7.0, 0.0], [0.0, 0.1]])), expected, rtol=1e-6, atol=1e-6)
    vectors.assign(0.2 * vectors)  # as decay would, or averaging
    np.testing.assert_allclose(model(np.array([[7.0, 0.0], [0.0, 0.1]])), expected, rtol=1e-6, atol=1e-6)
    scale.assign([20.0])
    np.testing.assert_allclose(model(np.array([[7.0, 0.0]])), [[12.0, 0.0, -20 / 2**0.5]], rtol=1e-6, atol=1e-6)


def test_cosines_train_and_stay_cosines():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 5)).astype("float32"), np.arange(60) % 3
    features[np.arange(60), labels] += 3
    keras.utils.set_random_seed(0)
    model, vectors, scale = cosine_model()
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(features, labels, epochs=30, verbose=0)
    assert np.mean(np.argmax(model(features), axis=1) == labels) > 0.9
    assert abs(float(scale[0]) - 10) > 0.01  # it is learned
    rows, columns = features.astype("float64"), keras.ops.convert_to_numpy(vectors)[0].astype("float64")
    cosines = rows @ columns / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(columns, axis=0)
    np.testing.assert_allclose(model(features), float(scale[0]) * cosines, atol=1e-4)


def test_cosines_of_features_that_are_all_zero_train():
    image = keras.Input((1, 1, 4))
    model = keras.Model(image, make_head(TASKS, hidden=(3,), logits="cosine")(image))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.zeros((4, 1, 1, 4)), np.array([0, 1, 2, 0]), verbose=0)
    np.testing.assert_array_equal(model(np.zeros((2, 1, 1, 4))), np.zeros((2, 3)))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_with_cosines_numbers_stay_linear():
    tasks = TASKS | {"age": Task("regression"), "tags": Task("multilabel", ("wet", "dark"))}
    image = keras.Input((1, 1, 4))
    model = keras.Model(image, make_head(tasks, logits="cosine")(image))
    random = np.random.default_rng(0).normal(size=(1, 1, 1, 4)).astype("float32")
    once, twice = model(random), model(2 * random)
    assert {name: values.shape for name, values in once.items()} == {"label": (1, 3), "age": (1, 1), "tags": (1, 2)}
    np.testing.assert_allclose(twice["age"], 2 * once["age"], rtol=1e-5)
    for name in ("label", "tags"):
        np.testing.assert_allclose(twice[name], once[name], rtol=1e-4, atol=1e-5)


def test_max_norm_holds_every_units_weights():
    model, kernels = last_layers(max_norm=0.7)
    model.compile(keras.optimizers.SGD(10.0), "mse")
    model.fit(np.ones((8, 1, 1, 4)), np.full((8, 3), 50.0), epochs=3, verbose=0)
    lengths = {name: np.linalg.norm(kernel, axis=0) for name, kernel in kernels.items()}
    assert set(lengths) == {"hidden1", "label_logits"}
    assert max(length.max() for length in lengths.values()) == pytest.approx(0.7, rel=1e-4)
    assert lengths["label_logits"].min() == pytest.approx(0.7, rel=1e-4)  # all three are pulled the same way


def test_the_last_layer_begins_at_zero_if_asked():
    _, kernels = last_layers(init="zeros")
    assert not np.any(kernels["label_logits"])
    assert np.all(kernels["hidden1"])
    for init in ("random", "probe"):
        _, kernels = last_layers(init=init)
        assert np.all(kernels["label_logits"])


def test_build_model_hands_its_arguments_to_the_head():
    small = {"weights": "none", "image_size": 32}
    linear = tlkit.build_model("mobilenet_v3_small", TASKS, init="zeros", max_norm=2.5, **small).get_layer(
        "label_logits"
    )
    assert not np.any(linear.kernel)
    assert linear.kernel_constraint.max_value == 2.5
    cosine = tlkit.build_model("mobilenet_v3_small", TASKS, logits="cosine", **small)
    assert cosine.get_layer("label_scale").kernel[0] == 10
    with pytest.raises(RecipeError, match=r"`head\.logits`.*'cos'"):
        tlkit.build_model("mobilenet_v3_small", TASKS, logits="cos", **small)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"pooling": "average"}, "`pooling` must be one of avg, max, avg.max, gem. Received: 'average'"),
        ({"dropout": 1.0}, "`dropout` must be in"),
        ({"hidden": (0,)}, "`hidden` must hold widths"),
        ({"l2": -1.0}, "must be at least 0"),
        ({"max_norm": -1.0}, "must be at least 0. Received: l1=0.0, l2=0.0, max_norm=-1.0"),
        ({"logits": "cosin"}, "`logits` must be one of linear, cosine. Received: 'cosin'. Did you mean 'cosine'"),
        ({"init": "ones"}, "`init` must be one of probe, random, zeros. Received: 'ones'"),
        ({"init": "zeros", "logits": "cosine"}, "zero has no direction"),
    ],
)
def test_values_out_of_range_are_refused(setting, said):
    with pytest.raises(TlkitError, match=said):
        make_head(TASKS, **setting)
