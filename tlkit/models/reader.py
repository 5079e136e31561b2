"""Read a `.keras` file that somebody else may have written.

The architecture in such a file names classes, and loading it calls them; its arrays are an HDF5 file, which can point
to others. So its names are held against a list of layers and operations that compute and do nothing else, it may make
no larger arrays than it brings along, and Keras gets a sound copy of those.
"""

import contextlib
import io
import json
import math
import struct
import threading
import zipfile

import keras

from tlkit.errors import WeightsError
from tlkit.files import read_plain
from tlkit.models.hdf5 import read_hdf5
from tlkit.models.weights import LARGEST_WEIGHTS, first_line, load_arrays

LARGEST_CONFIG = 16 * 2**20  # bytes; the largest backbone's takes 1 MB
DEEPEST_CONFIG = 64  # lists and dicts in each other; ours reach 14
MOST_PARTS = 50_000  # layers, operations, initializers and the like; the largest backbone has 14,000
MOST_OUTPUTS = 10_000  # of one operation
LARGEST_OUTPUT = 2**28  # numbers for one image, 1 GiB
FIXED_NUMBERS = 2**16  # that may come with settings: mean and variance of an image's colours
MOST_FILES = 16  # in the archive; Keras writes 3
STORED_DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
CONFIG, WEIGHTS = "config.json", "model.weights.h5"

LAYERS = """
    Activation Add AlphaDropout Attention Average AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization
    Concatenate Conv1D Conv2D Conv2DTranspose Conv3D Cropping1D Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dot
    Dropout ELU EinsumDense Flatten GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalMaxPooling1D GlobalMaxPooling2D GroupNormalization Identity InputLayer LayerNormalization LeakyReLU
    MaxPooling1D MaxPooling2D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute RMSNormalization
    ReLU RepeatVector Rescaling Reshape SeparableConv1D SeparableConv2D Softmax SpatialDropout1D SpatialDropout2D
    SpectralNormalization Subtract UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D
"""
OPERATIONS = """
    Abs Absolute Add Argmax BroadcastTo Clip Concatenate Cos Divide Einsum Elu Erf Exp Expm1 ExpandDims Flip Gelu
    GetItem HardSigmoid HardSwish LeakyRelu Log Log1p LogSoftmax Logsumexp Matmul Max Maximum Mean Min Minimum Moveaxis
    Multiply Negative Normalize OnesLike Pad Power Prod Reciprocal Relu Relu6 Repeat Reshape Rsqrt Sigmoid Sign Silu Sin
    Softmax Softplus Split Sqrt Square Squeeze Stack Std Subtract Sum Swapaxes Tanh Tile Transpose TrueDivide Var
"""
INITIALIZERS = """
    Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
    RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros
"""
# By the module that the file names; None is how Keras writes plain values.
ALLOWED = {
    None: ["__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"],
    "keras": ["DTypePolicy", "Sequential"],
    "keras.constraints": ["MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"],
    "keras.dtype_policies": ["DTypePolicy"],
    "keras.initializers": INITIALIZERS.split(),
    "keras.layers": LAYERS.split(),
    "keras.regularizers": ["L1", "L1L2", "L2", "OrthogonalRegularizer"],
    "keras.src.applications.convnext": ["LayerScale", "StochasticDepth"],
    "keras.src.applications.inception_resnet_v2": ["CustomScaleLayer"],
    "keras.src.models.functional": ["Functional"],
    "keras.src.ops.math": OPERATIONS.split(),
    "keras.src.ops.nn": OPERATIONS.split(),
    "keras.src.ops.numpy": OPERATIONS.split(),
}


_BUILDING = threading.Lock()


def read_model(path):
    """Read a saved model whose every part is known to do nothing but compute.

    Args:
        path: `pathlib.Path` of a `.keras` file.

    Returns:
        `keras.Model`, uncompiled.

    Raises:
        WeightsError: If the file is missing, damaged, too large, or names anything outside the list.
    """
    config, weights = _read_parts(path)
    _check_parts(config, path)
    root = read_hdf5(weights, path)
    try:
        with _at_most(sum(math.prod(array.shape) for _, array in root.walk())):
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:  # whatever Keras says of an architecture of known parts, it is the file that is wrong
        raise WeightsError(f"{path}: can't be loaded: {first_line(error)}") from error
    if not isinstance(model, keras.Model):
        raise WeightsError(f"{path}: can't be loaded: it holds a {type(model).__name__}. Expected a model.")
    _check_outputs(model, path)
    load_arrays(model, root, path)
    return model


def _read_parts(path):
    """Return the configuration and the bytes of the arrays' file."""
    try:
        content = read_plain(path, LARGEST_WEIGHTS, WeightsError)
        _check_directory(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            config, weights = (_stored(archive, name, len(content)) for name in (CONFIG, WEIGHTS))
            if len(config) > LARGEST_CONFIG:
                raise ValueError(f"its {CONFIG} has {len(config)} bytes (limit {LARGEST_CONFIG})")
            config = json.loads(config)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file.") from error
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: is no readable .keras file: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: is no readable .keras file: its {CONFIG} describes no model.")
    return config | {"compile_config": None}, weights  # how it was trained is left aside


def _check_directory(content):
    """Refuse an archive of too many files before `zipfile` makes an object of each."""
    signature, entries, comment = struct.unpack("<4s6xH8xH", content[-22:].rjust(22, b"\0"))
    if signature != b"PK\x05\x06" or comment or content[-42:-38] == b"PK\x06\x07" or entries > MOST_FILES:
        raise ValueError("it is no archive such as Keras writes")


def _stored(archive, name, limit):
    """Return a file of the archive: whole and not packed, as Keras writes it, so that it is no larger than it says."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or max(info.file_size, info.compress_size) > limit:
        raise ValueError(f"its {name} is packed. Expected it as Keras writes it")
    return archive.read(info)


def _check_parts(config, path):
    """Refuse what isn't on the list, and numbers of parts that no net has."""
    for count, part in enumerate(_parts(config, path), start=1):
        name, module = part["class_name"], part.get("module")
        if part.get("registered_name") not in (None, name):
            name, module = part["registered_name"], "custom objects"
        known = ALLOWED.get(module, ()) if isinstance(module, str | None) else ()
        if name not in known:
            raise WeightsError(
                f"{path}: refused, because it holds {str(name)[:80]!r} of {str(module or 'no module')[:80]}, which is "
                "not on the list of harmless built-in layers and operations. If you trust the file, load it with "
                "keras.saving.load_model."
            )
        settings = part.get("config") if isinstance(part.get("config"), dict) else {}
        sections = settings.get("indices_or_sections", 0)
        if count > MOST_PARTS or (isinstance(sections, int) and sections > MOST_OUTPUTS):
            raise WeightsError(f"{path}: refused, because it has more parts than any net.")
        _check_size(settings, part, path)
        if name == "__numpy__" and settings.get("dtype") not in STORED_DTYPES:
            raise WeightsError(f"{path}: refused, because it holds an array of {str(settings.get('dtype'))[:80]!r}.")


def _check_size(settings, part, path):
    """Refuse what Keras would compute while it builds the graph: constants that the file makes as large as it likes."""
    shape = settings.get("batch_shape") or []
    if isinstance(shape, list) and math.prod(side for side in shape if isinstance(side, int)) > LARGEST_OUTPUT:
        raise WeightsError(f"{path}: refused, because it takes arrays of shape {str(shape)[:80]}.")
    nodes = part.get("inbound_nodes") or []
    if not isinstance(nodes, list) or not all(_takes_tensors(node, path) for node in nodes):
        raise WeightsError(f"{path}: refused, because {str(part.get('name'))[:80]} computes with constants alone.")


def _takes_tensors(node, path):
    return any(part["class_name"] == "__keras_tensor__" for part in _parts(node, path))


def _parts(config, path):
    """Yield each dict of the configuration that names a class."""
    waiting = [(config, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST_CONFIG:
            raise WeightsError(f"{path}: refused, because its {CONFIG} is nested deeper than {DEEPEST_CONFIG}.")
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            waiting.extend((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list):
            waiting.extend((inner, depth + 1) for inner in value)


@contextlib.contextmanager
def _at_most(numbers):
    """Let the layers that this thread builds have only so many weights: as many as the file has numbers.

    So are the statistics of a Normalization that come with its settings: Keras spreads them over its axes as it builds.
    """
    layer_class, norm_class = keras.layers.Layer, keras.layers.Normalization
    make, build, thread, left = layer_class.add_weight, norm_class.build, threading.get_ident(), numbers + FIXED_NUMBERS

    def claim(shape):
        nonlocal left
        if threading.get_ident() == thread:
            left -= math.prod(shape)
            if left < 0:
                raise ValueError(f"its layers need more weights than the {numbers} that it holds")

    def counted(layer, shape=None, *arguments, **settings):
        claim(shape or ())
        return make(layer, shape, *arguments, **settings)

    def counted_build(layer, input_shape):
        if layer.input_mean is not None:
            claim([input_shape[axis] or 1 for axis in layer.axis])
        return build(layer, input_shape)

    with _BUILDING:
        layer_class.add_weight, norm_class.build = counted, counted_build
        try:
            yield
        finally:
            layer_class.add_weight, norm_class.build = make, build


def _check_outputs(model, path):
    """Refuse a net that makes more of an image than fits into memory."""
    for operation in _operations(model):
        for node in operation._inbound_nodes:
            for tensor in node.output_tensors:
                if math.prod(side or 1 for side in tensor.shape[1:]) > LARGEST_OUTPUT:
                    raise WeightsError(f"{path}: refused, because {operation.name} makes {tensor.shape} of an image.")


def _operations(model):
    """Yield every layer and operation of a model, those of the models in it included."""
    for operation in getattr(model, "operations", None) or model.layers:  # a Sequential has layers alone
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
