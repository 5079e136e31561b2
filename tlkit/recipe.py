"""The recipe: everything that decides how a model is trained, typed, read from TOML and written back resolved."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tlkit.catalog import BACKBONES
from tlkit.errors import RecipeError, did_you_mean
from tlkit.share import share_folder
from tlkit.tasks import KINDS, NAME

DEFAULT_RECIPE = "default"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class DataTable(_Table):
    """How images become batches."""

    image_size: Annotated[int, Field(ge=16, le=4096)] | Literal["auto"] = Field(
        "auto", description="Side of the square that the network sees, in pixels; auto: what the backbone was made for."
    )
    batch_size: int = Field(32, ge=1, le=65536, description="Images in a training batch.")
    fit: Literal["crop", "squash", "letterbox"] = Field(
        "crop", description="How an image becomes a square for evaluation: centre crop, squash, or pad."
    )
    augment: str | list[dict[str, Any]] = Field(
        "light", description="Training views: none, light, medium, heavy, or a list of ops with their settings."
    )
    # Measured with the default recipe, seeds 0 to 2: one, two, four, eight and fresh views give 0.756, 0.772, 0.772,
    # 0.768, 0.764 on garments (three folds), 0.943, 0.946, 0.948, 0.941, 0.943 on ants and bees. From two on, no
    # difference from fresh ones is to be told from chance.
    views: int = Field(
        2,
        ge=0,
        description="Training views of each image while layers are frozen, in turn; 0: a fresh one every epoch.",
    )
    group_by: str = Field(
        "", description="Regular expression on the path; images whose first group (or match) is equal share a split."
    )
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | Literal["auto"] = Field(
        "auto", description="Seed of the splits that tlkit makes; auto: the recipe's."
    )
    folds: int = Field(0, ge=0, le=100, description="Cross-validate with so many folds; 0: one split.")

    @field_validator("folds")
    @classmethod
    def _more_than_one(cls, folds):
        if folds == 1:
            raise ValueError("must be 0, or at least 2. Received: 1")
        return folds


class BackboneTable(_Table):
    """The pretrained network."""

    name: str = Field("efficientnet_lite0", description="One of `tlkit backbones`.")
    weights: str = Field("imagenet", description="imagenet, none, a weights file, or the folder of an earlier run.")

    @field_validator("name")
    @classmethod
    def _known(cls, name):
        if name not in BACKBONES:
            hint = did_you_mean(name, BACKBONES)
            raise ValueError(f"must be a known backbone. Received: {name!r}.{hint} `tlkit backbones` lists them.")
        return name


class HeadTable(_Table):
    """What turns the backbone's features into logits."""

    pooling: Literal["avg", "max", "avg+max", "gem"] = "avg"
    dropout: float = Field(0.2, ge=0, lt=1, description="Fraction of the pooled features dropped in training.")
    hidden: list[Annotated[int, Field(ge=1)]] = Field([], description="Widths of hidden layers.")
    l1: float = Field(0.0, ge=0, description="Weight of the kernels' L1 penalty.")
    l2: float = Field(0.0, ge=0, description="Weight of the kernels' L2 penalty.")
    custom: str = Field("", description="module:function from features to logits, in place of the keys above.")


class TrainingTable(_Table):
    """What holds for all stages."""

    batch_norm: Literal["frozen"] = Field("frozen", description="The backbone's BatchNorm stays in inference mode.")
    monitor: Literal["loss", "accuracy"] = Field("loss", description="Validation figure that chooses the best epoch.")
    patience: int = Field(0, ge=0, description="Epochs without improvement that end a stage; 0: never.")
    cache: Literal["auto", "ram", "disk", "off"] = Field(
        "auto", description="Where the frozen layers' features are kept; results don't depend on it."
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="Longest stretch of work that a kill can cost.")


class Stage(_Table):
    """One period of training."""

    unfreeze: Annotated[int, Field(ge=0)] | Literal["all"] = Field(
        0, description="Blocks that train besides the head, counted from the head down."
    )
    epochs: int = Field(ge=1, description="Passes over the training images.")
    learning_rate: float = Field(gt=0, lt=10)
    schedule: Literal["constant", "cosine"] = Field("cosine", description="Cosine falls to zero over the stage.")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"


class Recipe(_Table):
    """Everything that decides how a model is trained; two equal resolved recipes give equal bits on equal data."""

    seed: int = Field(0, ge=0, lt=2**32)
    tasks: dict[str, str] = Field({"label": "single_label"}, description="Label columns and their kinds.")
    data: DataTable = DataTable()
    backbone: BackboneTable = BackboneTable()
    head: HeadTable = HeadTable()
    training: TrainingTable = TrainingTable()
    stages: list[Stage] | Literal["auto"] = "auto"

    @field_validator("tasks")
    @classmethod
    def _known_kinds(cls, tasks):
        for name, kind in tasks.items():
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"a task is named with letters, digits, `_`, `.` and `-`; rename the column. Received: {name!r}"
                )
            if kind not in KINDS:
                raise ValueError(f"{name!r} must be one of {', '.join(KINDS)}. Received: {kind!r}")
        return tasks

    @field_validator("stages")
    @classmethod
    def _at_least_one(cls, stages):
        if not stages:
            raise ValueError('needs at least one stage, or "auto"')
        return stages

    def to_toml(self):
        """Return the recipe as a TOML document that `read_recipe` reads back to an equal recipe."""
        return tomli_w.dumps(self.model_dump(mode="python"))


def recipe_names():
    """Return the names of the recipes that ship with tlkit, sorted."""
    return sorted(path.stem for path in share_folder("recipes").glob("*.toml"))


def read_recipe(name=DEFAULT_RECIPE, overrides=(), settings=None):
    """Read a recipe by name or from a TOML file, and change what is asked for.

    Args:
        name: Name of a shipped recipe (`tlkit recipes`), or path of a TOML file.
        overrides: `"key=value"` strings; keys are dotted (`stages.0.epochs=3`), values are TOML, or plain text.
        settings: Dict of dotted key to value, set before the overrides.

    Returns:
        A validated `Recipe`.

    Raises:
        RecipeError: If the recipe is not found, is not TOML, or has unknown keys or values out of range.
    """
    path = _find(name)
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: must be a TOML file. Received: {error}") from None
    for key, value in (settings or {}).items():
        _set(values, key, value)
    for override in overrides:
        _set(values, *_parse_override(override))
    return check_recipe(values, where=str(name))


def recipe_text(name):
    """Return the TOML text of a recipe, comments included.

    Raises:
        RecipeError: If there is none of that name.
    """
    return _find(name).read_text("utf-8")


def check_recipe(values, *, where="recipe"):
    """Return the `Recipe` for nested plain values.

    Raises:
        RecipeError: In one line, for the first key that is unknown or has an impossible value.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_first_problem(error)}") from None


def json_schema():
    """Return the recipe's JSON Schema, for editors that complete and check TOML."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _find(name):
    path = Path(name)
    if path.suffix == ".toml" or path.parent != Path():
        if not path.is_file():
            raise RecipeError(f"{path}: no such recipe file. Give a TOML file or one of: {', '.join(recipe_names())}")
        return path
    shipped = share_folder("recipes") / f"{name}.toml"
    if not shipped.is_file():
        hint = did_you_mean(name, recipe_names())
        raise RecipeError(f"--recipe: no recipe is called {str(name)!r}.{hint} `tlkit recipes` lists them.")
    return shipped


def _parse_override(override):
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set: expected KEY=VALUE, such as stages.0.epochs=3. Received: {override!r}")
    return key.strip(), _toml_value(text)


def _set(values, key, value):
    """Set one dotted key of nested dictionaries and lists."""
    *parents, last = key.split(".")
    table = values
    for parent in parents:
        table = _step_into(table, parent, key)
    table[_position(table, last, key) if isinstance(table, list) else last] = value


def _step_into(table, part, key):
    if isinstance(table, list):
        return table[_position(table, part, key)]
    inner = table.setdefault(part, {})
    if not isinstance(inner, dict | list):
        raise RecipeError(f"--set {key}: `{part}` holds {inner!r} and has no keys inside it.")
    return inner


def _position(items, part, key):
    if not part.isdecimal() or int(part) >= len(items):
        raise RecipeError(f"--set {key}: expected a position from 0 to {len(items) - 1}. Received: {part!r}")
    return int(part)


def _toml_value(text):
    """Read `3`, `0.5`, `true`, `[1, 2]` as TOML, and anything else as the text itself."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _first_problem(error):
    problem = max(error.errors(), key=lambda found: (found["type"] == "extra_forbidden", len(found["loc"])))
    location = [str(part) for part in problem["loc"] if not _names_a_type(part)]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        hint = did_you_mean(location[-1], known) or f" Known here: {', '.join(known)}."
        return f"unknown key `{key}`.{hint}"
    if problem["type"] == "missing":
        return f"`{key}` is missing. Give it a value."
    message = problem["msg"].removeprefix("Value error, ")
    received = "" if "Received" in message else f". Received: {problem['input']!r}"
    return f"`{key}`: {message[0].lower() + message[1:]}{received}"


def _names_a_type(part):
    """Tell whether pydantic put this part into a location to name a branch of a union, not a key."""
    return isinstance(part, str) and ("[" in part or part in {"int", "str", "constrained-int"})


def _known_keys(location):
    table = Recipe
    for part in location:
        if part.isdecimal():
            continue
        table = {"stages": Stage, **_TABLES}.get(part, table)
    return list(table.model_fields)


_TABLES = {
    name: field.annotation
    for name, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
