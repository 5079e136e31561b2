"""Bytes as people write them, and how many a disk has left."""

import re
import shutil
from decimal import Decimal
from pathlib import Path

from tlkit.errors import TlkitError, shown

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
MOST = 2**63 - 1  # bytes, that any disk or integer holds


def parse_size(text):
    """Return the bytes that a text such as `"500MB"`, `"20 GB"`, `"1.5T"` or `"1000000"` stands for.

    Raises:
        TlkitError: If it isn't a size. A kB is 1000 bytes, as disks are sold.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]?)B?\s*", str(text), re.IGNORECASE)
    if match is None:
        raise TlkitError(
            f"--cache-size: expected bytes, or a number with KB, MB, GB or TB, such as 20GB. Received: {shown(text)}"
        )
    return min(MOST, int(Decimal(match[1]) * UNITS[match[2].upper()]))


def format_size(size):
    """Return a number of bytes for people, as `"1.5 GB"`."""
    unit = next((name for name in "TGMK" if size >= UNITS[name]), "")
    return f"{size / UNITS[unit]:.1f} {unit}B" if unit else f"{size} B"


def free_bytes(folder):
    """Return the free bytes of the disk on which `folder` lies or would lie; 0 if there is no telling."""
    folder = Path(folder).absolute()
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return 0
    return 0
