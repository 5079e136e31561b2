"""The ranges of a search: which values each recipe key may take, as the recipe's `[tune]` table says, or by default."""

from tlkit.errors import RecipeError, shown
from tlkit.recipe_keys import Span

# What lies above the frozen layers: a trial costs seconds, as its features are there.
HEAD = {
    "head.pooling": ["avg", "avg+max", "gem"],
    "head.hidden": [[], [128], [512]],
    "head.dropout": Span(min=0.0, max=0.7),
    "training.l2": Span(min=1e-7, max=1e-2, log=True),
    "loss.label_smoothing": [0.0, 0.05, 0.1],
    "stages.0.learning_rate": Span(min=1e-4, max=1e-2, log=True),
    "stages.0.epochs": [5, 10, 20],
    "stages.0.schedule": ["cosine", "constant"],
}
FULL = HEAD | {
    "data.augment": ["mirror", "light", "medium", "heavy"],
    "data.views": [1, 2, 4],
    "data.mixup": [0.0, 0.2],
    "stages.0.unfreeze": [0, 1, 2, "all"],
    "stages.0.block_factor": [0.3, 1.0],
    "stages.0.learning_rate": Span(min=1e-5, max=1e-2, log=True),
}
SPACES = {"head": HEAD, "full": FULL}
# What a search can't vary: what its trials share, what is fixed before them, and what their scores are measured by.
FIXED = (
    "seed",
    "tasks",
    "tune",
    "backbone",
    "evaluation",
    "data.split_seed",
    "data.view_seed",
    "data.group_by",
    "data.folds",
    "head.custom",
    "head.original",
    "loss.weights",
    "training.monitor",
    "training.cache",
    "training.checkpoint_seconds",
)


def default_space(name, *, classes, own_head, blocks):
    """Return the ranges of a default space that mean something here.

    Args:
        name: Key of `SPACES`.
        classes: Whether a task has classes, not only numbers.
        own_head: Whether the head is the recipe's to describe, not a function or the net's original one.
        blocks: Number of the backbone's blocks.
    """
    ranges = dict(SPACES[name])
    if not classes:
        del ranges["loss.label_smoothing"]
    if not own_head:
        ranges = {key: span for key, span in ranges.items() if not key.startswith("head.")}
    if "stages.0.unfreeze" in ranges:
        ranges["stages.0.unfreeze"] = [
            depth for depth in ranges["stages.0.unfreeze"] if depth == "all" or depth < blocks
        ]
    return ranges


def check_space(ranges, try_settings):
    """Check that a search can vary each key, and that each value, alone in the recipe, makes a possible one.

    Args:
        ranges: Dict of dotted recipe key to `Span` or list of values.
        try_settings: Function of a dict of key to value that raises `RecipeError` where the recipe refuses them.

    Raises:
        RecipeError: If one names a key that is unknown or fixed, or an impossible value.
    """
    for key, span in ranges.items():
        if key.endswith(".stop_after") or any(key == fixed or key.startswith(f"{fixed}.") for fixed in FIXED):
            raise RecipeError(
                f"`tune.{key}`: a search can't vary `{key}`; it is the same for all trials. Leave it out."
            )
        for value in [span.min, span.max] if isinstance(span, Span) else span:
            try:
                try_settings({key: value})
            except RecipeError as error:
                raise RecipeError(f"`tune.{key}`: {shown(value)} can't be taken: {error}") from None


def hyperparameters(ranges):
    """Return a search space as `keras_tuner.HyperParameters`; a list becomes the position of one of its values."""
    from keras_tuner import HyperParameters

    space = HyperParameters()
    for key, span in ranges.items():
        if not isinstance(span, Span):
            space.Choice(key, list(range(len(span))), ordered=False)
            continue
        make = space.Int if isinstance(span.min, int) and isinstance(span.max, int) else space.Float
        make(key, span.min, span.max, sampling="log" if span.log else "linear")
    return space


def settings_of(ranges, values):
    """Return what a point of the space says: dict of recipe key to value.

    Args:
        ranges: As for `check_space`.
        values: Dict of key to number, as the oracle gives them; other keys are its own.
    """
    return {key: _plain(values[key]) if isinstance(span, Span) else span[values[key]] for key, span in ranges.items()}


def _plain(number):
    """Return a number as Python's own, as which recipes and JSON know it."""
    return number.item() if hasattr(number, "item") else number
