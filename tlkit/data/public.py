"""Public datasets, unpacked as their makers give them out, made into what `--data` takes."""

import shutil

import numpy as np

from tlkit.errors import DataError
from tlkit.run import atomic_path, write_csv

LABELS = "labels.csv"
CIFAR_SHAPE = (3, 32, 32)  # channels, height, width


def build(maker, folder):
    """Make the file of a card's `get.data` in the folder where the card's files lie unpacked.

    Args:
        maker: One of `MAKERS`, a card's `get.build`.
        folder: `pathlib.Path`.

    Raises:
        DataError: If the folder isn't laid out as the maker knows it.
    """
    try:
        MAKERS[maker](folder)
    except (FileNotFoundError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{maker}: isn't laid out as its card says: {error}") from None


def _cifar10(folder):
    """Write records of a label and three planes of pixels as one .npz; the labels by name."""
    source = folder / "cifar-10-batches-bin"
    names = np.array((source / "batches.meta.txt").read_text("ascii").split())
    parts = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
    arrays = {}
    for part, files in parts.items():
        content = b"".join((source / file).read_bytes() for file in files)
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + np.prod(CIFAR_SHAPE))
        arrays[f"x_{part}"] = records[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1)
        arrays[f"y_{part}"] = names[records[:, 0]]
    with atomic_path(folder / "cifar10.npz") as temporary:
        np.savez(temporary, **arrays)
    shutil.rmtree(source)


def _flowers102(folder):
    """Write the labels and splits of two MATLAB files as a CSV."""
    from scipy.io import loadmat  # takes a while

    labels = loadmat(folder / "imagelabels.mat")["labels"].ravel()
    numbers = loadmat(folder / "setid.mat")
    rows = [
        (f"jpg/image_{number:05}.jpg", f"class_{labels[number - 1]:03}", split)
        for key, split in (("trnid", "train"), ("valid", "val"), ("tstid", "test"))
        for number in sorted(numbers[key].ravel().tolist())
    ]
    _write_labels(folder, rows)


def _food101(folder):
    """Write the two lists of `<class>/<number>` as a CSV."""
    rows = []
    for split in ("train", "test"):
        for name in (folder / "food-101" / "meta" / f"{split}.txt").read_text("utf-8").split():
            rows.append((f"food-101/images/{name}.jpg", name.split("/")[0], split))
    _write_labels(folder, rows)


def _oxford_pets(folder):
    """Write the two lists of `<breed>_<number> ...` as a CSV."""
    rows = []
    for file, split in (("trainval.txt", "train"), ("test.txt", "test")):
        for line in (folder / "annotations" / file).read_text("utf-8").splitlines():
            name = line.split()[0]
            rows.append((f"images/{name}.jpg", name.rpartition("_")[0], split))
    _write_labels(folder, rows)


def _write_labels(folder, rows):
    write_csv(folder / LABELS, ("path", "label", "split"), rows)


MAKERS = {"cifar10": _cifar10, "flowers102": _flowers102, "food101": _food101, "oxford_pets": _oxford_pets}
