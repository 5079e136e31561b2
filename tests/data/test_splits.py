from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit.data.splits import FRACTIONS, assign, carve, folds_of, need_groups, need_training_labels, unite
from tlkit.errors import DataError
from tlkit.tasks import Task


def names(n):
    return [f"{i:04}.jpg" for i in range(n)]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (20, (14, 3, 3)),
        (100, (70, 15, 15)),
    ],
)
def test_each_class_is_split_70_15_15(n, expected):
    labels = {"label": np.repeat([0, 1, 2], n)}
    split = assign(names(3 * n), range(3 * n), labels, FRACTIONS, seed=0)
    for label in range(3):
        counts = Counter(split[labels["label"] == label].tolist())
        assert (counts["train"], counts["val"], counts["test"]) == expected


def test_leftovers_of_the_classes_even_out():
    labels = {"label": np.repeat(np.arange(10), 10)}  # 7 / 1.5 / 1.5 each
    counts = Counter(assign(names(100), range(100), labels, FRACTIONS, seed=0).tolist())
    assert counts == {"train": 70, "val": 15, "test": 15}


def test_the_seed_decides_and_nothing_else():
    paths, labels = names(60), {"label": np.arange(60) % 3}
    first = assign(paths, range(60), labels, FRACTIONS, seed=1)
    assert (first == assign(paths, range(60), labels, FRACTIONS, seed=1)).all()
    assert (first != assign(paths, range(60), labels, FRACTIONS, seed=2)).any()
    order = np.random.default_rng(0).permutation(60)  # another file system, another order
    shuffled = assign([paths[i] for i in order], order.tolist(), {"label": labels["label"][order]}, FRACTIONS, seed=1)
    assert (shuffled == first[order]).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=12), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
)
def test_groups_hold_together_and_every_part_has_every_class(sizes, seed):
    groups, labels = [], []
    for label, groups_of_class in enumerate(sizes):
        for number, size in enumerate(groups_of_class):
            groups += [(label, number)] * size
            labels += [label] * size
    split = assign(names(len(groups)), groups, {"label": labels}, FRACTIONS, seed)
    part_of = {}
    for group, part in zip(groups, split, strict=True):
        assert part_of.setdefault(group, part) == part
    assert {(label, part) for (label, _), part in part_of.items()} == {
        (label, part) for label in range(len(sizes)) for part in FRACTIONS
    }


def test_groups_of_several_classes_hold_together():
    rng = np.random.default_rng(0)
    groups, labels = rng.integers(0, 40, 400).tolist(), {"label": rng.integers(0, 4, 400)}
    split = assign(names(400), groups, labels, FRACTIONS, seed=0)
    assert all(len({part for part, g in zip(split, groups, strict=True) if g == group}) == 1 for group in set(groups))
    shares = Counter(split.tolist())
    assert shares["train"] == pytest.approx(280, abs=15)
    assert shares["val"] == pytest.approx(60, abs=15)


def test_several_tasks_are_stratified_together():
    labels = {"one": np.arange(120) % 2, "other": np.arange(120) // 40}
    split = assign(names(120), range(120), labels, FRACTIONS, seed=0)
    for values in labels.values():
        for label in set(values.tolist()):
            share = (split[values == label] == "train").mean()
            assert share == pytest.approx(0.7, abs=0.06)


def test_carving_leaves_the_test_images_alone():
    given_split = np.array(["train"] * 40 + ["test"] * 20)
    carved = carve(names(60), range(60), {"label": np.arange(60) % 2}, given_split, seed=0)
    assert (carved[40:] == "test").all()
    assert Counter(carved[:40].tolist()) == {"train": 34, "val": 6}


def test_every_image_is_tested_in_one_fold():
    labels = {"label": np.arange(100) % 4}
    groups = (np.arange(100) // 8).tolist()
    folds = folds_of(names(100), groups, labels, 5, seed=0)
    assert np.array_equal(sum((fold == "test").astype(int) for fold in folds), np.ones(100))
    for fold in folds:
        assert set(fold) == {"train", "val", "test"}
        for group in set(groups):
            assert len(set(fold[np.array(groups) == group])) == 1


def test_shared_keys_bind_directly_and_through_others():
    bound = unite([("x", None), ("y", "g"), ("x", "g"), ("z", None), ("g", None)])
    assert bound[0] == bound[1] == bound[2]
    assert len(set(bound)) == 3  # a hash that equals a group's name binds nothing


def test_too_few_groups_are_named():
    tasks = {"label": Task("single_label", ("cat", "dog"))}
    labels = {"label": [0, 0, 0, 1, 1, 1]}
    need_groups([0, 1, 2, 3, 4, 5], labels, tasks, 3, "splitting")
    with pytest.raises(DataError, match="class 'dog' has 3 usable images in 2 groups; splitting takes at least 3"):
        need_groups([0, 1, 2, 3, 4, 4], labels, tasks, 3, "splitting")


def test_each_of_several_labels_is_stratified():
    hits = np.random.default_rng(0).random((400, 3)) < [0.8, 0.3, 0.05]
    split = assign(names(400), range(400), {"cells": hits.astype(np.int8)}, FRACTIONS, seed=0)
    for part, share in FRACTIONS.items():
        for label in range(3):
            assert abs((split[hits[:, label]] == part).sum() - share * hits[:, label].sum()) <= 4
    assert {part for part, hit in zip(split, hits[:, 2], strict=True) if hit} == set(FRACTIONS)


def test_numbers_are_stratified_by_their_size():
    numbers = np.random.default_rng(0).lognormal(size=500)
    split = assign(names(500), range(500), {"age": numbers}, FRACTIONS, seed=0)
    for fifth in np.array_split(np.argsort(numbers), 5):
        assert Counter(split[fifth].tolist()) == {"train": 70, "val": 15, "test": 15}


def test_items_without_labels_are_dealt_out_evenly():
    numbers = np.where(np.arange(200) < 100, np.nan, np.arange(200.0))
    rows = np.where(np.arange(200)[:, None] < 100, -1, 0) * np.ones((1, 3), int)
    for labels in (
        {"age": numbers},
        {"cells": rows.astype(np.int8)},
        {"kind": np.minimum(np.arange(200) // 100, 1) - 1},
    ):
        split = assign(names(200), range(200), labels, FRACTIONS, seed=0)
        for half in (split[:100], split[100:]):
            assert Counter(half.tolist()) == pytest.approx({"train": 70, "val": 15, "test": 15}, abs=1)


def test_missing_classes_count_for_nothing():
    labels = {"kind": np.array([0] * 20 + [1] * 20 + [-1] * 20)}
    tasks = {"kind": Task("single_label", ("a", "b"))}
    need_groups(range(60), labels, tasks, 3, "splitting")
    split = assign(names(60), range(60), labels, FRACTIONS, seed=0)
    for label in range(2):
        assert Counter(split[labels["kind"] == label].tolist()) == {"train": 14, "val": 3, "test": 3}


SPLIT = np.array(["train", "train", "train", "test"])
CLASSES = Task("single_label", ("a", "b"))
LABELS = Task("multilabel", ("a",))
NUMBERS = Task("regression")
UNTRAINABLE = {
    "class": ([0, 0, -1, 1], CLASSES, "class 'b' of `t` has no training images (it has images in test): x"),
    "no class": ([-1, -1, -1, 1], CLASSES, "`t` is missing for all training images: x"),
    "label": ([[0], [0], [-1], [1]], LABELS, "label 'a' of `t` has no training images (it has images in test): x"),
    "constant": ([2.5, np.nan, 2.5, 3], NUMBERS, "`t` is 2.5 for all training images: there is nothing to learn"),
    "no number": ([np.nan, np.nan, np.nan, 3], NUMBERS, "`t` is missing for all training images: x"),
}


@pytest.mark.parametrize(("labels", "task", "said"), UNTRAINABLE.values(), ids=UNTRAINABLE)
def test_what_cannot_be_learnt_from_the_training_images_is_refused(labels, task, said):
    with pytest.raises(DataError) as caught:
        need_training_labels(SPLIT, {"t": np.array(labels)}, {"t": task}, "x")
    assert str(caught.value).startswith(said)


def test_what_can_be_learnt_passes():
    labels = {
        "one": np.array([0, 1, -1, 1]),
        "cells": np.array([[1], [0], [-1], [1]]),
        "age": np.array([1, 2, np.nan, 2]),
    }
    tasks = {"one": Task("single_label", ("a", "b")), "cells": Task("multilabel", ("a",)), "age": Task("regression")}
    need_training_labels(SPLIT, labels, tasks, "x")
