"""The values of variables: taken, set, and set for a while."""

import contextlib

import numpy as np
from keras import ops


def values_of(variables):
    """Return copies of some variables' values, as arrays."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables, values):
    """Set variables from arrays, in order."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def as_scalar(value, dtype=np.float32):
    """Return a number as an array `()`: so the engine gets what changes from step to step.

    TensorFlow keeps each Python number that it has made a tensor of, close to a KiB, for as long as the process lasts,
    and `numpy.float64` is one to it.
    """
    return np.array(value, dtype)


@contextlib.contextmanager
def in_place(variables, values):
    """Let variables have other values for as long as the context lasts."""
    before = values_of(variables)
    assign(variables, values)
    try:
        yield
    finally:
        assign(variables, before)
