"""What a source says before any image is opened: names, labels, splits and groups of a folder or a CSV."""

import csv
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.data.files import is_file
from tlkit.data.labels import has_controls, possible_kinds, read_classes, read_column
from tlkit.data.walk import IMAGE_SUFFIXES, UNSUPPORTED_SUFFIXES, images_below, images_in, leading_out, subfolders
from tlkit.errors import DataError, did_you_mean, printable, shown

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
MOST_HINTS = 4  # columns that an error proposes


@dataclass
class Listing:
    """Items in a fixed order, as their source names them.

    Attributes:
        source: Absolute path, or "arrays".
        root: The folder that `paths` are relative to; None for arrays.
        paths: Names of the items with "/" between folders, unique.
        labels: Dict of task to `tlkit.data.labels.Column`.
        split: "train", "val" or "test" per item; None if the source has no splits.
        groups: A key per item, "" for none; None if the source names no groups.
        images: uint8 arrays, or None where the images are files.
        findings: Dicts of `path` and `problem`, for what was left out, and where not, of `left_out`.
    """

    source: str
    root: Path | None
    paths: list
    labels: dict
    split: list | None = None
    groups: list | None = None
    images: object = None
    findings: list = field(default_factory=list)


def find_source(source):
    """Return the absolute path of a folder, a CSV or an .npz file.

    Raises:
        DataError: If nothing is there, or it is something else.
    """
    try:
        path = Path(source).expanduser().absolute()
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{source}: no such file or folder.{_near(path)}") from None
    except (OSError, RuntimeError, ValueError) as error:  # no such user's home; a name that no file can have
        raise DataError(f"{source}: {getattr(error, 'strerror', None) or error}. Check the path.") from None
    if stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and path.suffix.lower() in (".csv", ".npz")):
        return path
    archive = path.suffix.lower() in (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
    advice = "unpack the archive and pass the folder" if archive else "pass a folder with one subfolder per class"
    raise DataError(f"{source}: data must be a folder, a .csv or an .npz file: {advice}")


def _near(path):
    if not path.parent.is_dir():
        return f" The folder {path.parent} doesn't exist either."
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        siblings = []
    return did_you_mean(path.name, siblings) or " Check the path."


# --- folders ---------------------------------------------------------------------------------------------------------


def list_folder(root):
    """List a folder with one subfolder per class, optionally under train/, val/ and test/.

    Args:
        root: Absolute path of the folder.

    Returns:
        `Listing` with the task "label".

    Raises:
        DataError: If no images are there, or they don't lie in class folders.
    """
    top = subfolders(root)
    splits = _split_folders(root, top)
    found, names = Listing(str(root), root, [], {}, split=[] if splits else None), []
    if splits:
        for folder in top:
            if folder in splits:
                _add_classes(found, names, root / folder, splits[folder])
            elif next(images_below(root / folder), None):
                _leave_out(found, root / folder, "lies beside train/ and isn't a split: its images are left out")
    else:
        _add_classes(found, names, root, None)
    if not found.paths:
        raise DataError(_no_images(root, splits))
    found.labels["label"] = read_classes(names)
    found.findings += _elsewhere(root, found.paths)
    return found


def _elsewhere(root, paths):
    """Return a list of the one finding that some images don't lie in the data's folder, or of none."""
    outside = list(leading_out(root, paths))
    if not outside:
        return []
    path, place = outside[0]
    more = f", as do {len(outside) - 1} more" if len(outside) > 1 else ""
    problem = f"leads out of the data's folder to {printable(_shown(place))}{more}: look whether that is meant"
    return [{"path": path, "problem": problem, "left_out": False}]


def _split_folders(root, top):
    """Return a dict of folder to split, empty if the folders of the first level are classes.

    A class may well be called "train": it then stands among other classes and holds images itself.
    """
    splits = {folder: SPLIT_NAMES[folder.lower()] for folder in top if folder.lower() in SPLIT_NAMES}
    if len(splits) == len(top):
        return splits
    train = [root / folder for folder, split in splits.items() if split == "train"]
    return splits if train and subfolders(train[0]) and not images_in(train[0]) else {}


def _add_classes(found, labels, folder, split):
    """Add the images of a folder of class folders, and the class of each to `labels`."""
    loose = images_in(folder)
    names = subfolders(folder)
    if loose and names:
        count = f"{len(loose)} image{'s' if len(loose) > 1 else ''}"
        _leave_out(found, folder, f"{count} directly in this folder, not in a class folder: left out")
    for name in names:
        images = sorted(images_below(folder / name))
        if not images:
            _leave_out(found, folder / name, "a folder without images: not taken as a class")
        if not _is_utf8(name):
            raise DataError(f"{folder / _shown(name)}: the folder's name is not UTF-8, and it is a class: rename it")
        if has_controls(name):
            raise DataError(f"{folder / name}: the folder's name has control characters, and it is a class: rename it")
        for path in images:
            relative = path.relative_to(found.root).as_posix()
            if not _is_utf8(relative):
                problem = "the file's name is not UTF-8: rename it to have it used"
                found.findings.append({"path": _shown(relative), "problem": problem})
                continue
            if has_controls(relative):
                problem = "the file's name has control characters: rename it to have it used"
                found.findings.append({"path": printable(relative), "problem": problem})
                continue
            if path.suffix.lower() in UNSUPPORTED_SUFFIXES:
                problem = f"{path.suffix.lower()[1:].upper()} isn't supported: convert it to JPEG or PNG"
                found.findings.append({"path": relative, "problem": problem})
                continue
            found.paths.append(relative)
            labels.append(name)
            if split:
                found.split.append(split)


def _is_utf8(name):
    """Tell whether a name that the file system gave can be written to a text file."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(name):
    return name.encode(errors="backslashreplace").decode()


def _leave_out(found, folder, problem):
    found.findings.append({"path": printable(folder.relative_to(found.root).as_posix()), "problem": problem})


def _no_images(root, splits):
    loose = [path for folder in [root, *(root / split for split in splits)] for path in images_in(folder)]
    if loose:
        return (
            f"{root}: {len(loose)} images, but no class folders. Put the images of each class into a folder of its "
            "own, or pass a CSV with the columns path,label"
        )
    return f"{root}: no images found ({', '.join(sorted(IMAGE_SUFFIXES))}). Expected one folder per class"


# --- CSV -------------------------------------------------------------------------------------------------------------


def list_csv(path, kinds):
    """List a CSV with the columns `path`, one per task, and optionally `split` and `group`.

    Args:
        path: Absolute path of the file; the paths in it are relative to its folder.
        kinds: Dict of label column to a kind of task, or to `"auto"`.

    Returns:
        `Listing`.

    Raises:
        DataError: If columns or images are missing, or a cell can't be used; names the line.
    """
    lines, cells = _read_columns(path)
    for column in ("path", *kinds):
        if column not in cells:
            hint = "" if column == "path" else _hint_at_labels(cells)
            near = did_you_mean(column, cells)
            raise DataError(f"{path}: no column {column!r}; the columns are {', '.join(cells)}.{near}{hint}")
    names = cells["path"]
    _no_unusable_names(path, lines, names)
    try:
        labels = {name: read_column(name, cells[name], lines, kind) for name, kind in kinds.items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    _no_repeated_paths(path, lines, names)
    _no_missing_files(path, lines, names)
    return Listing(
        source=str(path),
        root=path.parent,
        paths=names,
        labels=labels,
        split=_splits(path, lines, cells.get("split")),
        groups=cells.get("group"),
        findings=_elsewhere(path.parent, names),
    )


def _hint_at_labels(cells):
    """Return what to type to have one of the other columns taken for the labels."""
    others = [name for name in cells if name not in ("path", "split", "group")][:MOST_HINTS]
    if not others:
        return ""
    flags = [" or ".join(f"`--task {name}={kind}`" for kind in possible_kinds(cells[name])[0]) for name in others]
    return f" To name a label column, add {'; '.join(flags)}"


class _Columns(Mapping):
    """The columns of rows that may be shorter than the header; each is made when it is asked for."""

    def __init__(self, names, rows):
        self._places, self._rows = {name: place for place, name in enumerate(names)}, rows

    def __getitem__(self, name):
        place = self._places[name]
        return [row[place].strip() if place < len(row) else "" for row in self._rows]

    def __contains__(self, name):
        return name in self._places

    def __iter__(self):
        return iter(self._places)

    def __len__(self):
        return len(self._places)


def _read_columns(path):
    """Return the line numbers of the rows that aren't blank, and a mapping of column to its stripped cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, ())]
            rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}): save the CSV as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from None
    if not rows:
        raise DataError(f"{path}: the CSV has no rows; expected the columns path,label and a row per image")
    for line, row in rows:
        if len(row) > len(names):
            raise DataError(f"{path}: line {line}: more cells than columns; put quotes around cells that hold a comma")
    return [line for line, _ in rows], _Columns(names, [row for _, row in rows])


def _no_unusable_names(path, lines, names):
    for line, name in zip(lines, names, strict=True):
        if not name or has_controls(name):
            what = f"has control characters: {shown(name)}; rename the file" if name else "is empty; fill it in"
            raise DataError(f"{path}: line {line}: the 'path' {what} or remove the row")


def _no_repeated_paths(path, lines, names):
    first = {}
    for line, name in zip(lines, names, strict=True):
        if name in first:
            raise DataError(f"{path}: line {line}: {name} stands already in line {first[name]}; keep one row per image")
        first[name] = line


def _no_missing_files(path, lines, names):
    missing = [(line, name) for line, name in zip(lines, names, strict=True) if not is_file(path.parent / name)]
    if missing:
        line, name = missing[0]
        count = "1 file is" if len(missing) == 1 else f"{len(missing)} of {len(names)} files are"
        raise DataError(
            f"{path}: {count} missing, first {name!r} in line {line} (paths are relative to {path.parent}): "
            "mend the paths or remove the rows"
        )


def _splits(path, lines, cells):
    if cells is None or not any(cells):
        return None
    for line, cell in zip(lines, cells, strict=True):
        if cell.lower() not in SPLIT_NAMES:
            hint = did_you_mean(cell, SPLIT_NAMES) if cell else ""
            raise DataError(f"{path}: line {line}: `split` must be train, val or test. Received: {cell!r}.{hint}")
    return [SPLIT_NAMES[cell.lower()] for cell in cells]
