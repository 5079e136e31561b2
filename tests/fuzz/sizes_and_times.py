"""Fuzz sizes (`--cache-size`) and times (`--budget`)."""

from contextlib import suppress

from driver import fuzz


def load():
    from tlkit.errors import TlkitError
    from tlkit.search.budget import LEAST_SECONDS, MOST_SECONDS, format_duration, parse_duration
    from tlkit.training.sizes import format_size, parse_size

    def run(data):
        text = data.decode("utf-8", "replace")
        with suppress(TlkitError):
            assert format_size(parse_size(text))
        seconds = parse_duration(text)
        assert LEAST_SECONDS <= seconds <= MOST_SECONDS
        assert format_duration(seconds)

    return run


def seeds():
    yield from (b"500MB", b"20 gb", b"1.5T", b"1000000", b"90s", b"1h30m", b"0.5h10.25m3s", b"999h")


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.training.sizes", "tlkit.search.budget"])
