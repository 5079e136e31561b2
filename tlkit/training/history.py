"""What each epoch of a training gave, held small: a long one has thousands of them."""

from collections.abc import Sequence

import numpy as np

from tlkit.errors import RunError

WHOLE = ("stage", "epoch", "step")  # whole numbers; all else are figures
COLUMNS = (*WHOLE, "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")

_ROOM = 16  # rows that the first array has room for, unless more are reserved
_MOST_ROOM = 2**16  # rows that are reserved at most, 4 MiB with one task; where there are more, the array grows


class History(Sequence):
    """The rows of `history.csv`: a sequence of dicts, all with the same columns, held as one array of numbers.

    Args:
        columns: Names of the columns, those of `COLUMNS` among them. As long as there is no row, the first one that is
            added says them anew.
        figures: Float64 array of shape (rows, columns).

    Attributes:
        columns: As above, a tuple.

    Raises:
        ValueError: If names or array aren't that, or a whole number is none.
    """

    def __init__(self, columns=COLUMNS, figures=None):
        self.columns = tuple(columns)
        self._figures = np.empty((0, len(self.columns))) if figures is None else figures
        self._rows, self._room = len(self._figures), _ROOM
        _refuse_names(self.columns)
        if self._figures.dtype != np.float64 or self._figures.shape[1:] != (len(self.columns),):
            raise ValueError(f"not a float64 array with {len(self.columns)} columns")
        whole = self._figures[:, [name in WHOLE for name in self.columns]]
        if not ((whole >= 0) & (whole < 2**53) & (whole == np.floor(whole))).all():
            raise ValueError("a stage, an epoch or a step is no whole number")

    @property
    def figures(self):
        """The rows so far, as a float64 array of shape (rows, columns) that later rows don't change."""
        return self._figures[: self._rows]

    def reserve(self, rows):
        """Take the memory of so many rows in all now, so that a long training takes no more from epoch to epoch."""
        self._room = max(_ROOM, min(rows, _MOST_ROOM))
        if self._rows and len(self._figures) < self._room:
            self._move(self._room)

    def append(self, row):
        """Add an epoch.

        Args:
            row: Dict of column to number.

        Raises:
            RunError: If it hasn't the columns of the others, as with a checkpoint of other tasks.
        """
        if not self._rows:
            _refuse_names(tuple(row))
            self.columns, self._figures = tuple(row), np.empty((0, len(row)))
        if row.keys() != set(self.columns):
            raise RunError(
                f"the checkpoint's history has the columns {', '.join(self.columns)}; an epoch has {', '.join(row)} "
                "now. Put back what changed, or start a new run."
            )
        if self._rows == len(self._figures):
            self._move(max(self._room, 2 * self._rows))
        self._figures[self._rows] = [row[name] for name in self.columns]
        self._rows += 1

    def copy(self):
        """Return a history with the same rows, to which others can be added; the rows so far are shared."""
        copied = History(self.columns, self.figures)
        copied._room = self._room
        return copied

    def _move(self, room):
        """Move the rows into an array of their own with room for so many."""
        moved = np.empty((room, len(self.columns)))
        moved[: self._rows] = self.figures
        if room == self._room:
            moved[self._rows :] = np.nan  # what is written to takes its memory now
        self._figures = moved

    def __len__(self):
        return self._rows

    def __getitem__(self, position):
        if isinstance(position, slice):
            return [self[number] for number in range(*position.indices(self._rows))]
        numbers = zip(self.columns, self.figures[position].tolist(), strict=True)
        return {name: int(number) if name in WHOLE else number for name, number in numbers}

    def __eq__(self, other):
        if not isinstance(other, History):
            return NotImplemented
        return self.columns == other.columns and np.array_equal(self.figures, other.figures, equal_nan=True)

    __hash__ = None


def _refuse_names(columns):
    """Raise `ValueError` unless names are those of columns that a file can have."""
    if not all(isinstance(name, str) for name in columns):
        raise ValueError("a column's name is no text")
    "".join(columns).encode()  # what can't be written raises a ValueError, too
    if not set(COLUMNS) <= set(columns) or len(set(columns)) < len(columns):
        raise ValueError("a column is missing or there twice")
