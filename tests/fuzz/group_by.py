"""Fuzz `--group-by`: the first line is the expression, the others are paths."""

from driver import fuzz


def load():
    from tlkit.data import grouping

    grouping.SECONDS = 2

    def run(data):
        pattern, *paths = data.decode("utf-8", "replace").split("\n")
        assert len(grouping.group_by_regex(paths, pattern)) == len(paths)

    return run


def seeds():
    yield b"([^/]+)/\na/1.png\nb/2.png"
    yield b"patient(\\d+)_\npatient12_1.png\npatient13_1.png"
    yield b"(a+)+$\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.data.grouping"])
