"""The history: rows go in and come out as they were, and a copy stays as it is."""

import sys

import numpy as np
import pytest

from tlkit.errors import RunError
from tlkit.training.history import COLUMNS, History


def row(epoch, **more):
    figures = {"loss": 1 / (epoch + 3), "accuracy": 0.5, "val_loss": 1e-17, "val_accuracy": 1 / 3, "learning_rate": 0.1}
    return {"stage": 0, "epoch": epoch, "step": 7 * epoch} | figures | more


def filled(rows):
    history = History()
    for epoch in range(rows):
        history.append(row(epoch))
    return history


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 100])
def test_rows_come_out_as_they_went_in(rows):
    history = filled(rows)
    assert len(history) == rows
    assert list(history) == [row(epoch) for epoch in range(rows)]
    assert history.figures.shape == (rows, len(COLUMNS))
    assert all(type(one["epoch"]) is int and type(one["loss"]) is float for one in history)
    if rows:
        assert history[-1] == history[rows - 1] == row(rows - 1)
    with pytest.raises(IndexError):
        history[rows]


def test_columns_are_those_of_the_first_row():
    assert History().columns == COLUMNS
    history = History()
    history.append(row(0, val_colour_loss=0.25))
    assert history.columns == (*COLUMNS, "val_colour_loss")
    assert history[0]["val_colour_loss"] == 0.25
    with pytest.raises(RunError, match=r"has the columns .*, val_colour_loss; an epoch has .* now\. Put back"):
        history.append(row(1))
    assert list(history) == [row(0, val_colour_loss=0.25)]
    with pytest.raises(ValueError, match="missing"):
        History().append({"epoch": 0})


def test_the_order_in_which_a_row_names_its_figures_does_not_matter():
    """Tasks may be given in another order when a run is resumed."""
    history = filled(1)
    history.append(dict(reversed(row(1).items())))
    assert list(history) == [row(0), row(1)]
    assert history == filled(2)


def test_parts_are_lists_of_rows():
    history = filled(20)
    for part in (slice(-1, None), slice(None, 2), slice(None, None, -7), slice(30, 40)):
        assert history[part] == list(history)[part]


@pytest.mark.parametrize("rows", [0, 5, 16])
def test_a_copy_and_what_it_was_made_of_go_their_own_ways(rows):
    history = filled(rows)
    copy, figures = history.copy(), history.figures
    assert copy == history
    history.append(row(50))
    assert copy != history
    assert len(copy) == len(figures) == rows
    copy.append(row(60))
    assert (history[-1]["epoch"], copy[-1]["epoch"]) == (50, 60)


def test_what_was_read_only_goes_on():
    figures = filled(3).figures
    figures.flags.writeable = False
    history = History(COLUMNS, figures)
    history.append(row(3))
    assert history == filled(4)


@pytest.mark.parametrize("done", [0, 1, 16, 40])
def test_reserved_rows_take_no_more_memory_later(done):
    history = filled(done)
    shared, before = history.copy(), list(history)
    history.reserve(1000)
    history.append(row(done))
    reserved = history._figures
    assert len(reserved) == 1000
    assert np.isnan(reserved[len(history) :]).all()  # written to, which is when the system gives memory
    for epoch in range(done + 1, 1000):
        history.append(row(epoch))
    assert history._figures is reserved
    assert list(shared) == before
    assert history == filled(1000)
    history.append(row(1000))
    assert history == filled(1001)


def test_a_copy_has_room_for_as_many_rows():
    """A training goes on from a copy once it has gone back to where its weights were numbers."""
    history = History()
    history.reserve(1000)
    history.append(row(0))
    copy = history.copy()
    copy.append(row(1))
    assert len(copy._figures) == 1000


def test_rows_beyond_counting_are_not_reserved():
    history = History()
    history.reserve(10**12)
    history.append(row(0))
    assert history.figures.base.nbytes <= 2**22


def test_a_row_takes_the_room_of_its_numbers():
    history = filled(5000)
    assert sys.getsizeof(history._figures) / 5000 <= 2 * 8 * len(COLUMNS)
    assert not [value for value in vars(history).values() if isinstance(value, list | dict)]
    assert np.shares_memory(history.copy().figures, history.figures)
