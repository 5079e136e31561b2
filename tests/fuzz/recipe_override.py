"""Fuzz `--set KEY=VALUE`: one a line, applied to a recipe that has stages."""

from driver import fuzz


def load():
    from tlkit.recipe import read_recipe

    def run(data):
        recipe = read_recipe("ants_bees", data.decode("utf-8", "replace").split("\n"))
        assert recipe.to_toml()

    return run


def seeds():
    yield b"stages.0.epochs=3\ndata.augment=none\nhead.hidden=[64, 32]"
    yield b"stages.1.unfreeze=all\ntune.head.dropout={min = 0.0, max = 0.5}\nloss.weights={label = 1.5}"
    yield b'tasks={age = "regression"}\nevaluation.tta=flip\nbackbone.name=vgg16\nhead.custom=a:b'


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.toml", "tlkit.recipe", "tlkit.recipe_keys"])
