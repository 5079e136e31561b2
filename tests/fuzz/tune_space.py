"""Fuzz the table `[tune]`: ranges that are taken must make a space of which points can be drawn."""

import tempfile
from pathlib import Path

from driver import fuzz


def load():
    import keras_tuner  # noqa: F401  (takes seconds, which are none of the first input's)

    from tlkit.recipe import check_recipe, read_recipe, set_keys
    from tlkit.search.space import check_space, hyperparameters, settings_of

    file = Path(tempfile.mkdtemp(prefix="tune-")) / "fuzzed.toml"
    base = read_recipe("ants_bees")

    def try_settings(settings):
        values = base.model_dump()
        set_keys(values, settings)
        check_recipe(values)

    def run(data):
        file.write_bytes(b"[tune]\n" + data)
        ranges = read_recipe(file).tune
        check_space(ranges, try_settings)
        space = hyperparameters(ranges)
        for one in space.space:
            one.random_sample(seed=1)
        assert set(settings_of(ranges, space.values)) == set(ranges)

    return run


def seeds():
    yield b'head.dropout = { min = 0.0, max = 0.5 }\n"data.views" = [1, 2]\n'
    yield b'"stages.0.learning_rate" = { min = 1e-5, max = 1e-2, log = true }\n"stages.0.unfreeze" = [0, 1, "all"]\n'
    yield b'"stages.0.epochs" = { min = 1, max = 100 }\n"head.pooling" = ["avg", "gem"]\n'


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.search.space", "tlkit.recipe"])
