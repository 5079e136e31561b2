"""Lay out real data as the folders that benchmarks train on: `OUT/{train,val,test}/CLASS/*.png`.

Run:     python tests/benchmarks/datasets.py cifar10 5000 OUT
Source:  the folder in the environment variable TLKIT_TEST_DATA, by default `../shared/data` seen from the project's
         root; its README describes the files.

The same count and seed give the same files, bytes included, with any version of Python and with one version of Pillow:
which photo goes where hangs on a hash of its name.
"""

import hashlib
import io
import os
import re
import tarfile
from collections import defaultdict
from pathlib import Path

import click
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
VAL_FRACTION = TEST_FRACTION = 0.15
SMALLEST_CLASS = 4  # below it, 15 % rounds to no photo

# All that cifar10.tar.gz may hold: folders and photos such as train/cat/0042.jpg.
MEMBER = re.compile(r"(train|test)(?:/([a-z]+)(?:/([0-9]{4})\.jpg)?)?")


def data_folder():
    """Return the folder with the real data, as `tests/conftest.py` finds it."""
    return Path(os.environ.get("TLKIT_TEST_DATA") or PROJECT.parent / "shared" / "data").resolve()


def read_cifar10(archive):
    """Read the training photos of CIFAR-10 into memory; nothing is unpacked to disk.

    Args:
        archive: Path of `cifar10.tar.gz`.

    Returns:
        `dict` of class to `dict` of photo number, such as "0042", to the bytes of its JPEG file.

    Raises:
        ValueError: If the archive holds a link, a device or a path of any other form: it isn't the file we know.
    """
    photos = defaultdict(dict)
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            match = MEMBER.fullmatch(member.name)
            if not match or not (member.isfile() or member.isdir()):
                raise ValueError(
                    f"{archive} must hold only folders and train|test/CLASS/NNNN.jpg. Found: {member.name!r}"
                )
            subset, label, number = match.groups()
            if subset == "train" and number and member.isfile():
                photos[label][number] = tar.extractfile(member).read()
    return photos


def split_photos(photos, count, seed=0):
    """Choose `count` photos, equally many of each class to within one, and split each class 70/15/15.

    Args:
        photos: `dict` of class to the names of its photos.
        count: Number of photos over all classes.
        seed: Changes which photos are chosen, and where each one goes.

    Returns:
        List of `(subset, class, name)`, where the subset is "train", "val" or "test"; sorted.

    Raises:
        ValueError: If a class has fewer photos than asked for, or would get too few for three subsets.
    """
    share, left = divmod(count, len(photos))
    chosen = []
    for i, label in enumerate(sorted(photos)):
        size = share + (i < left)
        if not SMALLEST_CLASS <= size <= len(photos[label]):
            raise ValueError(
                f"`count` must give each class from {SMALLEST_CLASS} to {len(photos[label])} photos. "
                f"Received: count={count}, which gives {label!r} {size}"
            )
        names = sorted(photos[label], key=lambda name: hashlib.sha256(f"{seed}/{label}/{name}".encode()).digest())
        num_val, num_test = round(VAL_FRACTION * size), round(TEST_FRACTION * size)
        subsets = ["val"] * num_val + ["test"] * num_test + ["train"] * (size - num_val - num_test)
        chosen += [(subset, label, name) for subset, name in zip(subsets, names, strict=False)]
    return sorted(chosen)


def lay_out_cifar10(count, out, seed=0):
    """Write `count` photos of CIFAR-10's training set, 32 x 32, to `out/{train,val,test}/CLASS/NNNN.png`.

    Args:
        count: Number of photos over all ten classes, 40 to 50,000.
        out: Folder to write to; made if missing, must be empty.
        seed: Changes which photos are chosen, and where each one goes.

    Returns:
        `dict` of subset to its number of photos.

    Raises:
        ValueError: If `out` has files in it, or `count` is out of range.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"`out` must be an empty folder or a new one. Received: {out}")
    photos = read_cifar10(data_folder() / "cifar10.tar.gz")
    sizes = {"train": 0, "val": 0, "test": 0}
    for subset, label, number in split_photos(photos, count, seed):
        folder = out / subset / label
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(photos[label][number])) as image:
            image.save(folder / f"{number}.png")
        sizes[subset] += 1
    return sizes


LAYOUTS = {"cifar10": lay_out_cifar10}


@click.command()
@click.argument("name", type=click.Choice(list(LAYOUTS)))
@click.argument("count", type=click.IntRange(min=1))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Changes which photos are chosen, and where each one goes.")
def main(name, count, out, seed):
    """Lay out COUNT photos of the dataset NAME in the folder OUT."""
    try:
        sizes = LAYOUTS[name](count, out, seed)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: " + ", ".join(f"{size} {subset}" for subset, size in sizes.items()))


if __name__ == "__main__":
    main()
