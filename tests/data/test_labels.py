"""From cells to labels: what a column may hold, and when the user is asked."""

import numpy as np
import pytest

from tlkit.data.labels import label_texts, labelled, possible_kinds, read_column, with_scale
from tlkit.errors import DataError
from tlkit.tasks import Task


def read(cells, kind):
    return read_column("cells", cells, range(2, len(cells) + 2), kind)


def test_single_labels_are_positions_of_sorted_classes():
    column = read(["dog", "cat", "", "dog"], "single_label")
    assert column.classes == ("cat", "dog")
    assert column.values.tolist() == [1, 0, -1, 1]
    assert column.values.dtype == np.int32
    assert read(["10", "9", "10"], "single_label").classes == ("9", "10")


@pytest.mark.parametrize(
    "cells",
    [
        ["RBC WBC", "WBC", "", "-"],  # whitespace, where nothing else separates
        ["RBC|WBC", "WBC", "", "-"],
        ["RBC; WBC", " WBC".strip(), "", "-"],
        ["WBC,RBC", "WBC", "", "-"],
    ],
)
def test_several_labels_are_rows_of_zeros_and_ones(cells):
    column = read(cells, "multilabel")
    assert column.kind == "multilabel"
    assert column.classes == ("RBC", "WBC")
    assert column.values.tolist() == [[1, 1], [0, 1], [-1, -1], [0, 0]]
    assert column.values.dtype == np.int8


def test_names_keep_their_spaces_where_something_else_separates():
    assert read(["polar bear|snow", "brown bear"], "multilabel").classes == ("brown bear", "polar bear", "snow")


def test_numbers_are_read_as_they_stand():
    column = read(["3", "-2.5", "", "1e2"], "regression")
    np.testing.assert_array_equal(column.values, [3, -2.5, np.nan, 100])
    assert column.values.dtype == np.float64
    assert column.classes == ()


@pytest.mark.parametrize("cell", ["many", "nan", "inf", "1_000", "1,5"])
def test_what_is_no_finite_number_is_named_with_its_line(cell):
    with pytest.raises(DataError, match=r"line 3: 'cells' must be a finite number such as 12.5. Received: "):
        read(["1", cell], "regression")


@pytest.mark.parametrize(("cells", "line"), [(["a", "a|-"], 3), (["a|b", "a", "|"], 4)])
def test_a_dash_among_labels_and_separators_alone_are_refused(cells, line):
    with pytest.raises(DataError, match=f"line {line}: 'cells' must hold labels, or '-' alone"):
        read(cells, "multilabel")


def test_a_column_without_any_label_is_refused():
    with pytest.raises(DataError, match="'cells' holds no label"):
        read(["-", ""], "multilabel")


PLAIN = {
    "words": ["cat", "dog", "cat"],
    "names of two words": ["red fox", "polar bear", "bear"],  # nothing else is polar, or red, or a fox
    "digits": [str(i % 10) for i in range(60)],
    "two numbers": ["0", "1"],
    "twenty numbers": [str(i % 20) for i in range(60)],
    "words and numbers": ["1", "2", "none"],
}
AMBIGUOUS = {
    "parts": (["RBC WBC", "RBC", "WBC"], "multilabel"),
    "parts of others": (["a|b", "b|c", "c|a"], "multilabel"),
    "parts, one cell missing": (["a,b", "", "a", "b"], "multilabel"),
    "fractions": (["0.5", "1", "2"] * 30, "regression"),
    "twenty-one numbers": ([str(i % 21) for i in range(63 * 21)], "regression"),
    "too few rows each": ([str(i % 10) for i in range(29)], "regression"),
}


@pytest.mark.parametrize("cells", PLAIN.values(), ids=PLAIN)
def test_plain_columns_are_single_labels(cells):
    assert possible_kinds(cells) == (("single_label",), "")
    assert read(cells, "auto").kind == "single_label"


@pytest.mark.parametrize(("cells", "kind"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_may_be_meant_otherwise_is_never_inferred(cells, kind):
    assert possible_kinds(cells)[0] == (kind, "single_label")
    with pytest.raises(DataError) as caught:
        read(cells, "auto")
    assert str(caught.value).startswith("the column 'cells' is ambiguous: ")
    assert str(caught.value).endswith(f"`--task cells={kind}` or `--task cells=single_label`")
    assert "\n" not in str(caught.value)
    assert read(cells, kind).kind == kind
    assert read(cells, "single_label").kind == "single_label"


@pytest.mark.parametrize(
    ("task", "cells", "known", "texts"),
    [
        (Task("single_label", ("a", "b")), ["b", "", "a"], [1, 0, 1], ["b", "", "a"]),
        (Task("multilabel", ("a", "b")), ["b a", "", "-", "b"], [1, 0, 1, 1], ["a|b", "", "-", "b"]),
        (Task("regression"), ["3", "", "0.1", "-2.50"], [1, 0, 1, 1], ["3", "", "0.1", "-2.5"]),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_labels_are_written_as_they_were_read(task, cells, known, texts):
    values = read(cells, task.kind).values
    assert labelled(values).tolist() == list(map(bool, known))
    assert label_texts(task, values) == texts
    assert np.array_equal(read(texts, task.kind).values, values, equal_nan=task.kind == "regression")


def test_the_scale_of_numbers_is_that_of_the_population():
    task = with_scale(Task("regression"), np.array([2.0, np.nan, 4, 9]))
    assert task.mean == 5
    assert task.scale == pytest.approx(np.sqrt((9 + 1 + 16) / 3))
    assert with_scale(Task("single_label", ("a",)), np.array([0])) == Task("single_label", ("a",))
    assert with_scale(Task("regression"), np.array([np.nan])) == Task("regression")
