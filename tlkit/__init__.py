"""tlkit: transfer learning for images in Keras, from a folder of photos to a classifier one can trust.

The public names are imported when first used, so that `import tlkit` costs nothing.
"""

from importlib import import_module

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
