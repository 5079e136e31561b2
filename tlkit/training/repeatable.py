"""Same seed, same machine, same threads: same bits."""

import contextlib
import importlib
import os

import keras
import numpy as np

from tlkit.run import processor_features, usable_cpus


def make_repeatable(seed):
    """Seed every generator and ask the engine for deterministic kernels.

    It also keeps XLA off on CPU, where it makes depthwise nets many times slower.

    Args:
        seed: Integer in [0, 2**32).
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def graphs_as_written():
    """Let the engine run graphs without rewriting them first.

    TensorFlow's rewriting (Grappler) goes through some of its tables in the order of addresses, which differ from
    process to process: where BatchNorm trains, so did the last bits of the gradients, and after some epochs the
    figures. It makes nets in inference 1.5 times faster, but a training step hardly a tenth.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def describe_device():
    """Return the device that computes, as one line, and the number of threads it uses."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        names = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus]
        asked = int(
            os.environ.get("TF_NUM_INTRAOP_THREADS") or 0
        )  # which TensorFlow heeds where nothing is set in code
        threads = tf.config.threading.get_intra_op_parallelism_threads() or asked or usable_cpus()
        return (f"{len(gpus)} x {names[0]}" if gpus else "CPU"), threads
    return keras.backend.backend(), usable_cpus()


def describe_engine():
    """Return what decides the last bits of a computation besides its inputs, as plain values."""
    device, threads = describe_device()
    engine = importlib.import_module(keras.backend.backend())  # its distribution may have another name
    return {
        "packages": {engine.__name__: engine.__version__, "keras": keras.__version__, "numpy": np.__version__},
        "device": device,
        "threads": threads,
        "processor": processor_features(),
    }
