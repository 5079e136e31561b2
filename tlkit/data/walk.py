"""The images in folders that somebody else made: every place is visited once, nothing is waited for.

Links are followed, as people keep their pictures on another disk; `leading_out` says which images lie elsewhere.
"""

import os
from pathlib import Path

from tlkit.data.files import open_file
from tlkit.data.headers import DecodeError, looks_like_image
from tlkit.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
UNSUPPORTED_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".raw", ".dng", ".nef", ".cr2"}
)
MAX_IMAGES = 10_000_000  # below one folder; links may multiply few to more than there are
SYSTEM = ("/dev", "/proc", "/sys")  # hold no pictures, and files that do something when they are read


def subfolders(folder):
    """Return the names of a folder's subfolders, sorted, but for hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_folder(entry))


def images_in(folder):
    """Return the paths of the images directly in a folder, sorted, also of kinds that we can't read."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if _is_image(entry))


def images_below(folder):
    """Yield the images of a folder and its subfolders.

    A folder that links name again is not visited again, nor is one that holds all of this.

    Raises:
        DataError: If there are more than ten million.
        OSError: If a folder can't be read.
    """
    start, seen, count = os.path.realpath(folder), set(), 0
    waiting = [(Path(folder), start)]
    while waiting:
        here, place = waiting.pop()
        above = place != start and _is_within(start, (place,))
        if place in seen or above or _is_within(place, SYSTEM):
            continue
        seen.add(place)
        for path in images_in(here):
            count += 1
            if count > MAX_IMAGES:
                raise DataError(f"{folder}: more than {MAX_IMAGES:,} images; do links multiply them?")
            yield path
        waiting += [(here / name, _place(here / name, place)) for name in reversed(subfolders(here))]


def leading_out(root, paths):
    """Yield `(path, place)` of the paths that lead out of a folder, by links, `..` or as absolute ones.

    Args:
        root: The folder.
        paths: Names relative to it.
    """
    top, places = os.path.realpath(root), {}
    for path in paths:
        folder, name = os.path.split(os.path.join(root, path))  # noqa: PTH118
        if folder not in places:
            places[folder] = os.path.realpath(folder)
        place = os.path.join(places[folder], name)  # noqa: PTH118
        if name == ".." or os.path.islink(place):  # noqa: PTH114
            place = os.path.realpath(place)
        if not _is_within(place, (top,)):
            yield path, place


def _place(folder, place_above):
    """Return where a folder lies, given where the one above lies."""
    if os.path.islink(folder):  # noqa: PTH114
        return os.path.realpath(folder)
    return os.path.join(place_above, folder.name)  # noqa: PTH118


def _is_within(place, folders):
    return any(place == folder or place.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def _is_folder(entry):
    if entry.name.startswith((".", "__MACOSX")):
        return False
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def _is_image(entry):
    if entry.name.startswith(".") or _is_folder(entry):
        return False
    suffix = Path(entry.name).suffix.lower()
    if suffix:
        return suffix in IMAGE_SUFFIXES or suffix in UNSUPPORTED_SUFFIXES
    try:
        with open_file(entry.path) as file:
            return looks_like_image(file.read(16))
    except (OSError, DecodeError):
        return False
