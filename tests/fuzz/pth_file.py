"""Fuzz the reader of PyTorch's legacy weights files."""

import collections
import pickle
import sys
from pathlib import Path

from driver import fuzz

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))


def load():
    from tlkit.models.pth import parse_pth

    return lambda data: parse_pth(data, "fuzzed.pth")


def seeds():
    yield b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.\x80\x02}q\x00.\x80\x02]q\x00."


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.models.pth"])
