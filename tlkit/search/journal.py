"""What a search has asked and been told, line by line: all that it takes to go on after a kill."""

import json
import os

from tlkit.errors import RunError
from tlkit.files import LARGEST_TEXT, read_plain
from tlkit.lock import Lock
from tlkit.run import refuse_links


class Journal:
    """A file of JSON lines, in the order in which things happened; each is on disk before anything follows from it.

    Args:
        path: `pathlib.Path`; made with the first line.

    Attributes:
        lines: The dicts so far, those of earlier processes first.

    Raises:
        RunError: If a line that isn't the last can't be read, or another process works on the search.
    """

    def __init__(self, path):
        self._path, self.lines = path, []
        refuse_links(path.parent)
        self._lock = Lock(path.with_suffix(".lock"), "this search")
        if path.exists():
            self._read()

    def close(self):
        """Let others have the search."""
        self._lock.release()

    def append(self, **line):
        """Add a line, and wait until it is on disk."""
        with self._path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)

    def _read(self):
        """Read the lines; one that a kill cut short is cut off, since nothing followed from it."""
        text = read_plain(self._path, LARGEST_TEXT, RunError)
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise RunError(f"{self._path}, line {number}: is damaged. Start a new search in another --out.")
            self.lines.append(value)
