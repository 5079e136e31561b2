"""tlkit: transfer learning for images in Keras, from a folder of photos to a classifier one can trust.

The public names are imported when first used, so that `import tlkit` costs nothing.
"""

import os
from importlib import import_module

# TensorFlow reads it when it is imported, and leaves oneDNN out by itself on processors without AVX-512. With it a step
# takes half the time there, and what comes of an image doesn't depend on its place in the batch.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"

_PUBLIC = {
    "load_data": "tlkit.api",
    "build_model": "tlkit.api",
    "finetune": "tlkit.api",
    "evaluate": "tlkit.api",
    "compare": "tlkit.api.compare",
    "audit": "tlkit.api.audit",
    "load_run": "tlkit.api",
    "explain": "tlkit.api",
    "inspect": "tlkit.api.inspecting",
    "rank": "tlkit.api.ranking",
    "tune": "tlkit.api.tuning",
    "Screen": "tlkit.cli.screen",
    "read_recipe": "tlkit.recipe",
    "Task": "tlkit.tasks",
    "TlkitError": "tlkit.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tlkit' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__():
    return __all__
