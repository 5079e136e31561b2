"""Fuzz what is made of a CSV beside a few images. The first byte chooses the tasks."""

import os
import tempfile
from pathlib import Path

from driver import fuzz

KINDS = (
    None,
    {"label": "single_label"},
    {"label": "multilabel"},
    {"label": "regression"},
    {"one": "auto", "two": "multilabel", "three": "regression"},
)
HEADER = b"path,label,split,group\n"


def load():
    from PIL import Image

    from tlkit.data.index import load as load_data

    folder = Path(tempfile.mkdtemp(prefix="csv-"))
    os.environ["TLKIT_CACHE"] = str(folder / "cache")
    for number in range(9):
        Image.linear_gradient("L").resize((9, 9)).rotate(40 * number).save(folder / f"{number}.png")
    file = folder / "labels.csv"

    def run(data):
        file.write_bytes(data[1:])
        loaded = load_data(file, tasks=KINDS[data[0] % len(KINDS)] if data else None)
        assert loaded.counts()["train"]

    return run


def seeds():
    rows = [f"{number}.png,{'ab'[number % 2]}" for number in range(9)]
    yield b"\x00path,label\n" + "\n".join(rows).encode()
    yield b"\x01" + HEADER + "\n".join(f"{row},{'train' if i < 6 else 'test'}," for i, row in enumerate(rows)).encode()
    yield b"\x01" + HEADER + "\n".join(f'"{row[:5]}","{row[6:]}",,{i // 2}' for i, row in enumerate(rows)).encode()
    yield b"\x02path,label\n" + "\n".join(f"{row}|c" if i < 4 else row for i, row in enumerate(rows)).encode()
    yield b"\x03path,label\n" + "\n".join(f"{i}.png,{i / 2}" for i in range(9)).encode()
    yield b"\x04path,one,two,three\n" + "\n".join(f"{row},x y,{i}" for i, row in enumerate(rows)).encode()
    yield b"\x01path,label\n../x.png,a\n/etc/passwd,b\n~/c.png,c\n"


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.data.listing", "tlkit.data.labels", "tlkit.data.index", "tlkit.data.oddities"])
