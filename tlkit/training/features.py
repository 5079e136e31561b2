"""What the frozen prefix makes of images: computed in inference mode, at one padded batch shape."""

import numpy as np

# Validation features up to this size are kept in memory for the whole stage.
KEEP_BYTES = 2**30


def frozen_features(prefix, images, batch_size):
    """Run the frozen prefix on a batch.

    Args:
        prefix: `keras.Model` from images to features, or None if nothing is frozen.
        images: uint8 array `(batch, height, width, 3)`, at most `batch_size` of them.
        batch_size: The one batch shape at which the prefix runs.

    Returns:
        float32 array `(batch, ...)`: features, or the images themselves if nothing is frozen.
    """
    return images.astype(np.float32) if prefix is None else predict_padded(prefix, images, batch_size)


def predict_padded(model, images, batch_size):
    """Run a model on a batch as if it were full: it is padded with zeros, and what comes of the padding is dropped.

    Kernels, and with them the last bits, may differ between batch shapes.

    Args:
        model: `keras.Model` from images to a tensor, or to a dict of them.
        images: uint8 array `(batch, height, width, 3)`, at most `batch_size` of them.
        batch_size: The one batch shape at which the model runs.

    Returns:
        float32 array `(batch, ...)`, or a dict of them.
    """
    missing = batch_size - len(images)
    padded = np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else images
    outputs = model.predict_on_batch(padded)
    if isinstance(outputs, dict):
        return {name: np.asarray(values)[: len(images)] for name, values in outputs.items()}
    return np.asarray(outputs)[: len(images)]


class FeatureBatches:
    """Features and labels of a fixed set of images, iterable once an epoch.

    They are computed in the first pass and, where they fit `KEEP_BYTES`, kept for the later ones.

    Args:
        prefix: As for `frozen_features`.
        make_batches: Function returning a fresh iterator of evaluation batches.
        batch_size: As for `frozen_features`.
    """

    def __init__(self, prefix, make_batches, batch_size):
        self._prefix, self._make_batches, self._batch_size = prefix, make_batches, batch_size
        self._kept = None

    def __iter__(self):
        if self._kept is not None:
            yield from self._kept
            return
        kept, size = [], 0
        for batch in self._make_batches():
            pair = frozen_features(self._prefix, batch["image"], self._batch_size), batch["labels"]
            size += pair[0].nbytes
            if size <= KEEP_BYTES:
                kept.append(pair)
            yield pair
        if size <= KEEP_BYTES:
            self._kept = kept
