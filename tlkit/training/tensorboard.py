"""Curves for TensorBoard."""

import keras
import numpy as np

from tlkit.training.variables import as_scalar


class ScalarLog:
    """Writes figures of each epoch as TensorBoard scalars; what can't be written is said once, and costs nothing else.

    Args:
        folder: Where the event files lie.
        note: Function that hears one line.
    """

    def __init__(self, folder, note):
        self._folder, self._note, self._writer, self._gave_up = str(folder), note, None, False

    def write(self, row, step):
        """Write the numbers of `row`, a dict, at `step`; nothing under another engine than TensorFlow."""
        if self._gave_up or keras.backend.backend() != "tensorflow":
            return
        import tensorflow as tf

        try:
            self._writer = self._writer or tf.summary.create_file_writer(self._folder)
            with self._writer.as_default(step=as_scalar(step, np.int64)):
                for name, value in row.items():
                    tf.summary.scalar(f"epoch/{name}", as_scalar(value))
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            self._gave_up = True
            why = str(getattr(error, "message", error)).strip().splitlines()[0]
            self._note(f"{self._folder}: no curves for TensorBoard from here on: {why}. history.csv has the figures")
