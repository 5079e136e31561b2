"""A public dataset from its card: downloaded, verified, unpacked, and in the place that `--data` takes."""

import contextlib
import json
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tlkit.data.listing import list_csv, list_folder
from tlkit.data.splits import SPLITS
from tlkit.download import CHECKSUMS, Remote, fetch
from tlkit.errors import DataError
from tlkit.files import LARGEST_TEXT, read_plain
from tlkit.lock import FILE as LOCK_FILE
from tlkit.lock import Lock
from tlkit.progress import Listener
from tlkit.share import read_card
from tlkit.unpack import SIDECARS, is_archive, unpack

RECORD = "tlkit-dataset.json"  # in a folder that is whole: what was got, and how much it is
MARK, UNPACKED = ".tlkit-download", "unpacked"  # in a folder of downloads: that it is ours, and what is coming to be


@dataclass(frozen=True)
class Got:
    """A dataset that is here.

    Attributes:
        name: Its card's.
        data: What `--data` takes.
        images, classes: How many there are.
        splits: Dict of split to number of images; empty where the dataset has no splits.
        fresh: Whether it was downloaded now, and wasn't here already.
    """

    name: str
    data: Path
    images: int
    classes: int
    splits: dict[str, int]
    fresh: bool


def get_dataset(name, folder=None, *, listener=None):
    """Download a public dataset into a folder, which appears whole or not at all.

    What is downloaded lies in `<folder>.part` until the folder is there, and a later call goes on from it.

    Args:
        name: One of `tlkit datasets`.
        folder: A new or empty folder; by default one of that name in the current one. One that holds the dataset
            already is left as it is.
        listener: `Listener` for progress and notes.

    Returns:
        `Got`.

    Raises:
        DataError: If there is no such card, the folder holds anything else, or the files aren't laid out as they were.
        DownloadError, ArchiveError: As `tlkit.download.fetch` and `tlkit.unpack.unpack` say.
    """
    listener = listener or Listener()
    card = read_card(name)
    remotes = [_remote(card, file) for file in card["files"]]
    folder = Path(folder or name).expanduser()
    if folder.name in ("", ".."):
        raise DataError(f"{folder}: expected the name of a new folder, which the dataset becomes.")
    if _is_taken(folder):
        return _found(card, folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder. Received a file.")
    listener.note(f"{card['title']}; licence: {card['licence']}")
    try:
        downloads = _downloads_folder(folder)
        lock = Lock(downloads / LOCK_FILE, "this download")
    except OSError as error:
        raise _cannot_write(error, folder) from None
    try:
        if _is_taken(folder):  # another call has just ended
            return _found(card, folder)
        files = [downloads / PurePosixPath(urlsplit(remote.url).path).name for remote in remotes]
        for remote, file in zip(remotes, files, strict=True):
            listener.note(f"downloading {remote.url}" + (f", {remote.size:,} bytes" if remote.size else ""))
            fetch(remote, file, progress=partial(_report, listener, file.name), note=listener.note)
        got = _lay_out(card, files, downloads / UNPACKED, folder, listener)
        for file in files:
            file.unlink()
    except OSError as error:
        raise _cannot_write(error, folder) from None
    finally:
        _tidy(downloads, lock)
    return got


def _is_taken(folder):
    return folder.is_dir() and any(folder.iterdir())


def _cannot_write(error, folder):
    return DataError(f"{error.filename or folder}: can't be written: {error.strerror}. Mend that and try again.")


def _report(listener, name, done, total):
    listener.bytes_received(done, total, name)


def _remote(card, file):
    known = [kind for kind in CHECKSUMS if kind in file]
    if not known:
        raise DataError(
            f"datasets get {card['name']}: no checksum of {file['url']} is published, so what came couldn't be told "
            f"from anything else. By hand: download it. {' '.join(card['layout'].split())}"
        )
    return Remote(file["url"], known[0], file[known[0]], file.get("bytes"))


def _found(card, folder):
    """Return the dataset that a folder holds, checked to be the card's and whole."""
    try:
        record = json.loads(read_plain(folder / RECORD, LARGEST_TEXT, DataError))
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{folder}: holds something else. Choose another folder.") from None
    if record != _record(card, folder):
        raise DataError(
            f"{folder}: isn't what `tlkit datasets get {card['name']}` makes: it is another dataset, files were added "
            "or lost, or the card changed. Move it away, or choose another folder."
        )
    return _count(card, folder, fresh=False)


def _record(card, folder):
    """Return what tells a whole dataset from one that lost files."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (RECORD, *SIDECARS))
    sizes = [path.stat().st_size for path in files]
    return {"name": card["name"], "files": card["files"], "count": len(sizes), "bytes": sum(sizes)}


def _downloads_folder(folder):
    """Make or find the folder where downloads wait; what it holds besides them is left of an earlier call."""
    downloads = folder.with_name(f"{folder.name}.part")
    mark = downloads / MARK
    if _is_taken(downloads) and not mark.is_file():
        raise DataError(f"{downloads}: is needed for the download and holds something else. Choose another folder.")
    downloads.mkdir(parents=True, exist_ok=True)
    mark.touch()
    return downloads


def _tidy(downloads, lock):
    """Remove what a failed call has unpacked, let others in, and remove the folder if nothing waits in it for them."""
    shutil.rmtree(downloads / UNPACKED, ignore_errors=True)
    with contextlib.suppress(OSError):
        if {path.name for path in downloads.iterdir()} == {MARK, LOCK_FILE}:
            (downloads / MARK).unlink()
    lock.release()
    with contextlib.suppress(OSError):
        downloads.rmdir()


def _lay_out(card, files, unpacked, folder, listener):
    """Unpack the files, make of them what `--data` takes, and give the folder its name once it is whole."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(unpacked)
    unpacked.mkdir()
    for file in files:
        if is_archive(file.name):
            listener.note(f"unpacking {file.name}")
            unpack(file, unpacked)
        else:
            shutil.copyfile(file, unpacked / file.name)
    try:
        if "build" in card["get"]:
            from tlkit.data.public import build

            build(card["get"]["build"], unpacked)
        got = _count(card, unpacked, fresh=True)
    except DataError as error:
        by_hand = " ".join(card["layout"].split())
        raise DataError(f"{error} What was downloaded is kept in {unpacked.parent}; by hand: {by_hand}") from None
    text = json.dumps(_record(card, unpacked), indent=2, ensure_ascii=False)
    (unpacked / RECORD).write_text(text + "\n", "utf-8", newline="\n")
    unpacked.replace(folder)
    return replace(got, data=folder / card["get"]["data"])


def _count(card, folder, fresh):
    """Return what a folder holds, listed as `--data` does, without opening an image."""
    path = (folder / card["get"]["data"]).absolute()
    try:
        listing = _list(path)
    except (DataError, OSError) as error:
        raise DataError(f"{card['name']}: isn't laid out as its card says: {error}") from None
    classes = len(listing.labels["label"].classes)
    if classes != card["classes"]:
        raise DataError(f"{card['name']}: expected {card['classes']} classes. Found {classes}: it isn't the card's.")
    counts = Counter(listing.split or ())
    splits = {split: counts[split] for split in SPLITS if counts[split]}
    return Got(card["name"], folder / card["get"]["data"], len(listing.paths), classes, splits, fresh)


def _list(path):
    kinds = {"label": "auto"}
    if path.suffix == ".csv":
        return list_csv(path, kinds)
    if path.suffix == ".npz":
        from tlkit.data.arrays import list_npz

        return list_npz(path, kinds)
    return list_folder(path)
