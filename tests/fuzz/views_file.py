"""Fuzz files of test-time views; what is taken must render."""

import tempfile
from pathlib import Path

from driver import fuzz


def load():
    import numpy as np

    from tlkit.data.tta import find_views, views_risk
    from tlkit.tasks import Task

    file = Path(tempfile.mkdtemp(prefix="views-")) / "fuzzed.toml"
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)

    def run(data):
        file.write_bytes(data)
        for view in find_views(file):
            for fit in ("crop", "letterbox"):
                assert view.render(image, 16, fit).shape == (16, 16, 3)
        views_risk(file, Task("single_label", ("6", "9")))

    return run


def seeds():
    yield b"[[views]]\n\n[[views]]\nscale = 1.25\nmirror = true\nangle = 5\n"
    yield b'[[views]]\ncrop = "top_left"\nscale = 0.25\n[[views]]\nangle = -180.0\nscale = 2\n'


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.toml", "tlkit.data.tta"])
