"""Outputs that agree."""

import numpy as np


def assert_close(received, expected):
    """To 1e-5 of the largest value: nets with random weights put out numbers of any size."""
    expected = np.asarray(expected)
    assert np.isfinite(expected).all()
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
