"""TOML that somebody else wrote: read in bounded time, into plain values of bounded depth and size."""

import tomllib
from pathlib import Path

from tlkit.errors import RecipeError

MAX_BYTES = 2**16
MAX_DOTS = 200  # in a line: what tomllib takes grows with the square of a key's parts
MAX_DEPTH = 20  # of tables and lists in one another
MAX_NUMBER = 2**63


def read_toml(path):
    """Return the values of a TOML file.

    Raises:
        RecipeError: If it is none, has more than 64 KiB, or what it holds is out of bounds.
        OSError: If it can't be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise RecipeError(f"{path}: must be a TOML file. Received: a pipe, a socket or a device")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    try:
        return parse_toml(content.decode("utf-8"))
    except (RecipeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: must be a TOML file. Received: {error}") from None


def parse_toml(text):
    """Return the values of a TOML document.

    Raises:
        RecipeError: If it is none, or what it holds is out of bounds; without saying where it comes from.
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"more than {MAX_BYTES >> 10} KiB")
    if any(line.count(".") > MAX_DOTS for line in text.split("\n")):
        raise RecipeError(f"a line with more than {MAX_DOTS} dots")
    try:
        values = tomllib.loads(text)
    except RecursionError:
        raise RecipeError(f"tables and lists nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise RecipeError(" ".join(str(error).split())) from None
    _check(values)
    return values


def _check(values):
    """Refuse values that are nested too deep to be shown or compared, and numbers that others can't hold."""
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        for value in level:
            if isinstance(value, int) and not -MAX_NUMBER <= value < MAX_NUMBER:
                raise RecipeError("a whole number that takes more than 64 bits")
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return
    raise RecipeError(f"tables and lists nested more than {MAX_DEPTH} deep")
