"""What Keras lacks, against computations written out."""

import keras
import numpy as np
import pytest
from keras import layers

from tlkit.models.nets import parts

IMAGES = np.random.default_rng(0).normal(0, 30, (2, 3, 4, 8)).astype("float32")


def run(function, array):
    """Compute a function of KerasTensors."""
    tensor = keras.Input(array.shape[1:])
    return np.asarray(keras.Model(tensor, function(tensor))(array))


def normalized(a, neighbours, k, alpha, beta):
    """Section 3.3 of Krizhevsky et al., one value at a time."""
    b = np.zeros_like(a)
    maps = a.shape[-1]
    for i in range(maps):
        low, high = max(0, i - neighbours // 2), min(maps - 1, i + neighbours // 2)
        total = np.zeros(a.shape[:-1])
        for j in range(low, high + 1):
            total += a[..., j].astype("float64") ** 2
        b[..., i] = a[..., i] / (k + alpha * total) ** beta
    return b


@pytest.mark.parametrize(("neighbours", "k", "alpha", "beta"), [(5, 2.0, 1e-4, 0.75), (3, 1.0, 0.1, 0.5)])
def test_local_response_normalization_is_the_papers_formula(neighbours, k, alpha, beta):
    settings = {"neighbours": neighbours, "k": k, "alpha": alpha, "beta": beta}
    received = run(lambda x: parts.local_response_normalization(x, "norm", **settings), IMAGES)
    np.testing.assert_allclose(received, normalized(IMAGES, **settings), rtol=1e-5)


def test_the_defaults_are_alexnets_and_alpha_is_that_of_tensorflow():
    import tensorflow as tf

    received = run(lambda x: parts.local_response_normalization(x, "norm"), IMAGES)
    np.testing.assert_allclose(received, normalized(IMAGES, 5, 2.0, 1e-4, 0.75), rtol=1e-5)
    theirs = tf.nn.local_response_normalization(IMAGES, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75)
    np.testing.assert_allclose(received, theirs, rtol=1e-5)


@pytest.mark.parametrize(("side", "expected"), [(111, 55), (110, 55), (55, 27), (27, 13), (13, 6), (3, 1), (2, 1)])
def test_overlapping_pooling_halves_and_leaves_no_row_out(side, expected):
    ramp = np.arange(side * side, dtype="float32").reshape(1, side, side, 1)
    pooled = run(lambda x: parts.overlapping_pooling(x, "pool"), ramp)
    assert pooled.shape == (1, expected, expected, 1)
    assert pooled.max() == ramp.max()  # which is in the last row and column


def test_grouped_convolution_is_that_of_keras():
    settings = {"padding": "same", "kernel_initializer": parts.gaussian(0.1), "bias_initializer": "ones"}
    image = keras.Input((3, 4, 8))
    split = keras.Model(image, parts.grouped_convolution(image, 6, 3, 2, "conv", **settings))
    whole = layers.Conv2D(6, 3, groups=2, padding="same")
    whole.build((None, 3, 4, 8))
    kernels, biases = zip(*(split.get_layer(f"conv_{number}").get_weights() for number in (1, 2)), strict=True)
    whole.set_weights([np.concatenate(kernels, axis=-1), np.concatenate(biases)])
    np.testing.assert_allclose(split(IMAGES), whole(IMAGES), rtol=1e-4, atol=1e-4)
    assert split.output_shape == (None, 3, 4, 6)
    assert split.count_params() == 2 * (3 * 3 * 4 * 3 + 3)


def test_layers_that_share_an_initializer_do_not_share_their_values():
    """An initializer object would give every group, and every output, the same values."""
    image = keras.Input((3, 4, 8))
    x = parts.grouped_convolution(image, 8, 3, 2, "conv", kernel_initializer=parts.gaussian(0.1))
    outputs = parts.classify_with_two_hidden(x, {"a": 3, "b": 3}, width=8, initializer=parts.uniform(0.1))
    model = keras.Model(image, outputs)
    for one, other in (("conv_1", "conv_2"), ("a_logits", "b_logits")):
        assert (model.get_layer(one).get_weights()[0] != model.get_layer(other).get_weights()[0]).all()
    assert 0.05 < np.std(model.get_layer("conv_1").get_weights()[0]) < 0.15
    assert 0.09 < np.abs(model.get_layer("fc7").get_weights()[0]).max() <= 0.1


@pytest.mark.parametrize("shape", [(5,), (3, 4, 5)])
def test_maxout_is_the_largest_of_its_linear_functions_and_loads_bare(shape, tmp_path):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, parts.maxout(inputs, 2, 3, "maxout"))
    x = np.random.default_rng(0).standard_normal((7, *shape)).astype(np.float32)
    kernel = np.asarray(model.get_layer("maxout").kernel)
    expected = np.stack([(x @ kernel[:, 3 * unit : 3 * unit + 3]).max(axis=-1) for unit in range(2)], axis=-1)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "maxout.keras")
    again = keras.saving.load_model(tmp_path / "maxout.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
