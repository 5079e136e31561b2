"""Fuzz the reader of recipes: what it takes must come back equal from the TOML that it is written as."""

import tempfile
from pathlib import Path

from driver import fuzz

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def load():
    from tlkit.recipe import read_recipe

    folder = Path(tempfile.mkdtemp(prefix="recipe-"))
    file, copy = folder / "fuzzed.toml", folder / "copy.toml"

    def run(data):
        file.write_bytes(data)
        recipe = read_recipe(file)
        copy.write_text(recipe.to_toml(), "utf-8")
        assert read_recipe(copy) == recipe

    return run


def seeds():
    for path in RECIPES.rglob("*.toml"):
        yield path.read_bytes()
    yield b'[tasks]\none = "multilabel"\n[tune]\nhead.dropout = {min = 0.1, max = 0.5}\n"data.views" = [1, 2]\n'
    yield b'[[data.augment]]\nop = "Affine"\nrotate = [-10, 10]\n[loss.weights]\nlabel = 2.0\n'


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.toml", "tlkit.recipe", "tlkit.recipe_keys"])
