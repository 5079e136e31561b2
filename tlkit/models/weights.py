"""Where a backbone's weights come from, and what a weights file holds. Imports neither Keras nor TensorFlow.

No file is given to Keras or to the HDF5 library as it came: `tlkit.models.hdf5` reads its arrays, and what Keras loads
is a file of ours that holds them and nothing else.
"""

import hashlib
import http.client
import importlib.util
import os
import tempfile
import warnings
import zipfile
from pathlib import Path

import h5py

from tlkit import run as run_folder
from tlkit.catalog import BUILDABLE, DEFAULT_BACKBONE, Download, Package
from tlkit.download import open_tls
from tlkit.errors import WeightsError, did_you_mean
from tlkit.files import read_plain
from tlkit.models.hdf5 import SIGNATURE, TEXTS, Group, read_hdf5

PROBE_SECONDS = 4
NAMED = ("imagenet", "none")
LARGEST_WEIGHTS = 4 * 2**30  # bytes of a weights file; the largest backbone's has 1.4 GB
LONGEST_LINE = 300  # characters of what Keras says
LONGEST_NAMES = 60_000  # bytes of one attribute of an HDF5 file, which can have 64 KiB


def check_weights(name, weights):
    """Make sure, in seconds and without TensorFlow, that the weights can be had.

    Args:
        name: Name of a backbone of the catalog.
        weights: None, `"none"`, `"imagenet"`, or the path of a weights file or of an earlier run.

    Raises:
        WeightsError: If they are neither here nor (`"imagenet"`) downloadable, or damaged.
    """
    source = find_backbone(name).weights
    if weights == "imagenet" and isinstance(source, Download) and not cached_file(name).exists():
        _open(name).close()
    else:
        find_weights(name, weights)


def at_hand(name):
    """Tell whether a backbone's ImageNet weights are here already: nothing is downloaded, nothing read."""
    source = find_backbone(name).weights
    if isinstance(source, Package):
        return _in_package(source) is not None
    return source is not None and cached_file(name).is_file()


def find_weights(name, weights, progress=None):
    """Find the file to read; ImageNet's is downloaded where it isn't here yet.

    Args:
        name: Name of a backbone of the catalog.
        weights: As for `check_weights`.
        progress: Function of the bytes downloaded so far and their total (0 where that is unknown).

    Returns:
        `pathlib.Path`, or None for random weights.

    Raises:
        WeightsError: If there is no such file, or it is damaged.
    """
    source = find_backbone(name).weights
    if weights in (None, "none"):
        return None
    if weights != "imagenet":
        return _local_file(Path(weights).expanduser())
    if source is None:
        raise WeightsError(f"There are no ImageNet weights of {name}: it is a net from scratch. Use --weights none.")
    if isinstance(source, Package):
        return _packaged_file(name, source)
    path = cached_file(name)
    if not path.exists():
        _download(name, path, progress)
    _verify(path, source.hash)  # before Keras does: finding a mismatch, it deletes the file, also without a network
    return path


def find_backbone(name):
    """Return the catalog's entry, or raise `WeightsError` with the nearest name."""
    if name not in BUILDABLE:
        raise WeightsError(
            f"There is no backbone {name!r}.{did_you_mean(name, BUILDABLE)} `tlkit backbones` and `tlkit nets` list "
            "what there is."
        )
    return BUILDABLE[name]


def cached_file(name):
    """Return where Keras keeps (or would keep) the backbone's ImageNet weights without top."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home).expanduser() / "models" / BUILDABLE[name].weights.file


def _local_file(path):
    if path.is_dir():
        unfinished = (path / run_folder.RECIPE).is_file() and not run_folder.is_complete(path)
        if unfinished or not (path / run_folder.MODEL).is_file():
            raise WeightsError(f"{path}: no finished run to take weights from.")
        run_folder.refuse_links(path)
        return path / run_folder.MODEL
    if not path.is_file():
        raise WeightsError(
            f"{path}: there is no such file. `weights` must be 'imagenet', 'none', a weights file or an earlier run."
            f"{did_you_mean(path, NAMED)}"
        )
    if not (zipfile.is_zipfile(path) if path.suffix == ".keras" else path.suffix == ".h5" and _is_hdf5(path)):
        raise WeightsError(
            f"{path}: is no weights file that tlkit can read (.weights.h5, .h5 or .keras), or is damaged."
        )
    return path


def _is_hdf5(path):
    with path.open("rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def _packaged_file(name, package):
    path = _in_package(package)
    if path is None:
        raise WeightsError(f"The ImageNet weights of {name} come in a package that is not installed: {package.install}")
    return path


def _in_package(package):
    """Find a file of an installed package without importing the package; None where it isn't there."""
    spec = importlib.util.find_spec(package.module)
    path = Path(spec.origin).parent / package.file if spec and spec.origin else None
    return path if path is not None and path.is_file() else None


def _verify(path, expected):
    """Compare a file with its publisher's hash: MD5 or SHA-256, told apart by length; None where there is none."""
    if expected is None:
        try:
            read_arrays(path)
        except WeightsError as error:
            raise WeightsError(f"{path}: is damaged. Delete it to have it downloaded again. {error}") from error
        return
    algorithm = "md5" if len(expected) == 32 else "sha256"
    with path.open("rb") as file:
        received = hashlib.file_digest(file, algorithm).hexdigest()
    if received != expected:
        raise WeightsError(
            f"{path}: is damaged. Expected {algorithm} {expected}, received {received}. "
            "Delete it to have it downloaded again."
        )


def _open(name):
    """Open the connection from which the backbone's ImageNet weights can be read."""
    source, path = BUILDABLE[name].weights, cached_file(name)
    try:
        return open_tls(source.url, {}, PROBE_SECONDS)
    except OSError as error:  # a URLError is one, too
        raise WeightsError(
            f"The ImageNet weights of {name} are missing and can't be downloaded ({getattr(error, 'reason', error)}). "
            f"Put the file {path.name} into {path.parent} (it is {source.url}), or use {DEFAULT_BACKBONE}, which needs "
            "no download."
        ) from error


def _download(name, path, progress):
    """Download to a temporary file beside `path`, and rename it once it is known to be whole."""
    source = BUILDABLE[name].weights
    with _open(name) as response:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="tlkit-") as folder:
                partial = Path(folder) / path.name
                _receive(response, partial, progress)
                _verify(partial, source.hash)
                partial.replace(path)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(f"The download of {source.url} to {path} broke off: {error}. Try again.") from error


def _receive(response, path, progress):
    told = response.headers.get("Content-Length", "")
    total, received = int(told) if told.isdecimal() else 0, 0
    with path.open("wb") as file:
        while chunk := response.read(2**20):
            received += file.write(chunk)
            if received > LARGEST_WEIGHTS:
                raise ConnectionError(f"more than {LARGEST_WEIGHTS} bytes came")
            if progress:
                progress(received, total)
        os.fsync(file.fileno())
    if total and received != total:
        raise ConnectionError(f"{received} of {total} bytes came")


def read_arrays(path):
    """Read what an HDF5 weights file holds, as a `tlkit.models.hdf5.Group`.

    Raises:
        WeightsError: If it is damaged, too large, or holds anything but plain arrays.
    """
    return read_hdf5(read_plain(path, LARGEST_WEIGHTS, WeightsError), path)


def count_arrays(root):
    """Count the arrays of a weights file, legacy or of Keras 3, that belong to layers; `root` is its root."""
    legacy = _member(root, "model_weights", root)
    layers = legacy.names("layer_names")
    if layers:
        return sum(len(_member(legacy, name, Group()).names("weight_names")) for name in layers)
    return sum(not name.startswith("optimizer/") and "seed_generator" not in name for name, _ in root.walk())


def _member(group, name, otherwise):
    member = group.members.get(name)
    return member if isinstance(member, Group) else otherwise


def load_arrays(model, root, where):
    """Load what a weights file holds into a model of the same form.

    Args:
        model: `keras.Model`.
        root: `tlkit.models.hdf5.Group`, the file's root.
        where: `pathlib.Path` of the file, for the error and for its form: Keras tells them apart by name.

    Raises:
        WeightsError: If it is of another net.
    """
    legacy = where.suffix == ".h5" and not where.name.endswith(".weights.h5")
    with tempfile.TemporaryDirectory(prefix="tlkit-") as folder:
        copy = Path(folder) / ("arrays.h5" if legacy else "arrays.weights.h5")
        try:
            with h5py.File(copy, "w") as file:
                _write(root, file)
        except OSError as error:
            raise WeightsError(f"{where}: there is no room for a copy of its arrays in {folder}: {error}.") from error
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a file holds an optimizer, too, is no news
                model.load_weights(copy)
        except Exception as error:  # whatever Keras says about a sound file of arrays, it is of another net
            raise WeightsError(
                f"{where}: does not fit {model.name}, which has {len(model.weights)} arrays; the file holds "
                f"{count_arrays(root)}. {first_line(error)}"
            ) from error


def first_line(error):
    """Return the first line of what an error says, cut where it gets long: Keras writes several, with whole files."""
    reason = str(error).rpartition("Exception encountered: ")[2]  # of the innermost part that Keras was at
    return next(iter(reason.strip().splitlines()), type(error).__name__)[:LONGEST_LINE]


def _write(group, file):
    """Write a group with all below it into one of an HDF5 file."""
    for text in TEXTS:
        names = [name.encode() for name in group.names(text)]
        longest = max(map(len, names), default=1)
        fitting = max(1, LONGEST_NAMES // longest)
        for start in range(0, len(names), fitting):
            file.attrs[f"{text}{start // fitting}" if len(names) > fitting else text] = names[start : start + fitting]
    for name, member in group.members.items():
        if isinstance(member, Group):
            _write(member, file.create_group(name))
        else:
            file[name] = member.read()
