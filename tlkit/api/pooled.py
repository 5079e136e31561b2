"""What a frozen backbone makes of the images of a data set: the features that a linear probe, or an audit, looks at."""

import numpy as np

from tlkit.api import build_model
from tlkit.catalog import BUILDABLE


def pooled_features(data, recipe, listener, images=None):
    """Compute the pooled features of images in their evaluation view, or read what is kept of them.

    They are kept split by split, as a run keeps those of its validation and test images.

    Args:
        data: `Data`.
        recipe: `Recipe`; its backbone, its weights and how images become square count.
        listener: `Listener` for progress and notes.
        images: int64 array, ascending; by default all.

    Returns:
        `(features, chain)`: float32 `(len(images), width)`, and the `tlkit.models.chain.Chain` that computes them.
    """
    from tlkit.training.rules import resolve_views

    listener.engine_needed()
    from tlkit.data.pipeline import Views
    from tlkit.models.chain import Chain
    from tlkit.training.features import KeptFeatures
    from tlkit.training.repeatable import describe_engine
    from tlkit.training.store import DiskStore, MemoryStore, StoreError

    images = np.arange(len(data)) if images is None else images
    recipe = resolve_views(recipe, [task.kind for task in data.tasks.values()])
    name, ends = recipe.backbone.name, BUILDABLE[recipe.backbone.name].block_ends
    model = build_model(name, data.tasks, weights=recipe.backbone.weights)
    batch_size = min(recipe.data.batch_size, len(data.indices("train")) or len(data))
    chain = Chain(model, ends, data.tasks, batch_size)
    position = chain.position(0)
    view = Views(data, image_size=chain.image_size, fit=recipe.data.fit).evaluation()
    stores = (DiskStore(note=listener.note), MemoryStore(2 * len(images) * chain.row_bytes(position) + 2**20))
    features = np.empty((len(images), *chain.row_shape(position)), np.float32)
    for split in data.counts():
        here = data.split[images] == split
        for store in stores if here.any() else ():
            kept = KeptFeatures(store, chain, view, data, images[here], describe_engine())
            try:
                for _ in kept.ensure([position], position, listener):
                    pass
                features[here] = kept.rows(position, images[here])
                break
            except StoreError as error:
                if store is stores[-1]:
                    raise
                listener.note(f"features: not kept: {error}")
    return features.reshape(len(images), -1), chain
