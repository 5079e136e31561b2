"""Fuzz what reads a run folder: one file of it at a time, then the run, its predictions, its comparison, its page."""

import os
from pathlib import Path

from driver import fuzz

# The first byte of an input says which file the others are.
FILES = (
    "metrics.json", "inputs.json", "data.json", "environment.json", "timing.json", "selection.json", "recipe.toml",
    "splits.csv", "predictions_test.csv", "history.csv",
)  # fmt: skip


def _make_run(name, seed=0):
    from made_runs import SEVERAL, make_run

    return make_run(Path(f"{name}-{os.getpid()}").resolve(), SEVERAL, count=6, seed=seed)


def load():
    """Return what takes the bytes of a file."""
    from tlkit.api.compare import compare
    from tlkit.api.report import report_runs
    from tlkit.delivery.predict import Run
    from tlkit.evaluation.predictions import read_predictions, read_splits

    path, other = _make_run("run"), _make_run("other", seed=1)
    whole = {name: (path / name).read_bytes() for name in FILES}

    def read(data):
        name = FILES[data[0] % len(FILES)] if data else FILES[0]
        for file, content in whole.items():
            (path / file).write_bytes(data[1:] if file == name else content)
        run = Run(path)
        repr((run.value, run.interval, run.headline))
        read_splits(path)
        read_predictions(path, "test", run.tasks)
        report_runs([path])
        compare([other, path])

    return read


def seeds():
    """Yield each file of a run."""
    path = _make_run("seeds")
    for number, name in enumerate(FILES):
        yield bytes([number]) + (path / name).read_bytes()


if __name__ == "__main__":
    watched = ["tlkit.run", "tlkit.evaluation.predictions", "tlkit.delivery.folder", "tlkit.delivery.sections"]
    fuzz(load, seeds, watched, {"timeout": 60})
