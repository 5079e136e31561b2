"""From a name of the catalog to a graph: image in [0, 255] in, feature map out, scaling inside.

Every backbone is one flat functional graph: built-in layers and `keras.ops` only, each called once. So it can be cut at
any of its block ends, and what is saved loads where tlkit is not installed.
"""

import collections
import importlib
import inspect
import re

import keras
from keras import layers, ops

from tlkit.catalog import BUILDABLE, Net
from tlkit.errors import TlkitError, WeightsError, did_you_mean
from tlkit.models.efficientnet_lite import load_pytorch
from tlkit.models.pth import read_pth
from tlkit.models.reader import read_model
from tlkit.models.weights import count_arrays, find_backbone, find_weights, load_arrays, read_arrays

# Per channel, red first. The Caffe mean is of the photos as they are, the others of photos divided by 255.
CAFFE_MEAN = (123.68, 116.779, 103.939)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, what JPEG and OpenCV call grey
INK = (-0.1, 1.175)  # LeCun et al. 1998, section II.B: background and ink, so that the mean is near 0, the variance 1


def _scale_caffe(image):
    centred = layers.Normalization(mean=CAFFE_MEAN, variance=(1.0, 1.0, 1.0), name="scaling")(image)
    return ops.flip(centred, axis=-1)  # these weights were trained on BGR


def _scale_tf(image):
    return layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(image)


def _scale_tf_128(image):
    return layers.Rescaling(1 / 128, offset=-1.0, name="scaling")(image)


def _scale_torch(image):
    mean = [255 * value for value in IMAGENET_MEAN]
    variance = [(255 * value) ** 2 for value in IMAGENET_STD]
    return layers.Normalization(mean=mean, variance=variance, name="scaling")(image)


def _scale_centred(image):
    return layers.Normalization(mean=CAFFE_MEAN, variance=(1.0, 1.0, 1.0), name="scaling")(image)


def _grey(image):
    weights = ops.reshape(ops.convert_to_tensor(LUMA), (1, 1, 1, 3))
    return ops.sum(image * weights, axis=-1, keepdims=True)


def _scale_grey(image):
    return layers.Rescaling(1 / 127.5, offset=-1.0, name="scaling")(_grey(image))


def _scale_ink(image):
    return layers.Rescaling((INK[1] - INK[0]) / 255, offset=INK[0], name="scaling")(_grey(image))


def _scale_lite(image):
    return layers.Rescaling(1 / 128, offset=-127 / 128, name="scaling")(image)


def _scale_efficientnet(image):
    return image  # the graph brings a Rescaling and a Normalization of its own: see `_set_normalization`


SCALINGS = {
    "caffe": _scale_caffe,
    "tf": _scale_tf,
    "tf_128": _scale_tf_128,
    "torch": _scale_torch,
    "centred": _scale_centred,
    "grey": _scale_grey,
    "ink": _scale_ink,
    "lite": _scale_lite,
    "efficientnet": _scale_efficientnet,
}


def build_backbone(name, *, weights=None, image_size=None):
    """Build a backbone or a classic net of the catalog, without its top.

    Args:
        name: One of `tlkit.catalog.BUILDABLE`.
        weights: None or `"none"` (random), `"imagenet"`, the path of a weights file (`.weights.h5` or legacy `.h5`,
            with or without the top), or the folder of an earlier run.
        image_size: Side of the square image in pixels; None takes the catalog's.

    Returns:
        `keras.Model` of that name: float32 RGB in [0, 255] `(batch, image_size, image_size, 3)` to the feature map
        `(batch, height, width, features)`.

    Raises:
        TlkitError: If the name is unknown or the image too small.
        WeightsError: If the weights are missing, damaged or of another net.

    Example:
        >>> build_backbone("resnet50", image_size=64).output.shape
        (None, 2, 2, 2048)
    """
    backbone = find_backbone(name)
    model = _build(backbone, image_size or backbone.image_size, include_top=False)
    _load(model, backbone, weights)
    return model


def build_classifier(name, *, weights=None, image_size=None):
    """Build a backbone or a classic net with its original top: float32 RGB in [0, 255] to probabilities.

    Args:
        name: One of `tlkit.catalog.BUILDABLE`.
        weights: As for `build_backbone`, but they must have the top.
        image_size: As for `build_backbone`.

    Returns:
        `keras.Model` to `(batch, 1000)`, for a classic net to as many classes as its paper has.

    Raises:
        TlkitError: If the name is unknown or the image too small.
        WeightsError: If the weights are missing, damaged, of another net, or without a top.
    """
    backbone = find_backbone(name)
    model = _build(backbone, image_size or backbone.image_size, include_top=True)
    _load(model, backbone, weights)
    return model


def original_head(name, tasks):
    """Return the head that a classic net has in its paper.

    Args:
        name: One of `tlkit.catalog.NETS`.
        tasks: `dict` from name to `Task`.

    Returns:
        Function from the net's feature map to a `dict` of logits `(batch, num_outputs)`.
    """
    top = find_function(BUILDABLE[name].top)
    return lambda features: top(features, {task: of.num_outputs for task, of in tasks.items()})


def auxiliary_heads(name, tasks):
    """Return the classifiers that help a classic net to train, as a function from its model; None where it has none.

    Args:
        name: One of `tlkit.catalog.BUILDABLE`.
        tasks: `dict` from name to `Task`.

    Returns:
        Function from the assembled `keras.Model` to a list of `dict`s of logits `(batch, num_outputs)`, or None.
    """
    reference = getattr(BUILDABLE[name], "auxiliaries", "")
    if not reference:
        return None
    build = find_function(reference)
    return lambda model: build(model, {task: of.num_outputs for task, of in tasks.items()})


def block_ends(model, block_ends=None):
    """Return the names of the block ends of a model, first block first.

    Args:
        model: `keras.Model`; where `block_ends` is None, one that starts with a backbone of the catalog and has its
            name.
        block_ends: Names of layers, for a model of one's own.

    Returns:
        `tuple` of layer names, each of them in the model.

    Raises:
        TlkitError: If the model is unknown or has no layer of such a name.
    """
    if block_ends is None and model.name not in BUILDABLE:
        raise TlkitError(
            f"The blocks of model {model.name!r} are unknown.{did_you_mean(model.name, BUILDABLE)} "
            "For a model of your own, pass `block_ends=[...]`."
        )
    ends = BUILDABLE[model.name].block_ends if block_ends is None else tuple(block_ends)
    known = {operation.name for operation in model.operations}
    for end in ends:
        if end not in known:
            raise TlkitError(f"Model {model.name!r} has no layer {end!r}.{did_you_mean(end, known)}")
    return ends


def _build(backbone, image_size, include_top):
    if image_size < backbone.smallest_image:
        raise TlkitError(
            f"`image_size` must be at least {backbone.smallest_image} for {backbone.name}. Received: {image_size}."
        )
    image = keras.Input((image_size, image_size, 3), name="image")
    if isinstance(backbone, Net):
        output = find_function(backbone.body)(SCALINGS[backbone.scaling](image))
        if include_top:
            logits = find_function(backbone.top)(output, {"label": backbone.num_classes})["label"]
            output = layers.Activation("softmax", name="predictions")(logits)
        model = keras.Model(image, output, name=backbone.name)
        _number_within(model)
        return model
    builder = find_function(backbone.builder)
    options = {"input_tensor": SCALINGS[backbone.scaling](image), "include_top": include_top}
    accepted = inspect.signature(builder).parameters
    if "weights" in accepted:
        options |= {"weights": None, "input_shape": (image_size, image_size, 3)}
    if "include_preprocessing" in accepted:
        options["include_preprocessing"] = False  # it is ours
    model = keras.Model(image, builder(**options).output, name=backbone.name)
    _number_within(model)
    if backbone.scaling == "efficientnet":
        _set_normalization(model)
    return model


def find_function(reference):
    """Return the function that the catalog calls `module:function`."""
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)


def _number_within(model):
    """Rename what Keras named by kind and a number that runs through the whole process: `add_17` to `xception_add_1`.

    Then names, and with them block ends and saved files, don't depend on what was built before.
    """
    numbers = collections.Counter()
    for operation in model.operations:
        kind = re.sub(r"_\d+$", "", operation.name)
        if kind.replace("_", "") == type(operation).__name__.lower():
            numbers[kind] += 1
            operation.name = f"{model.name}_{kind}_{numbers[kind]}"


def _set_normalization(model):
    """Make EfficientNet's own layers compute `(x / 255 - mean) / std`, whatever weights came.

    Keras' ImageNet graph divides by `sqrt(std)` twice: in its Normalization, whose file holds the standard deviation
    where the variance belongs, and in a Rescaling that the same net built from any other weights lacks.
    """
    (layer,) = (layer for layer in model.layers if isinstance(layer, layers.Normalization))
    layer.adapt_mean.assign(IMAGENET_MEAN)
    layer.adapt_variance.assign([std**2 for std in IMAGENET_STD])
    layer.finalize_state()  # the layer computes with copies of these


def _load(model, backbone, weights):
    """Put the named weights into the model, checking that they are this net's."""
    path = find_weights(backbone.name, weights)
    if path is None:
        return
    if path.suffix == ".pth":
        load_pytorch(model, read_pth(path, backbone.weights.hash), path)
    elif path.suffix == ".keras":
        _copy_by_name(read_model(path), model, path)
    else:
        _load_h5(model, backbone, path)
    if backbone.scaling == "efficientnet":
        _set_normalization(model)


def _load_h5(model, backbone, path):
    """Read an HDF5 file into a graph that has a top if the file has one, and copy from there."""
    root = read_arrays(path)
    if count_arrays(root) <= len(model.weights):
        load_arrays(model, root, path)
        return
    source = _build(backbone, backbone.image_size, include_top=True)
    load_arrays(source, root, path)
    # A top comes after everything else: the weights before it are the backbone's, in the same order.
    for theirs, ours in zip(source.weights, model.weights, strict=False):
        if theirs.shape != ours.shape:
            raise WeightsError(f"{path}: {ours.path} of {model.name} has shape {ours.shape}. Received: {theirs.shape}.")
        ours.assign(theirs)


def _copy_by_name(source, model, path):
    """Copy from a saved model that starts with the same backbone: it has its name, and its layers have theirs."""
    if source.name != model.name:
        raise WeightsError(f"{path}: holds {source.name}. Expected {model.name}.")
    theirs = {layer.name: layer for layer in source.layers}
    for layer in model.layers:
        if not layer.weights:
            continue
        if layer.name not in theirs:
            raise WeightsError(f"{path}: is called {model.name} but has no layer {layer.name}.")
        received = [tuple(weight.shape) for weight in theirs[layer.name].weights]
        expected = [tuple(weight.shape) for weight in layer.weights]
        if received != expected:
            raise WeightsError(f"{path}: layer {layer.name} of {model.name} needs {expected}. Received: {received}.")
        layer.set_weights(theirs[layer.name].get_weights())
