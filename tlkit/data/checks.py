"""Every file is opened once, in threads, and the verdict is kept by path, size, times and inode."""

import hashlib
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tlkit.data.files import LARGE_BYTES, file_size, in_turn, read_file
from tlkit.data.headers import DecodeError
from tlkit.run import usable_cpus

VERSION = 2  # of what a check means; verdicts of each version lie in a table of their own
CHUNK = 512  # files between two writes to the cache, so that an interrupted check is not lost

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS verdicts_{VERSION} (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER,
    sha256 TEXT, width INTEGER, height INTEGER, problem TEXT, format TEXT, orientation INTEGER, pattern INTEGER)
"""


class Verdict(NamedTuple):
    """What is known of one file: `sha256` of its bytes, and what `tlkit.data.decode.Check` says."""

    sha256: str
    width: int
    height: int
    problem: str | None
    format: str = ""
    orientation: int = 0
    pattern: int = 0


def check_files(paths, progress=None, threads=None):
    """Check image files, each once in its life.

    Args:
        paths: Paths of the files.
        progress: Function of `(done, total)`, called from this thread; None for no progress.
        threads: Number of threads; None for one per processor.

    Returns:
        list of `Verdict`, one per path.
    """
    verdicts = []
    threads = threads or min(32, usable_cpus())
    report = progress or (lambda done, total: None)
    report(0, len(paths))
    with closing(_Cache(cache_folder() / "checks.sqlite")) as cache, ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(paths), CHUNK):
            chunk = paths[start : start + CHUNK]
            stamps = [_stamp(path) for path in chunk]
            known = [cache.get(path, stamp) for path, stamp in zip(chunk, stamps, strict=True)]
            fresh = pool.map(_check, (path for path, verdict in zip(chunk, known, strict=True) if verdict is None))
            new = []
            for path, stamp, verdict in zip(chunk, stamps, known, strict=True):
                if verdict is None:
                    verdict = next(fresh)
                    new.append((path, stamp, verdict))
                verdicts.append(verdict)
                report(len(verdicts), len(paths))
            cache.put(new)
    return verdicts


def cache_folder():
    """Return the folder for what may be thrown away: `$TLKIT_CACHE`, or the user's cache folder of this platform."""
    if chosen := os.environ.get("TLKIT_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("tlkit"))


def _stamp(path):
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino % 2**63


def _check(path):
    from tlkit.data.decode import check

    try:
        with in_turn(file_size(path) > LARGE_BYTES):
            data = read_file(path)
            return Verdict(hashlib.sha256(data).hexdigest(), **check(data)._asdict())
    except DecodeError as error:
        return Verdict("", 0, 0, str(error))
    except OSError as error:
        return Verdict("", 0, 0, f"can't be read: {error.strerror}")


class _Cache:
    """Verdicts in SQLite, which lets several processes write; where it can't be used, nothing is kept."""

    def __init__(self, path):
        self.connection = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=10)
            self.connection.execute(SCHEMA)
        except (OSError, sqlite3.Error):
            self.close()

    def get(self, path, stamp):
        if self.connection is None or stamp is None:
            return None
        query = (
            f"SELECT {', '.join(Verdict._fields)} FROM verdicts_{VERSION} "
            "WHERE path=? AND size=? AND mtime_ns=? AND ctime_ns=? AND inode=?"
        )
        try:
            row = self.connection.execute(query, (_key(path), *stamp)).fetchone()
        except sqlite3.Error:
            return None
        return row and Verdict(*row)

    def put(self, new):
        rows = [(_key(path), *stamp, *verdict) for path, stamp, verdict in new if stamp and verdict.sha256]
        if self.connection is None or not rows:
            return
        try:
            with self.connection:
                marks = ", ".join("?" * len(rows[0]))
                self.connection.executemany(f"INSERT OR REPLACE INTO verdicts_{VERSION} VALUES ({marks})", rows)
        except sqlite3.Error:
            self.close()

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def _key(path):
    return os.fsencode(path)  # names need not be valid text
