"""What a source says of its images, as the arrays that tasks are trained on: classes, sets of labels, numbers."""

import math
import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tlkit.errors import DataError, shown

NO_LABELS = "-"  # a cell that says: none of the labels; an empty cell says nothing
JOINT = "|"  # between the labels of one image, where tlkit writes them
# Whole numbers may be amounts as well as classes. They are taken for classes while they are few, as ten digits are. If
# more of them differ than this, or (beyond two) there are fewer rows for each than the three that a class needs, the
# user is asked.
MOST_NUMBERED_CLASSES = 20
FEWEST_ROWS_PER_CLASS = 3
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
MOST_CELLS = 2**31  # of the table of images and their labels, a byte each


class Column(NamedTuple):
    """The labels of all items of a source for one task: the task's kind and classes, and `values` as `Task` says."""

    kind: str
    classes: tuple
    values: np.ndarray


def read_column(name, cells, lines, kind):
    """Read the cells of a CSV's label column.

    Args:
        name: Name of the column.
        cells: Text of each cell, stripped; an empty one is a missing label.
        lines: Line number of each.
        kind: A kind of task, or `"auto"`.

    Returns:
        `Column`.

    Raises:
        DataError: If a cell can't be read as that kind, or `"auto"` can't tell what the column holds.
    """
    if kind == "auto":
        _refuse_ambiguous(name, cells)
        kind = "single_label"
    if kind == "single_label":
        return read_classes(cells)
    if kind == "regression":
        numbers = [_number_in(name, *row) for row in zip(cells, lines, strict=True)]
        return Column(kind, (), np.array(numbers, np.float64))
    separated = any(re.search(r"[|;,]", cell) for cell in cells)
    sets = [_labels_in(name, *row, separated) for row in zip(cells, lines, strict=True)]
    classes = class_names(label for labels in sets for label in labels or ())
    if not classes:
        raise DataError(f"the column {name!r} holds no label")
    return Column(kind, classes, _rows(name, sets, classes))


def read_classes(names):
    """Return the `Column` of one class name per item; an empty one is missing."""
    classes = class_names(name for name in names if name)
    position = {"": -1} | {label: i for i, label in enumerate(classes)}
    return Column("single_label", classes, np.array([position[name] for name in names], np.int32))


def class_names(values):
    """Return the distinct class names in order: as numbers if all are whole numbers, else as text.

    Raises:
        DataError: If one holds control characters, which would move a terminal's cursor wherever it is shown.
    """
    names = set(values)
    if odd := next(filter(has_controls, names), None):
        raise DataError(f"the class {shown(odd)} has control characters in its name: rename it")
    if all(re.fullmatch(r"-?\d{1,1000}", name) for name in names):  # Python makes no numbers of more than 4,300
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def has_controls(name):
    """Tell whether a name holds control characters, such as escapes for a terminal or a line's end."""
    return CONTROL.search(name) is not None


def possible_kinds(cells):
    """Return the kinds of task that a column may be meant for, the likeliest first, and why, if there are several.

    Args:
        cells: Text of each cell, stripped.

    Returns:
        `(kinds, reason)`: one kind and an empty text where the column is plainly one of classes.
    """
    cells = [cell for cell in cells if cell]
    distinct = sorted(set(cells))
    numbers = [_number(cell) for cell in distinct]
    if distinct and None not in numbers:
        if any(not number.is_integer() for number in numbers):
            return ("regression", "single_label"), "its cells are numbers, not all of them whole"
        many = len(distinct) > MOST_NUMBERED_CLASSES or len(cells) < FEWEST_ROWS_PER_CLASS * len(distinct)
        if len(distinct) > 2 and many:
            return ("regression", "single_label"), f"its cells are numbers, {len(distinct)} different ones"
        return ("single_label",), ""
    parts = {cell: {part for part in re.split(r"[\s|;,]+", cell) if part} for cell in distinct}
    cells_with = {}
    for cell, found in parts.items():
        for part in found:
            cells_with.setdefault(part, []).append(cell)
    for cell, found in parts.items():
        if len(found) > 1 and all(len(cells_with[part]) > 1 for part in found):
            return ("multilabel", "single_label"), f"{cell!r} may be one class, or {len(found)} labels at once"
    return ("single_label",), ""


def labelled(values):
    """Tell which images have a label.

    Args:
        values: Labels of a task, as `Task` says.

    Returns:
        bool array `(n,)`.
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        return ~np.isnan(values)
    return (values >= 0).all(axis=1) if values.ndim == 2 else values >= 0


def label_texts(task, values):
    """Return each image's label as a text: a class, labels joined by `|`, or a number; empty where it is missing.

    Args:
        task: The `Task`.
        values: Its labels, as `Task` says.
    """
    return [_text(task, value) if known else "" for value, known in zip(values, labelled(values), strict=True)]


def with_scale(task, values):
    """Return a task of numbers with the mean and the scale of training labels.

    Args:
        task: The `Task`; of another kind than regression it is returned as it is, as it is without any label.
        values: The labels of the training images.
    """
    known = np.asarray(values)[labelled(values)]
    if task.kind != "regression" or not len(known):
        return task
    return replace(task, mean=float(known.mean()), scale=float(known.std()))


def _refuse_ambiguous(name, cells):
    kinds, reason = possible_kinds(cells)
    if reason:
        flags = " or ".join(f"`--task {name}={kind}`" for kind in kinds)
        raise DataError(f"the column {name!r} is ambiguous: {reason}. Say what it holds with {flags}")


def _text(task, value):
    if task.kind == "regression":
        return repr(float(value)).removesuffix(".0")
    if task.kind == "single_label":
        return task.classes[value]
    return JOINT.join(label for label, has in zip(task.classes, value, strict=True) if has) or NO_LABELS


def _rows(name, sets, classes):
    """Return a row of 0 and 1 for each set of labels, of -1 where it is None."""
    if len(sets) * len(classes) > MOST_CELLS:
        raise DataError(f"the column {name!r} holds {len(classes)} different labels, too many for {len(sets)} rows")
    place = {label: number for number, label in enumerate(classes)}
    rows = np.zeros((len(sets), len(classes)), np.int8)
    for row, labels in zip(rows, sets, strict=True):
        row[:] = -1 if labels is None else 0
        row[[place[label] for label in labels or ()]] = 1
    return rows


def _labels_in(name, cell, line, separated):
    """Return the set of labels in a cell, or None if it is empty."""
    if not cell:
        return None
    labels = {part.strip() for part in re.split(r"[|;,]", cell)} - {""} if separated else set(cell.split())
    if labels == {NO_LABELS}:
        return set()
    if not labels or NO_LABELS in labels:
        raise DataError(
            f"line {line}: {name!r} must hold labels, or {NO_LABELS!r} alone for none of them. Received: {cell!r}"
        )
    return labels


def _number_in(name, cell, line):
    if not cell:
        return math.nan
    number = _number(cell)
    if number is None:
        raise DataError(f"line {line}: {name!r} must be a finite number such as 12.5. Received: {cell!r}")
    return number


def _number(cell):
    """Return the finite number that a cell holds, or None."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in cell else None
