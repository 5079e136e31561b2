"""BatchNorm in one operation against Keras's own: the same training, in less time."""

import keras
import numpy as np
import pytest
from keras import layers

from tlkit.training.norms import norms_in_one_operation

random = np.random.default_rng(0)
IMAGES = random.normal(2.0, 3.0, (16, 8, 8, 3)).astype("float32")
LABELS = random.integers(0, 3, 16)


def make_net(**options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(name="norm", momentum=0.7, epsilon=0.01, **options)(layers.Conv2D(5, 3)(inputs))
    x = layers.BatchNormalization(name="held", trainable=False)(layers.Conv2D(5, 3)(layers.ReLU()(x)))
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=False)
    return model


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}])
def test_steps_are_those_of_keras(options):
    """Weights and moving statistics after five steps, of a layer that trains and of one that is held."""
    plain, fast = make_net(**options), make_net(**options)
    for _ in range(5):
        plain.train_on_batch(IMAGES, LABELS)
        with norms_in_one_operation(fast):
            fast.train_on_batch(IMAGES, LABELS)
    assert abs(fast.get_layer("norm").moving_variance.numpy() - 1).max() > 0.1
    for ours, theirs in zip(fast.variables, plain.variables, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6, err_msg=ours.path)


def test_only_layers_that_train_are_other_and_only_within():
    model = make_net()
    with norms_in_one_operation(model):
        assert type(model.get_layer("norm")) is not layers.BatchNormalization
        assert type(model.get_layer("held")) is layers.BatchNormalization
    assert type(model.get_layer("norm")) is layers.BatchNormalization


def test_what_is_beyond_the_paper_stays_with_keras():
    inputs = keras.Input((4, 5))
    model = keras.Model(inputs, layers.BatchNormalization(name="norm")(inputs))
    renorm = keras.Sequential([keras.Input((4, 4, 3)), layers.BatchNormalization(name="norm", renorm=True)])
    for each in (model, renorm):
        with norms_in_one_operation(each):
            assert type(each.get_layer("norm")) is layers.BatchNormalization
