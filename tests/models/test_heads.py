"""Heads: what their poolings compute, and what is said of values out of range."""

import keras
import numpy as np
import pytest

from tlkit.errors import TlkitError
from tlkit.models.heads import POOLINGS, make_head
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


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"pooling": "average"}, "`pooling` must be one of avg, max, avg.max, gem. Received: 'average'"),
        ({"dropout": 1.0}, "`dropout` must be in"),
        ({"hidden": (0,)}, "`hidden` must hold widths"),
        ({"l2": -1.0}, "must be at least 0"),
    ],
)
def test_values_out_of_range_are_refused(setting, said):
    with pytest.raises(TlkitError, match=said):
        make_head(TASKS, **setting)
