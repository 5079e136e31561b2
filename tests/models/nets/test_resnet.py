"""Plain and residual nets for ImageNet, against the paper's tables and against Keras's ResNet-50."""

import csv

import keras
import numpy as np
import pytest
from counting import depth, multiply_accumulates, trainable_parameters
from keras import layers
from weightless import shapes, whole_net

from tlkit.catalog import NETS
from tlkit.data.augment import evaluation_view
from tlkit.data.decode import decode
from tlkit.models.backbones import SCALINGS, build_classifier
from tlkit.models.nets import resnet

# Trainable parameters as sums: the weights of each convolution, and BatchNorm's scale and offset per channel.
STEM = 7 * 7 * 3 * 64 + 2 * 64
WIDTHS = (64, 128, 256, 512)


def basic(inputs, width):
    """A unit of two 3x3 convolutions; `inputs` channels come in, `width` go out."""
    return 3 * 3 * inputs * width + 3 * 3 * width * width + 2 * (width + width)


def bottleneck(inputs, width):
    """A unit of 1x1, 3x3 and 1x1 convolutions; `4 * width` channels go out."""
    return inputs * width + 3 * 3 * width * width + width * 4 * width + 2 * (width + width + 4 * width)


def projection(inputs, outputs):
    return inputs * outputs + 2 * outputs


def units(unit, counts, expansion):
    """All units of a net: the first at each resolution takes what the one before put out."""
    total, inputs = 0, 64
    for width, count in zip(WIDTHS, counts, strict=True):
        total += unit(inputs, width) + (count - 1) * unit(expansion * width, width)
        inputs = expansion * width
    return total


def dense(inputs):
    return inputs * 1000 + 1000


PROJECTIONS_B = projection(64, 128) + projection(128, 256) + projection(256, 512)
PROJECTIONS_C34 = (  # also where nothing changes: in all 3 + 4 + 6 + 3 units
    3 * projection(64, 64) + 3 * projection(128, 128) + 5 * projection(256, 256) + 2 * projection(512, 512)
) + PROJECTIONS_B
PROJECTIONS_B_WIDE = projection(64, 256) + projection(256, 512) + projection(512, 1024) + projection(1024, 2048)
PLAIN18 = STEM + units(basic, (2, 2, 2, 2), 1) + dense(512)
PLAIN34 = STEM + units(basic, (3, 4, 6, 3), 1) + dense(512)
SUMS = {
    "plain18": PLAIN18,
    "plain34": PLAIN34,
    "resnet18_a": PLAIN18,
    "resnet18_b": PLAIN18 + PROJECTIONS_B,
    "resnet34_a": PLAIN34,
    "resnet34_b": PLAIN34 + PROJECTIONS_B,
    "resnet34_c": PLAIN34 + PROJECTIONS_C34,
    "resnet50_b": STEM + units(bottleneck, (3, 4, 6, 3), 4) + PROJECTIONS_B_WIDE + dense(2048),
    "resnet101_b": STEM + units(bottleneck, (3, 4, 23, 3), 4) + PROJECTIONS_B_WIDE + dense(2048),
    "resnet152_b": STEM + units(bottleneck, (3, 8, 36, 3), 4) + PROJECTIONS_B_WIDE + dense(2048),
}
# As they are known, for shortcuts B: of trainable parameters.
KNOWN = {
    "resnet18_b": 11_689_512,
    "resnet34_b": 21_797_672,
    "resnet50_b": 25_557_032,
    "resnet101_b": 44_549_160,
    "resnet152_b": 60_192_808,
}
DEPTHS = {name: int("".join(filter(str.isdigit, name))) for name in SUMS}
# Table 1, last row: multiply-adds. With the stride in the 3x3 convolutions, 50 layers would need 4.1e9.
TABLE_1 = {"resnet18_b": 1.8e9, "resnet34_b": 3.6e9, "resnet50_b": 3.8e9, "resnet101_b": 7.6e9, "resnet152_b": 11.3e9}


@pytest.fixture(autouse=True)
def fresh():
    yield
    keras.backend.clear_session()


@pytest.mark.parametrize("name", SUMS)
def test_parameters_depth_and_operations(name):
    model = whole_net(name)
    assert trainable_parameters(model) == SUMS[name] == KNOWN.get(name, SUMS[name])
    assert model.count_params() == NETS[name].parameters
    assert depth(model) == DEPTHS[name]
    if name in TABLE_1:
        assert multiply_accumulates(model) == pytest.approx(TABLE_1[name], abs=0.1e9)


@pytest.mark.parametrize("name", ["plain34", "resnet34_a", "resnet34_b", "resnet34_c"])
def test_shapes_of_34_layers(name):
    ends = ("conv1", "pool1", "conv2_3", "conv3_4", "conv4_6", "conv5_3")
    assert shapes(whole_net(name), ends) == [
        (112, 112, 64),
        (56, 56, 64),
        (56, 56, 64),
        (28, 28, 128),
        (14, 14, 256),
        (7, 7, 512),
    ]


def test_shapes_of_50_layers():
    """Bottlenecks halve the sides in their first 1x1 convolution."""
    model = whole_net("resnet50_b")
    ends = [(56, 56, 256), (28, 28, 512), (14, 14, 1024), (7, 7, 2048)]
    assert shapes(model, ["conv2_3", "conv3_4", "conv4_6", "conv5_3"]) == ends
    inside = [(28, 28, 128), (28, 28, 128), (28, 28, 512)]
    assert shapes(model, ["conv3_1_conv1", "conv3_1_conv2", "conv3_1_conv3"]) == inside
    assert shapes(model, ["conv3_1_shortcut"]) == [(28, 28, 512)]


@pytest.mark.parametrize("layers_deep", [18, 34])
def test_zero_padded_shortcuts_add_no_parameters(layers_deep):
    plain, residual = (whole_net(name) for name in (f"plain{layers_deep}", f"resnet{layers_deep}_a"))
    assert [weight.shape for weight in plain.weights] == [weight.shape for weight in residual.weights]


@pytest.mark.parametrize(("strides", "filters"), [(1, 3), (1, 8), (2, 8)])
def test_a_zero_padded_shortcut_is_the_identity_on_what_it_pads(strides, filters):
    image = keras.Input((5, 5, 3))
    model = keras.Model(image, resnet.shortcut_a(image, filters, strides, "unit"))
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    y = np.asarray(model(x))
    np.testing.assert_array_equal(y[..., :3], x[:, ::strides, ::strides])
    np.testing.assert_array_equal(y[..., 3:], np.zeros((2, *y.shape[1:3], filters - 3)))
    assert model.weights == []


def test_strided_convolutions_sit_on_the_pixels_that_shortcuts_take():
    """A kernel with a one in its middle, of stride 2, is the shortcut that takes every other pixel."""
    image = keras.Input((6, 6, 1))
    convolution = keras.Model(image, resnet.convolve(image, 1, 3, strides=2))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    convolution.set_weights([kernel])
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype("float32")
    shortcut = keras.Model(image, resnet.shortcut_a(image, 1, 2, "unit"))
    np.testing.assert_array_equal(convolution(x), shortcut(x))


def test_resnet50_is_keras_resnet50_without_biases():
    """Keras's convolutions have a bias per filter, which the BatchNorm after it makes needless."""
    per_unit = [(1 + 1 + 4) * width for width in WIDTHS]
    biases = 64 + sum(count * one for count, one in zip((3, 4, 6, 3), per_unit, strict=True))
    biases += sum(4 * width for width in WIDTHS)  # of the four projections
    assert biases == 26_560
    theirs = keras.applications.ResNet50(weights=None)
    assert theirs.count_params() == NETS["resnet50_b"].parameters + biases
    assert trainable_parameters(theirs) == SUMS["resnet50_b"] + biases


def copy_from_keras(theirs, ours):
    """Give our ResNet-50 the weights of Keras's.

    The mapping, for each convolution and the BatchNorm after it:

    * `conv1_conv` is ours of that name; `conv<s>_block<u>_<i>_conv` is our `conv<s>_<u>_conv<i>`, for i = 0
      `conv<s>_<u>_shortcut`; `predictions` is `label_logits`.
    * Kernels, scales and offsets are the same.
    * Their bias, which ours lacks, shifts what BatchNorm gets: our moving mean is theirs less the bias.
    * Their epsilon is 1.001e-5 where ours is 1e-5: our moving variance is theirs plus the difference.
    """
    norms = {id(layer.input): layer for layer in ours.layers if isinstance(layer, layers.BatchNormalization)}
    copied = set()
    for layer in theirs.layers:
        if not isinstance(layer, layers.Conv2D):
            continue
        stage, *unit = layer.name.removesuffix("_conv").split("_")
        part = "shortcut" if unit[1:] == ["0"] else f"conv{unit[-1] if unit else ''}"
        mine = ours.get_layer(f"{stage}_{unit[0].removeprefix('block')}_{part}" if unit else "conv1_conv")
        kernel, bias = layer.get_weights()
        mine.set_weights([kernel])
        their_norm, our_norm = theirs.get_layer(layer.name.replace("_conv", "_bn")), norms[id(mine.output)]
        scale, offset, mean, variance = their_norm.get_weights()
        our_norm.set_weights([scale, offset, mean - bias, variance + their_norm.epsilon - our_norm.epsilon])
        copied |= {mine.name, our_norm.name}
    ours.get_layer("label_logits").set_weights(theirs.get_layer("predictions").get_weights())
    assert copied | {"label_logits"} == {layer.name for layer in ours.layers if layer.weights}


@pytest.mark.slow
def test_resnet50_with_real_weights_gives_the_logits_of_keras_resnet50(shared_data, shared_weights):
    theirs = build_classifier("resnet50", weights=shared_weights / "resnet50_imagenet.weights.h5")
    image = keras.Input((224, 224, 3))
    features = resnet.resnet50_b(SCALINGS["caffe"](image))  # as these weights were trained
    ours = keras.Model(image, resnet.top(features, {"label": 1000})["label"])
    copy_from_keras(theirs, ours)
    photos, classes = ten_photos(shared_data / "imagenet100")
    logits = ours.predict(photos, verbose=0)
    pooled = keras.Model(theirs.inputs[0], theirs.get_layer("avg_pool").output).predict(photos, verbose=0)
    kernel, bias = theirs.get_layer("predictions").get_weights()
    expected = pooled @ kernel + bias
    print(f"largest logit {expected.max():.2f}, largest difference {np.abs(logits - expected).max():.1e}")
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert (logits.argmax(axis=-1) == classes).mean() >= 0.8


def ten_photos(folder):
    """Return every tenth photo as a network sees it, uint8 (10, 224, 224, 3), and their class indices."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))[::10]
    photos = [evaluation_view(decode((folder / row["path"]).read_bytes()), 224, "crop") for row in rows]
    return np.stack(photos), np.array([int(row["class_index"]) for row in rows])
