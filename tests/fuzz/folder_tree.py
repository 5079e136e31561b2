"""Fuzz what is made of a folder: class folders, links, pipes, odd names and files, as a few bytes say."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from driver import fuzz

NAMES = ("a", "b", "c", "train", "val", "test", "\udcff", "\x1b[2J", "1.png", "2.jpg", "3.heic", "4", ".x", "n" * 240)
TARGETS = ("/", "..", "/dev/zero", "/proc", "nowhere")


def load():
    from PIL import Image

    from tlkit.data.index import load as load_data

    home = Path(tempfile.mkdtemp(prefix="folder-"))
    os.environ["TLKIT_CACHE"] = str(home / "cache")
    images = []
    for number in range(16):
        images.append(home / f"{number}.png")
        Image.linear_gradient("L").resize((9, 9)).rotate(23 * number).save(images[-1])
    contents = [*(path.read_bytes() for path in images), b"", b"GIF89a", b"no image"]
    root = home.resolve() / "data"

    def run(data):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for position in range(0, min(len(data), 400) - 3, 4):
            make(root, data[position : position + 4], contents)
        loaded = load_data(root)
        assert loaded.counts()["train"]

    return run


def make(root, step, contents):
    """Add to the tree what four bytes say: what it is, and where."""
    kind, *where = step
    place = root.joinpath(*(NAMES[byte % len(NAMES)] for byte in where if byte < 224))
    with suppress(OSError, RuntimeError):  # the latter for links in circles
        if not place.parent.resolve().is_relative_to(root):  # a link leads out: nothing is written there
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind < 160:
            with place.open("xb") as file:  # writing into a pipe would wait for its reader
                file.write(contents[kind % len(contents)])
        elif kind < 192:
            place.symlink_to(root / NAMES[kind % len(NAMES)])
        elif kind < 208:
            place.symlink_to(TARGETS[kind % len(TARGETS)])
        elif kind < 224:
            os.mkfifo(place)
        else:
            place.mkdir()


def seeds():
    yield bytes(byte for number in range(16) for byte in (number, number % 2, 8 + number // 8, 255))
    yield bytes(byte for i in range(16) for byte in (i, 3 + (i > 9), i % 2, 8 + i % 3))
    yield bytes([*(160, 0, 1, 255), *(161, 1, 0, 255), *(1, 0, 8, 255), *(208, 1, 9, 255), *(192, 2, 255, 255)])


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.data.listing", "tlkit.data.walk", "tlkit.data.files", "tlkit.data.checks"])
