"""The recipe: everything that decides how a model is trained, typed, read from TOML and written back resolved."""

import re
from pathlib import Path

from pydantic import BaseModel, ValidationError

from tlkit.errors import LONGEST, RecipeError, did_you_mean, shown
from tlkit.recipe_keys import Recipe, Stage
from tlkit.share import share_folder
from tlkit.toml import parse_toml, read_toml

DEFAULT_RECIPE = "default"


def recipe_names():
    """Return the names of the recipes that ship with tlkit, sorted; those in a folder are called `folder/name`."""
    folder = share_folder("recipes")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))


def read_recipe(name=DEFAULT_RECIPE, overrides=(), settings=None, *, recorded=False):
    """Read a recipe by name or from a TOML file, and change what is asked for.

    Args:
        name: Name of a shipped recipe (`tlkit recipes`), or path of a TOML file.
        overrides: `"key=value"` strings; keys are dotted (`stages.0.epochs=3`), values are TOML, or plain text.
        settings: Dict of dotted key to value, set before the overrides.
        recorded: Whether the recipe is only looked at, so that it may name a head that is code.

    Returns:
        A validated `Recipe`.

    Raises:
        RecipeError: If the recipe is not found, is not TOML, has unknown keys or values out of range, or names a
            function as its head: to run somebody's code takes more than to read a file, so that an override or a
            setting must name it, too.
    """
    path = _find(name)
    values = read_toml(path)
    given = [*(settings or {}).items(), *map(_parse_override, overrides)]
    for key, value in given:
        _set(values, key, value)
    recipe = check_recipe(values, where=str(name))
    if recipe.head.custom and not recorded and not any(key in ("head", "head.custom") for key, _ in given):
        raise RecipeError(
            f"{name}: its head is a function, {recipe.head.custom!r}, and to run it is to trust it. If you do, say "
            f"--head {recipe.head.custom}"
        )
    return recipe


def set_keys(values, settings):
    """Set dotted keys of nested plain values, in place.

    Args:
        values: Nested dicts and lists, as in a recipe.
        settings: Dict of dotted key (`"stages.0.epochs"`) to value.

    Raises:
        RecipeError: If a key leads nowhere.
    """
    for key, value in settings.items():
        _set(values, key, value)


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
    path, known = Path(name), recipe_names()
    if str(name) in known:
        return share_folder("recipes") / f"{name}.toml"
    if path.suffix != ".toml" and path.parent == Path():
        hint = did_you_mean(name, known)
        raise RecipeError(f"--recipe: no recipe is called {str(name)!r}.{hint} `tlkit recipes` lists them.")
    if not _is_file(path):
        raise RecipeError(
            f"{path}: no such recipe file.{did_you_mean(name, known)} Give a TOML file, or a name of `tlkit recipes`."
        )
    return path


def _is_file(path):
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _parse_override(override):
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set: expected KEY=VALUE, such as stages.0.epochs=3. Received: {shown(override)}")
    return key.strip(), _toml_value(text)


def _set(values, key, value):
    """Set one dotted key of nested dictionaries and lists."""
    *parents, last = key.split(".")
    table = values
    for parent in parents:
        table = _step_into(table, parent, key)
    table[_position(table, last, key) if isinstance(table, list) else last] = value


def _step_into(table, part, key):
    inner = table[_position(table, part, key)] if isinstance(table, list) else table.setdefault(part, {})
    if not isinstance(inner, dict | list):
        raise RecipeError(f"--set {key[:LONGEST]}: `{part[:LONGEST]}` holds {shown(inner)} and has no keys inside it.")
    return inner


def _position(items, part, key):
    if not re.fullmatch("[0-9]{1,9}", part) or int(part) >= len(items):
        raise RecipeError(
            f"--set {key[:LONGEST]}: expected a position from 0 to {len(items) - 1}. Received: {shown(part)}"
        )
    return int(part)


def _toml_value(text):
    """Read `3`, `0.5`, `true`, `[1, 2]` as TOML, and anything else as the text itself."""
    try:
        return parse_toml(f"value = {text.strip()}")["value"]
    except RecipeError:
        return text.strip()


def _first_problem(error):
    problem = max(error.errors(), key=_telling)
    *parents, last = problem["loc"] or ("",)
    unknown = problem["type"] == "extra_forbidden"  # then the last part is the user's word, whatever it looks like
    location = [str(part) for part in parents if not _names_a_type(part)]
    location += [str(last)] if unknown or not _names_a_type(last) else []
    key = ".".join(location)[:LONGEST]
    if unknown:
        known = _known_keys(location[:-1])
        hint = did_you_mean(location[-1], known) or f" Known here: {', '.join(known)}."
        return f"unknown key `{key}`.{hint}"
    if problem["type"] == "missing":
        return f"`{key}` is missing. Give it a value."
    if problem["type"] == "literal_error":
        expected = problem["ctx"]["expected"]
        return f"`{key}`: must be {expected}. Received: {shown(problem['input'])}.{_near(problem['input'], expected)}"
    message = problem["msg"].removeprefix("Value error, ")
    received = "" if "Received" in message else f". Received: {shown(problem['input'])}"
    return f"`{key}`: {message[0].lower() + message[1:]}{received}"


def _telling(problem):
    """Return how much a problem tells: an unknown key most; of a word, which words there are, not that it's no list."""
    word = problem["type"] == "literal_error" and isinstance(problem["input"], str)
    return problem["type"] == "extra_forbidden", word, len(problem["loc"])


def _near(word, expected):
    return (
        did_you_mean(word, expected.replace("'", "").replace(" or ", ", ").split(", ")) if isinstance(word, str) else ""
    )


def _names_a_type(part):
    """Tell whether pydantic put this part into a location to name a branch of a union, not a key."""
    return isinstance(part, str) and ("[" in part or part in {"int", "str", "float"} or part.startswith("constrained-"))


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
