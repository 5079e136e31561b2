"""CIFAR-10 for the experiments: from its folder, or from a tar.gz of it, only the images that are needed."""

import shutil
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from tlkit import run as run_folder
from tlkit.errors import DataError

LAYING_OUT = ".tlkit-images-"  # how a folder of images is called until it is whole
EXPECTED = "Expected train/<class>/ and test/<class>/ in a folder, or in a tar.gz"


class Pool:
    """All images of a folder or of an archive, by their names; none is opened yet.

    Args:
        path: The folder, or the tar.gz.

    Attributes:
        path: As given, as `pathlib.Path`.
        names: Dict of `"train"` and `"test"` to a dict of class to the sorted names `<split>/<class>/<file>`.

    Raises:
        DataError: If it is neither, or a split is missing.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._prefix = {}
        names = {"train": defaultdict(list), "test": defaultdict(list)}
        for found in self._listed():
            parts = PurePosixPath(found).parts[-3:]
            if len(parts) == 3 and parts[0] in names and not any(part.startswith(".") for part in parts):
                names[parts[0]][parts[1]].append("/".join(parts))
                self._prefix["/".join(parts)] = found
        self.names = {split: {name: sorted(of) for name, of in sorted(found.items())} for split, found in names.items()}
        if len(self.names["train"]) < 2 or set(self.names["train"]) != set(self.names["test"]):
            raise DataError(f"--data {path}: {EXPECTED}, with the same two classes or more in both.")

    def _listed(self):
        if self.path.is_dir():
            return [file.relative_to(self.path).as_posix() for file in self.path.glob("*/*/*") if file.is_file()]
        try:
            with tarfile.open(self.path) as archive:
                return [member.name for member in archive if member.isfile()]
        except FileNotFoundError:
            raise DataError(f"--data {self.path}: no such file or folder. {EXPECTED}.") from None
        except (tarfile.TarError, EOFError, OSError) as error:
            said = " ".join(str(error).split())
            raise DataError(f"--data {self.path}: can't be read: {said}. {EXPECTED}.") from None

    def choose(self, split, per_class, seed):
        """Choose as many images of each class.

        Args:
            split: `"train"` or `"test"`.
            per_class: How many of each class.
            seed: Integer that decides which; of one seed, fewer images are among more.

        Returns:
            Sorted list of names.

        Raises:
            DataError: If a class has fewer.
        """
        random, chosen = np.random.default_rng(seed), []
        for name, names in self.names[split].items():
            if len(names) < per_class:
                raise DataError(
                    f"--images: {per_class} of class {name} are needed from {split}/; {self.path} has {len(names)}."
                )
            chosen += [names[i] for i in random.permutation(len(names))[:per_class]]
        return sorted(chosen)

    def lay_out(self, wanted, folder):
        """Write the named images below a folder, unless it is there already.

        Args:
            wanted: Names.
            folder: `pathlib.Path`; it comes to be whole, or not at all.
        """
        if folder.is_dir():
            return
        wanted = {self._prefix[name]: name for name in wanted}
        with tempfile.TemporaryDirectory(prefix=LAYING_OUT, dir=folder.parent) as temporary:
            begun = Path(temporary) / folder.name
            for parent in {str(PurePosixPath(name).parent) for name in wanted.values()}:
                (begun / parent).mkdir(parents=True)
            if self.path.is_dir():
                for found, name in wanted.items():
                    shutil.copyfile(self.path / found, begun / name)
            else:
                with tarfile.open(self.path) as archive:
                    for member in archive:
                        if member.isfile() and member.name in wanted:
                            (begun / wanted[member.name]).write_bytes(archive.extractfile(member).read())
            begun.replace(folder)


def even_share(count, pool):
    """Return how many images of each class of a `Pool` make so many.

    Raises:
        DataError: If it doesn't come out even.
    """
    classes = len(pool.names["train"])
    if count % classes or not count:
        raise DataError(f"--images: expected a multiple of {classes}, the number of classes. Received: {count}")
    return count // classes


def write_list(file, splits):
    """Write the CSV file of images and labels that a run takes, unless it is there already.

    Args:
        file: `pathlib.Path`, in the folder that the names are relative to.
        splits: Dict of the split that the run sees to names `<folder>/<class>/<file>`.
    """
    if file.is_file():
        return
    rows = [(name, name.split("/")[1], split) for split, names in splits.items() for name in names]
    run_folder.write_csv(file, ("path", "label", "split"), rows)


def scratch_recipe(net, epochs, *, batch_size=128, learning_rate=0.1, schedule="constant", warmup=0.0):
    """Return the recipe of a net for CIFAR-10 from scratch, as in its paper, as plain values.

    The paper's weight decay of 1e-4 is an L2 penalty of half of it; a margin of four pixels, a random crop, mirrored
    images (He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2).
    """
    augment = [
        {"op": "Pad", "padding": 4},
        {"op": "RandomCrop", "height": 32, "width": 32},
        {"op": "HorizontalFlip", "p": 0.5},
    ]
    stage = {"unfreeze": "all", "epochs": epochs, "learning_rate": learning_rate, "optimizer": "sgd"}
    return {
        "data": {"image_size": 32, "batch_size": batch_size, "fit": "squash", "augment": augment},
        "backbone": {"name": net, "weights": "none"},
        "head": {"original": True, "init": "random"},
        "training": {"batch_norm": "train", "l2": 5e-5, "monitor": "accuracy"},
        "evaluation": {"tta": "none", "calibration": "none"},
        "stages": [stage | {"schedule": schedule, "warmup": warmup}],
    }
