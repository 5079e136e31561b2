"""Read a `.keras` file that somebody else may have written.

The architecture in such a file names classes, and loading it calls them. So its names are held against a list of layers
and operations that compute and do nothing else, before Keras sees the file.
"""

import json
import zipfile

import keras

from tlkit.errors import WeightsError

LARGEST_CONFIG = 16 * 2**20  # bytes; the largest backbone's takes 1 MB

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


def read_model(path):
    """Read a saved model whose every part is known to do nothing but compute.

    Args:
        path: `pathlib.Path` of a `.keras` file.

    Returns:
        `keras.Model`, uncompiled.

    Raises:
        WeightsError: If the file is missing, damaged, or names anything outside the list.
    """
    for name, module in _classes(_read_config(path)):
        if name not in ALLOWED.get(module, ()):
            raise WeightsError(
                f"{path}: refused, because it holds {name!r} of {module or 'no module'}, which is not on the list of "
                "harmless built-in layers and operations. If you trust the file, load it with keras.saving.load_model."
            )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: can't be loaded: {first_line(error)}") from error


def first_line(error):
    """Return the first line of an error's message: Keras writes several."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _read_config(path):
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo("config.json").file_size
            if size > LARGEST_CONFIG:
                raise WeightsError(
                    f"{path}: refused, because its config.json has {size} bytes (limit {LARGEST_CONFIG})."
                )
            config = json.loads(archive.read("config.json"))
            return config | {"compile_config": None}  # Keras leaves it aside, too, when it does not compile
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such file.") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: is no readable .keras file: {first_line(error)}") from error


def _classes(config):
    """Yield `(class name, module)` of everything that the configuration would have made."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield str(value["class_name"]), value.get("module")
                if value.get("registered_name") not in (None, value["class_name"]):
                    yield str(value["registered_name"]), "custom objects"
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
