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


@contextlib.contextmanager
def in_place(variables, values):
    """Let variables have other values for as long as the context lasts."""
    before = values_of(variables)
    assign(variables, values)
    try:
        yield
    finally:
        assign(variables, before)
