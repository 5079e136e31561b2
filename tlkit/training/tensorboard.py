"""Curves for TensorBoard."""

import keras


class ScalarLog:
    """Writes figures of each epoch as TensorBoard scalars.

    Args:
        folder: Where the event files lie.
    """

    def __init__(self, folder):
        self._folder, self._writer = str(folder), None

    def write(self, row, step):
        """Write the numbers of `row`, a dict, at `step`; nothing under another engine than TensorFlow."""
        if keras.backend.backend() != "tensorflow":
            return
        import tensorflow as tf

        self._writer = self._writer or tf.summary.create_file_writer(self._folder)
        with self._writer.as_default(step=step):
            for name, value in row.items():
                tf.summary.scalar(f"epoch/{name}", value)
        self._writer.flush()
