"""Images and labels that are arrays already: in memory, or in an .npz file."""

import numpy as np

from tlkit.data.labels import Column, read_classes
from tlkit.data.listing import Listing
from tlkit.data.npz import Archive
from tlkit.errors import DataError

# (images, labels, split) as Keras, MedMNIST and people name them.
NPZ_LAYOUTS = (
    (("x_train", "y_train", "train"), ("x_val", "y_val", "val"), ("x_test", "y_test", "test")),
    (
        ("train_images", "train_labels", "train"),
        ("val_images", "val_labels", "val"),
        ("test_images", "test_labels", "test"),
    ),
    (("images", "labels", None),),
)


def list_npz(path, kinds):
    """List an .npz file with `images, labels`, or `x_train, y_train[, x_val, y_val][, x_test, y_test]`.

    Args:
        path: Absolute path of the file.
        kinds: Dict of the one task "label" to its kind.

    Returns:
        `Listing`.

    Raises:
        DataError: If the file or its arrays can't be used.
    """
    with Archive(path) as archive:
        for layout in NPZ_LAYOUTS:
            parts = [part for part in layout if part[0] in archive.names and part[1] in archive.names]
            if parts and parts[0] == layout[0]:
                loaded = [(archive.read(images), archive.read(labels), split) for images, labels, split in parts]
                return _listing(str(path), loaded, kinds)
        names = ", ".join(archive.names) or "nothing"
    raise DataError(f"{path}: expected the arrays images, labels or x_train, y_train, x_test, y_test; it has {names}")


def list_arrays(source, kinds):
    """List `(images, labels)`, or `((x_train, y_train), (x_test, y_test))` as Keras' datasets come.

    Args:
        source: A pair; images are uint8 `(n, height, width)`, `(n, height, width, 1 or 3)` or a list of such single
            images of any sizes; labels are an array, or a dict of task to array. By kind of task they are whole numbers
            or strings `(n,)`, never missing; 0 and 1 `(n, classes)`, a row of -1 where they are missing; or numbers
            `(n,)`, NaN where missing.
        kinds: Dict of task to its kind; `"auto"` is single label.

    Returns:
        `Listing`.

    Raises:
        DataError: If shapes, types or lengths can't be used.
    """
    if not isinstance(source, tuple | list) or len(source) != 2:
        raise DataError(
            "data must be a path, (images, labels) or ((x_train, y_train), (x_test, y_test)). "
            f"Received: {type(source).__name__}"
        )
    if all(isinstance(part, tuple) and len(part) == 2 for part in source):
        (x_train, y_train), (x_test, y_test) = source
        return _listing("arrays", [(x_train, y_train, "train"), (x_test, y_test, "test")], kinds)
    return _listing("arrays", [(*source, None)], kinds)


def _listing(source, parts, kinds):
    paths, split, images, labels = [], [], [], {name: [] for name in kinds}
    for part_images, part_labels, part in parts:
        where = source if part is None else f"{source} ({part})"
        checked = _check_images(where, part_images)
        by_task = part_labels if isinstance(part_labels, dict) else {"label": part_labels}
        if set(by_task) != set(kinds):
            received = ", ".join(map(str, by_task))
            raise DataError(f"{where}: labels of the tasks {', '.join(kinds)} are needed. Received: {received}")
        for name, kind in kinds.items():
            of_task = where if name == "label" else f"{where}, {name}"
            labels[name].append(_READERS[kind](of_task, by_task[name], len(checked)))
        prefix = f"{part}/" if part else ""
        digits = len(str(max(len(checked) - 1, 0)))
        paths += [f"{prefix}{i:0{digits}d}" for i in range(len(checked))]
        split += [part] * len(checked)
        images.append(checked)
    together = images[0] if len(images) == 1 else [image for part in images for image in part]
    columns = {name: _column(source, kinds[name], values) for name, values in labels.items()}
    return Listing(source, None, paths, columns, split if split[:1] != [None] else None, None, together)


def _column(source, kind, parts):
    """Return the `Column` of labels that come in parts, each as its reader gave them."""
    if kind == "regression":
        return Column(kind, (), np.concatenate(parts))
    if kind != "multilabel":
        return read_classes([text for part in parts for text in part])
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise DataError(f"{source}: labels need the same columns in all parts. Received: {sorted(widths)} columns")
    return Column(kind, tuple(map(str, range(widths.pop()))), np.concatenate(parts))


def as_rgb(image):
    """Return an image `(height, width)`, `(height, width, 1)` or `(height, width, 3)` as `(height, width, 3)`."""
    image = image if image.ndim == 3 else image[..., None]
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _check_images(where, images):
    """Return images as a uint8 array or a list of uint8 arrays, each `(h, w)`, `(h, w, 1)` or `(h, w, 3)`."""
    if not isinstance(images, list | tuple):
        images = np.asarray(images)
    if isinstance(images, np.ndarray) and images.dtype != object:
        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)) or 0 in images.shape:
            raise DataError(
                f"{where}: images must have the shape (n, height, width) or (n, height, width, 1 or 3). "
                f"Received: {images.shape}{_channels_first(images.shape)}"
            )
        return _as_uint8(where, images)
    singles = [np.asarray(image) for image in images]
    for i, image in enumerate(singles):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[-1] not in (1, 3)) or 0 in image.shape:
            raise DataError(f"{where}: image {i} must be (height, width[, 1 or 3]). Received: {image.shape}")
    if not singles:
        raise DataError(f"{where}: no images")
    return [_as_uint8(where, image) for image in singles]


def _channels_first(shape):
    return "; move the channels last: images.transpose(0, 2, 3, 1)" if len(shape) == 4 and shape[1] in (1, 3) else ""


def _as_uint8(where, images):
    if images.dtype == np.uint8:
        return images
    low, high = (images.min(), images.max()) if images.dtype.kind in "iuf" else (None, None)
    if images.dtype.kind in "iu" and low >= 0 and high <= 255:
        return images.astype(np.uint8)
    advice = "convert them to the range 0 to 255 and .astype('uint8')"
    if images.dtype.kind == "f" and low >= 0 and high <= 1:
        advice = "convert them: (images * 255).round().astype('uint8')"
    extent = "" if low is None else f" from {low:g} to {high:g}"
    raise DataError(f"{where}: images must be uint8 from 0 to 255. Received: {images.dtype}{extent}: {advice}")


def _label_texts(where, labels, n):
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        advice = ': one-hot labels become class numbers by labels.argmax(axis=1), several at once are "multilabel"'
        raise DataError(f"{where}: labels must have the shape (n,). Received: {labels.shape}{advice}")
    values = _check_shape(where, labels, n, axes=1).tolist()
    odd = [value for value in values if not isinstance(value, int | str | bytes)]
    if odd:
        advice = ': numbers to predict are of the kind "regression"' if labels.dtype.kind == "f" else ""
        raise DataError(
            f"{where}: labels must be whole numbers or strings. Received: {odd[0]!r} ({labels.dtype}){advice}"
        )
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value).strip() for value in values]
    if "" in texts:
        raise DataError(f"{where}: label {texts.index('')} is empty")
    return texts


def _label_rows(where, labels, n):
    labels = _check_shape(where, np.asarray(labels), n, axes=2)
    missing = (labels == -1).all(axis=1)
    if not np.isin(labels[~missing], (0, 1)).all():
        raise DataError(f"{where}: each row of labels must hold 0 and 1, or be -1 throughout where they are missing")
    return labels.astype(np.int8)


def _numbers(where, labels, n):
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    labels = _check_shape(where, labels, n, axes=1)
    if labels.dtype.kind not in "iuf" or np.isinf(labels).any():
        raise DataError(f"{where}: labels must be finite numbers, or NaN where they are missing ({labels.dtype})")
    return labels.astype(np.float64)


_READERS = {
    "auto": _label_texts,
    "single_label": _label_texts,
    "multilabel": _label_rows,
    "regression": _numbers,
}


def _check_shape(where, labels, n, axes):
    """Return labels that have so many axes and a row per image."""
    if labels.ndim != axes:
        expected = "(n,)" if axes == 1 else "(n, classes)"
        raise DataError(f"{where}: labels must have the shape {expected}. Received: {labels.shape}")
    if len(labels) != n:
        raise DataError(f"{where}: as many labels as images are needed. Received: {n} images and {len(labels)} labels")
    return labels
