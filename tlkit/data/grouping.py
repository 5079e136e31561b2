"""Groups by a regular expression on the path. It is matched in a process of its own, which can be stopped.

An expression such as `(a+)+$` takes ages on some paths, and either may come from a stranger.
"""

import json
import subprocess
import sys

from tlkit.errors import DataError

SECONDS = 10  # for any number of paths
PATHS_PER_SECOND = 20_000  # what a set of many paths may take in addition

MATCH = """
import json, re, sys
pattern, paths = json.load(sys.stdin)
try:
    compiled = re.compile(pattern)
except (re.error, OverflowError, RecursionError, MemoryError) as error:
    answer = str(error) or type(error).__name__
else:
    found = map(compiled.search, paths)
    answer = [match and (match[1] if compiled.groups else match[0]) for match in found]
json.dump(answer, sys.stdout)
"""


def group_by_regex(paths, pattern):
    """Return the group of every path: the first group of the pattern's match, or all of it.

    Raises:
        DataError: If the pattern is no regular expression, doesn't match every path, or takes too long.
    """
    seconds = SECONDS + len(paths) / PATHS_PER_SECOND
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-S", "-c", MATCH],
            input=json.dumps([pattern, list(paths)]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"--group-by: {pattern!r} takes more than {seconds:.0f} s to match {len(paths)} paths. Write it without "
            "repetitions inside repetitions"
        ) from None
    if child.returncode:
        raise DataError(f"--group-by: {pattern!r} can't be matched: it needs too much memory")
    groups = json.loads(child.stdout)
    if isinstance(groups, str):
        raise DataError(f"--group-by: {pattern!r} is no regular expression: {groups}")
    unmatched = [path for path, group in zip(paths, groups, strict=True) if not group]
    if unmatched:
        raise DataError(
            f"--group-by: {pattern!r} must match every path; in {len(unmatched)} of {len(paths)} it finds no group, "
            f"first {unmatched[0]!r}"
        )
    return groups
