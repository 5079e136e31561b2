"""Nets of any size, without the memory and the time that their weights would take."""

import contextlib

import keras

from tlkit.catalog import NETS
from tlkit.models.backbones import build_classifier


@contextlib.contextmanager
def weightless():
    """Let models built in this context know the shapes of their weights and have no values for them."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.backend.clear_session()  # else the next scope to end would make the values after all


def whole_net(name, image_size=None):
    """Build a net of the catalog with its own top, without values for its weights."""
    with weightless():
        return build_classifier(NETS[name].name, image_size=image_size)


def parameters_by_layer(model):
    """Return `dict` from layer's name to number of parameters, where there are any."""
    return {layer.name: layer.count_params() for layer in model.layers if layer.count_params()}


def shapes(model, names):
    """Return the output shape, without the batch, of each of some operations."""
    named = {operation.name: operation for operation in model.operations}
    return [tuple(named[name].output.shape[1:]) for name in names]
