"""Nets leave the process with the test that made them: Keras holds them, and large ones by the hundred don't fit."""

import keras
import pytest


@pytest.fixture(autouse=True)
def forgotten_nets():
    """What Keras remembers of a test's nets is gone after it."""
    yield
    keras.utils.clear_session(free_memory=True)
