"""Fuzz the reader of PyTorch's legacy weights files."""

from driver import fuzz


def load():
    """Return what takes the bytes of a file."""
    from tlkit.models.pth import parse_pth

    return lambda data: parse_pth(data, "fuzzed.pth")


def seeds():
    """Yield small valid files."""
    from small_files import pth

    yield pth()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.models.pth"])
