"""Fuzz the reader of a search's journal, and the search that goes on from it."""

import json
from pathlib import Path

from driver import fuzz


class _Oracle:
    """Proposes nothing new, and answers whatever it is asked again."""

    def __getattr__(self, _name):
        return lambda *_arguments, **_settings: None


def load():
    """Return what takes the bytes of a `journal.jsonl`."""
    from tlkit.search.journal import Journal
    from tlkit.search.trials import Trials

    folder = Path("search").resolve()
    folder.mkdir(exist_ok=True)

    def read(data):
        (folder / "journal.jsonl").write_bytes(data)
        journal = Journal(folder / "journal.jsonl")
        try:
            Trials(_Oracle(), journal)
        finally:
            journal.close()

    return read


def seeds():
    """Yield small valid journals."""
    answer = {"status": "done", "score": 0.5, "curve": [0.25, 0.5], "seconds": 1.5, "reason": ""}
    lines = [{"asked": None}, {"told": 0, "answer": answer}, {"decided": {"folds": 3}}]
    yield "".join(json.dumps(line) + "\n" for line in lines).encode()


if __name__ == "__main__":
    fuzz(load, seeds, ["tlkit.search.journal", "tlkit.search.trials"])
