"""MNIST for the experiments: subsets with as many images of each class, and shifted images."""

import numpy as np

from tlkit.errors import DataError

PARTS = ("x_train", "y_train", "x_test", "y_test")
SIDE = 28


def read_digits(path):
    """Read `mnist.npz`.

    Returns:
        `((x_train, y_train), (x_test, y_test))`; images are uint8 `(n, 28, 28)`.

    Raises:
        DataError: If it is something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            parts = [archive[name] for name in PARTS]
    except FileNotFoundError:
        raise DataError(f"--data {path}: no such file. Expected MNIST as mnist.npz.") from None
    except (OSError, ValueError, KeyError, EOFError) as error:
        said = " ".join(str(error).split())
        raise DataError(f"--data {path}: expected mnist.npz with {', '.join(PARTS)}. Received: {said}") from None
    for images, labels in (parts[:2], parts[2:]):
        if images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(
                f"--data {path}: expected uint8 images of {SIDE} x {SIDE} pixels and a label each. "
                f"Received: {images.dtype} {images.shape} and {labels.shape}"
            )
    return tuple(parts[:2]), tuple(parts[2:])


def check_digits(study, most=0):
    """Check the file, and that it has as many images as asked for, or as `most`."""
    (_, labels), _ = read_digits(study.settings["data"])
    for count in (study.settings["images"], most or study.settings["images"]):
        balanced(labels, count, 0)


def balanced(labels, count, seed):
    """Choose items evenly over the classes, in random order.

    Args:
        labels: Array `(n,)`.
        count: How many; each class gets as many, the first ones one more where it doesn't come out even.
        seed: Integer that decides which.

    Returns:
        int64 array `(count,)` of positions.

    Raises:
        DataError: If a class has too few, or would get fewer than four.
    """
    random = np.random.default_rng(seed)
    classes = np.unique(labels)
    each, rest = divmod(count, len(classes))
    if each < 4:
        raise DataError(f"--images: expected at least 4 of each of {len(classes)} classes. Received: {count}")
    chosen = []
    for position, name in enumerate(classes):
        own, wanted = np.flatnonzero(labels == name), each + (position < rest)
        if len(own) < wanted:
            raise DataError(f"--images {count}: {wanted} of class {name} are needed; there are {len(own)}.")
        chosen.append(random.permutation(own)[:wanted])
    return random.permutation(np.concatenate(chosen))


def shifted(images, down, right):
    """Return images whose content is moved, zeros where nothing comes from.

    Args:
        images: Array `(n, height, width, ...)`.
        down, right: Pixels; negative to the other side.
    """
    moved = np.zeros_like(images)
    height, width = images.shape[1:3]
    rows, columns = (slice(max(0, by), side + min(0, by)) for by, side in ((down, height), (right, width)))
    from_rows, from_columns = (slice(max(0, -by), side + min(0, -by)) for by, side in ((down, height), (right, width)))
    moved[:, rows, columns] = images[:, from_rows, from_columns]
    return moved


def recipe(net, image_size, epochs):
    """Return the recipe of a net of `tlkit nets` that learns digits from scratch, as plain values."""
    return {
        "data": {"image_size": image_size, "batch_size": 64, "fit": "squash", "augment": "none"},
        "backbone": {"name": net, "weights": "none"},
        "head": {"original": True, "init": "random"},
        "evaluation": {"tta": "none", "calibration": "none"},
        "stages": [{"unfreeze": "all", "epochs": epochs, "learning_rate": 2e-3, "optimizer": "adam"}],
    }
