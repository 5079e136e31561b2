import cv2
import numpy as np
import pytest

from tlkit.data.augment import evaluation_view, training_view, view_seed
from tlkit.data.index import Data, load
from tlkit.data.preview import GAP, LINE, SMALLEST_CELL, _choose, _labels, encode_png, preview_sheet
from tlkit.tasks import Task


@pytest.fixture(scope="module")
def data():
    images = np.random.default_rng(0).integers(0, 256, (80, 40, 50, 3), dtype=np.uint8)
    return load((images, np.arange(80) % 8))


def cells(sheet, side, row):
    """The images of a row of a sheet: title and column names, then for each row a caption and images."""
    top = 2 * LINE + row * (LINE + side + GAP) + LINE
    return [sheet[top : top + side, GAP + i * (side + GAP) : GAP + i * (side + GAP) + side] for i in range(8)]


@pytest.mark.parametrize(("fit", "image_size", "side"), [("crop", 112, 112), ("squash", 32, 96), ("letterbox", 48, 96)])
def test_a_sheet_shows_the_views_of_a_run_with_that_seed(data, fit, image_size, side):
    sheet = preview_sheet(data, augment="medium", image_size=image_size, fit=fit, seed=5)
    assert sheet.shape == (2 * LINE + 6 * (LINE + side + GAP), 8 * (side + GAP) + GAP, 3)
    view, scale = training_view("medium", image_size, fit), side // image_size
    for row, i in enumerate(_choose(data, 5)):
        shown = cells(sheet, side, row)
        expected = [evaluation_view(data.read(i), image_size, fit)]
        expected += [view(data.read(i), view_seed(5, number, i)) for number in range(7)]
        for one, other in zip(shown, expected, strict=True):
            assert np.array_equal(one, other.repeat(scale, axis=0).repeat(scale, axis=1))


def test_large_views_are_shrunk_to_fit(data):
    assert preview_sheet(data, augment="none", image_size=300).shape[1] == 8 * (256 + GAP) + GAP


def test_images_are_training_images_of_different_classes(data):
    chosen = _choose(data, 0)
    labels = data.labels["label"][chosen].tolist()
    assert len(set(labels)) == 6
    assert labels == sorted(labels)
    assert set(chosen) <= set(data.indices("train").tolist())
    assert _choose(data, 0) == chosen
    assert _choose(data, 1) != chosen
    two = load((list(data.images), np.arange(80) % 2))
    assert np.bincount(two.labels["label"][_choose(two, 0)]).tolist() == [3, 3]


def test_captions_can_be_read(data):
    """There is ink in the title, in the names of the columns and beside each row, whatever the script."""
    sheet = preview_sheet(data, augment="light", image_size=SMALLEST_CELL)
    for row in range(8):
        top = LINE * row if row < 2 else 2 * LINE + (row - 2) * (LINE + SMALLEST_CELL + GAP)
        strip = sheet[top : top + LINE]
        assert (strip < 128).any()
        assert (strip == 255).mean() > 0.7
        assert (strip[:, -GAP:] == 255).all()  # nothing is cut off at the edge


def several_tasks():
    tasks = {
        "cells": Task("multilabel", ("RBC", "WBC")),
        "count": Task("regression"),
        "label": Task("single_label", ("grün", "blau")),
    }
    labels = {
        "cells": np.array([[1, 1], [0, 0], [-1, -1]], np.int8),
        "count": np.array([18.0, np.nan, 2.5]),
        "label": np.array([0, -1, 1], np.int32),
    }
    images = np.zeros((3, 20, 20, 3), np.uint8)
    split = np.array(["train"] * 3)
    return Data("arrays", None, ("a", "b", "c"), images, tasks, labels, split, False, ("a", "b", "c"), ("", "", ""))


def test_labels_of_every_kind_are_written_out():
    data = several_tasks()
    assert [_labels(data, i) for i in range(3)] == [
        "cells: RBC + WBC, count: 18, grün",
        "cells: none, count: unlabelled, unlabelled",
        "cells: unlabelled, count: 2.5, blau",
    ]
    assert sorted(_choose(data, 0)) == [0, 1, 2]
    assert preview_sheet(data, augment="flips", image_size=32).shape[0] == 2 * LINE + 3 * (LINE + 96 + GAP)
    del data.tasks["label"]
    assert sorted(_choose(data, 0)) == [0, 1, 2]


def test_the_file_keeps_the_colours(data):
    sheet = preview_sheet(data, augment="none", image_size=32)
    read = cv2.imdecode(np.frombuffer(encode_png(sheet), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(read[..., ::-1], sheet)
