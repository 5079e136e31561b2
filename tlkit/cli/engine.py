"""Loads TensorFlow without the lines that it writes to the screen while it starts."""

import contextlib
import os
import sys


def load_engine():
    """Import Keras and its engine, their start-up chatter hidden; `TF_CPP_MIN_LOG_LEVEL=0` shows it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    hidden = os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    with _hidden_stderr() if hidden else contextlib.nullcontext():
        import keras  # it takes seconds, and it is its C++ part that writes

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _hidden_stderr():
    """Send what is written to the process's file descriptor 2 nowhere; Python's own tracebacks come after."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
