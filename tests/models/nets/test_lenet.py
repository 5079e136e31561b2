"""LeNet-5: its counts, its table of connections, its options."""

import keras
import numpy as np
import pytest
from keras import layers
from weightless import parameters_by_layer, shapes, whole_net

from tlkit.errors import TlkitError
from tlkit.models.backbones import build_backbone
from tlkit.models.nets.lenet import lenet

# Table I of the paper: a row for each map of S2, a column for each of C3.
TABLE_I = [
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
]


def body(**options):
    image = keras.Input((32, 32, 1))
    return keras.Model(image, lenet(image, **options))


def test_weights_without_biases_in_the_full_connection_form():
    model = whole_net("lenet5")
    weights = sum(np.prod(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel"))
    assert weights == 5 * 5 * 6 + 5 * 5 * 6 * 16 + 16 * 5 * 5 * 120 + 120 * 84 + 84 * 10 == 61_470
    assert model.count_params() == 61_470 + 6 + 16 + 120 + 84 + 10 == 61_706


def test_the_published_counts_of_1998():
    counts = parameters_by_layer(whole_net("lenet5_1998"))
    of_c3 = [counts.pop(f"c3_{number}") for number in range(16)]
    assert counts.pop("label_logits") == 84 * 10 + 10  # in 1998, distances from drawings that were not trained
    assert of_c3 == 6 * [3 * 25 + 1] + 9 * [4 * 25 + 1] + [6 * 25 + 1]
    assert sum(of_c3) == 60 * 25 + 16 == 1_516
    assert counts == {
        "c1": (5 * 5 + 1) * 6,  # 156
        "s2": 2 * 6,  # 12
        "s4": 2 * 16,  # 32
        "c5": (16 * 5 * 5 + 1) * 120,  # 48,120
        "f6": (120 + 1) * 84,  # 10,164
    }
    assert sum(counts.values()) + 1_516 == 60_000  # "60,000 trainable free parameters"


@pytest.mark.parametrize(("name", "ending"), [("lenet5", ""), ("lenet5_1998", "_squashed")])
def test_layer_shapes(name, ending):
    names = [f"{layer}{ending}" for layer in ("c1", "s2", "c3", "s4", "c5", "f6")]
    expected = [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (1, 1, 120), (84,)]
    assert shapes(whole_net(name), names) == expected


def test_a_map_of_c3_depends_on_its_maps_of_s2_and_on_no_other():
    import tensorflow as tf

    model = body(connections="partial")
    c3 = keras.Model(model.get_layer("s2").output, model.get_layer("c3").output)
    s2 = tf.constant(np.random.default_rng(0).normal(size=(2, 14, 14, 6)).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(s2)
        sums = [tf.reduce_sum(c3(s2)[..., number]) for number in range(16)]
    depends = np.array([np.any(np.asarray(tape.gradient(one, s2)), axis=(0, 1, 2)) for one in sums]).T
    assert ["".join("X" if seen else "." for seen in row) for row in depends] == TABLE_I
    assert depends.sum() == 60


def test_every_map_of_c3_sees_all_of_s2_in_the_full_form():
    assert body().get_layer("c3").kernel.shape == (5, 5, 6, 16)


def test_trainable_subsampling_is_a_coefficient_times_the_sum_plus_a_bias_squashed():
    model = body(subsampling="trainable", squashing="scaled_tanh")
    random = np.random.default_rng(0)
    image, coefficients, biases = (random.normal(size=shape) for shape in ((1, 32, 32, 1), 6, 6))
    model.get_layer("s2").set_weights([coefficients.reshape(1, 1, 6, 1), biases])
    parts = keras.Model(model.input, [model.get_layer("c1_squashed").output, model.get_layer("s2_squashed").output])
    c1, s2 = map(np.asarray, parts(image.astype("float32")))
    sums = c1[:, ::2, ::2] + c1[:, ::2, 1::2] + c1[:, 1::2, ::2] + c1[:, 1::2, 1::2]
    np.testing.assert_allclose(s2, 1.7159 * np.tanh(2 / 3 * (coefficients * sums + biases)), rtol=1e-4, atol=1e-5)


def test_the_scaled_tanh_leaves_one_where_it_is():
    """Appendix A: f(1) = 1 and f(-1) = -1."""
    assert abs(1.7159 * np.tanh(2 / 3) - 1) < 1e-4
    model = body(squashing="scaled_tanh")
    squash = keras.Model(model.get_layer("c5").output, model.output)
    ones = np.ones((1, 1, 1, 120), "float32")
    np.testing.assert_allclose(squash(ones), ones, atol=1e-4)
    np.testing.assert_allclose(squash(-ones), -ones, atol=1e-4)


def test_weights_begin_within_their_bounds():
    """Appendix A: uniform in 2.4 divided by the number of inputs, for the form of 1998."""
    model = build_backbone("lenet5_1998", weights="none")
    inputs = {"c1": 25, "s2": 4, "c3_0": 75, "c3_6": 100, "c3_15": 150, "s4": 4, "c5": 400}
    for name, fan_in in inputs.items():
        largest = np.abs(model.get_layer(name).get_weights()[0]).max()
        assert 0.5 * 2.4 / fan_in < largest <= 2.4 / fan_in


def test_average_and_maximum():
    assert isinstance(body().get_layer("s2"), layers.AveragePooling2D)
    assert isinstance(body(subsampling="max").get_layer("s4"), layers.MaxPooling2D)
    assert body(subsampling="max").count_params() == body().count_params()


def test_digits_of_28_pixels_get_a_margin_of_background():
    keras.utils.set_random_seed(0)
    small, large = (build_backbone("lenet5", weights="none", image_size=size) for size in (28, 32))
    large.set_weights(small.get_weights())
    digit = np.random.default_rng(0).uniform(0, 255, (1, 28, 28, 3)).astype("float32")
    with_margin = np.pad(digit, [(0, 0), (2, 2), (2, 2), (0, 0)])  # black is background
    np.testing.assert_allclose(small(digit), large(with_margin), rtol=1e-4, atol=1e-5)


def test_unknown_options_are_refused():
    with pytest.raises(TlkitError, match="`connections` must be one of full, partial"):
        body(connections="some")
