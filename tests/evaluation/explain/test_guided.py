"""Guided backpropagation and the plain gradient, against slopes worked out by hand; the model stays as it was."""

import keras
import numpy as np
import pytest

from tlkit.catalog import BACKBONES
from tlkit.evaluation.explain.gradients import guided_copy, input_gradients
from tlkit.evaluation.explain.targets import before_gate
from tlkit.models.backbones import build_backbone
from tlkit.tasks import Task

TASKS = {"n": Task("regression")}
WEIGHTS = np.array([1.0, -2.0, 3.0])  # of the gate's outputs, one a colour
IMAGE = np.array([[[2.0, 3.0, -4.0], [-1.0, 5.0, 7.0]]], np.float32)  # 1 x 2 pixels; what goes into the gate


def make(gate):
    """The image, through a gate, each colour weighed, summed over the image."""
    image = keras.Input((1, 2, 3))
    weigh = keras.layers.Conv2D(1, 1, use_bias=False)
    x = keras.layers.Flatten()(weigh(gate(image)))
    total = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(x)
    model = keras.Model(image, keras.layers.Rescaling(1.0, offset=0.0, name="n")(total))
    weigh.set_weights([WEIGHTS.reshape(1, 1, 3, 1)])
    return model


def conv_relu(image):
    """A gate inside a layer, behind a convolution that changes nothing."""
    layer = keras.layers.Conv2D(3, 1, activation="relu", use_bias=False)
    y = layer(image)
    layer.set_weights([np.eye(3)[None, None]])
    return y


def nested(image):
    inner = keras.Input((1, 2, 3))
    return keras.Model(inner, keras.layers.ReLU()(inner))(image)


GATES = {
    "layer": keras.layers.ReLU(),
    "activation": keras.layers.Activation("relu"),
    "operation": keras.ops.relu,
    "inside a layer": conv_relu,
    "nested": nested,
    "relu6": keras.layers.ReLU(6.0),
}


@pytest.mark.parametrize("name", GATES)
def test_nothing_goes_back_through_a_closed_gate(name):
    """Blue of pixel 0 and red of pixel 1 are closed, and green's slope is below zero: only 1 and 3 come through."""
    expected = np.array([[[1, 0, 0], [0, 0, 3]]], np.float64)
    if name == "relu6":
        expected[0, 1, 2] = 0  # 7 is beyond 6
    model = make(GATES[name])
    guided = input_gradients(guided_copy(model), TASKS, IMAGE[None], "n", [0])
    np.testing.assert_allclose(guided[0], expected, atol=1e-6)


def test_smooth_gates_keep_their_own_slope():
    model = make(keras.layers.Activation("silu"))
    plain, guided = (input_gradients(net, TASKS, IMAGE[None], "n", [0])[0] for net in (model, guided_copy(model)))
    sigmoid = 1 / (1 + np.exp(-IMAGE.astype(np.float64)))
    slope = WEIGHTS * sigmoid * (1 + IMAGE * (1 - sigmoid))
    np.testing.assert_allclose(plain, slope, atol=1e-5)
    np.testing.assert_allclose(guided, np.where((IMAGE > 0) & (WEIGHTS > 0), slope, 0), atol=1e-5)


def test_the_plain_gradient_is_the_slope():
    plain = input_gradients(make(keras.layers.ReLU()), TASKS, IMAGE[None], "n", [0])
    np.testing.assert_allclose(plain[0], WEIGHTS * (IMAGE > 0), atol=1e-6)


SLOW = ("efficientnet_lite0", "resnet50", "efficientnet_b0", "convnext_tiny", "nasnet_mobile", "inception_resnet_v2")


@pytest.mark.parametrize("name", ["mobilenet_v3_small", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_copy_says_the_same_and_the_model_is_left_as_it_was(name):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    size = max(32, BACKBONES[name].smallest_image)
    model = build_backbone(name, image_size=size)
    before, described = model.get_weights(), model.to_json()
    nodes = [(len(operation._inbound_nodes), len(operation._outbound_nodes)) for operation in model.operations]
    image = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    copy = guided_copy(model)
    np.testing.assert_allclose(copy(image, training=False), model(image, training=False), rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    assert described == model.to_json()
    after = [(len(operation._inbound_nodes), len(operation._outbound_nodes)) for operation in model.operations]
    assert after == nodes
    assert not {id(weight) for weight in copy.weights} & {id(weight) for weight in model.weights}


def test_before_the_gate():
    image = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 1)(image)
    gated = keras.layers.ReLU(6.0)(x)
    model = keras.Model(image, gated)
    assert before_gate(model, gated) is x
    assert before_gate(model, x) is x
