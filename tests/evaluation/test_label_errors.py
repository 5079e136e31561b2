"""Label errors: the counts of the paper's definition by hand, and errors planted into features."""

import numpy as np
import pytest

from tlkit.evaluation.label_errors import class_errors, confident_joint, find_label_errors, number_errors
from tlkit.evaluation.neighbours import Neighbours, contents, contrasts, find_neighbours, find_outliers, without_copies
from tlkit.tasks import Task

CLASSES = Task("single_label", ("a", "b", "c"))


def blobs(per_class=40, width=12, seed=0):
    random = np.random.default_rng(seed)
    centres = 3 * random.normal(size=(3, width))
    labels = np.repeat(np.arange(3), per_class).astype(np.int32)
    return (centres[labels] + random.normal(size=(3 * per_class, width))).astype(np.float32), labels


def test_the_confident_joint_counts_as_the_paper_says():
    labels = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]])
    # Thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 (0.7 + 0.8 + 0.4) / 3 = 0.633.
    joint, confident = confident_joint(labels, p)
    assert joint.tolist() == [[2, 1], [1, 2]]
    assert confident.tolist() == [0, 0, 1, 1, 1, 0]
    (first, second) = class_errors(labels, p, least=0.5)
    assert (first.index, first.said, first.likely, first.score) == (2, 0, 1, pytest.approx(0.9))
    assert (second.index, second.likely, second.score) == (5, 0, pytest.approx(0.6))
    assert [error.index for error in class_errors(labels, p, least=0.8)] == [2]


def test_missing_labels_are_not_judged():
    labels = np.array([0, 1, -1])
    p = np.array([[0.6, 0.4], [0.4, 0.6], [0.0, 1.0]])
    assert class_errors(labels, p, least=0.0) == []


def judge(features, labels, task=CLASSES, groups=None):
    names = [f"{i:03}" for i in range(len(labels))]
    around = find_neighbours(contrasts(features), 10)
    return find_label_errors(features, around, labels, task, groups or names, names)


def test_exchanged_labels_are_found_and_named():
    features, labels = blobs()
    wrong = {5: 1, 44: 2, 90: 0, 110: 1}
    labels[list(wrong)] = list(wrong.values())
    errors, reason = judge(features, labels)
    assert reason == ""
    assert {error.index for error in errors} == set(wrong)
    for error in errors:
        assert (error.said, error.likely) == (wrong[error.index], error.index // 40)
        assert 0.8 <= error.score <= 1
    features, labels = blobs()
    assert judge(features, labels) == ([], "")


def test_a_copy_with_the_same_wrong_label_does_not_hide_it():
    features, labels = blobs()
    features, labels = np.concatenate([features, features[[5]]]), np.append(labels, np.int32(1))
    labels[5] = 1
    groups = [*map(str, range(120)), "5"]
    around = without_copies(find_neighbours(contrasts(features), 20), np.append(np.arange(120), 5))
    names = [f"{i:03}" for i in range(121)]
    errors, _ = find_label_errors(features, around, labels, CLASSES, groups, names)
    assert {error.index for error in errors} == {5, 120}


def test_labels_of_several_at_once():
    features, labels = blobs()
    sets = np.stack([labels != 0, labels == 2], axis=1).astype(np.int8)
    sets[50, 0], sets[7, 1] = 0, 1
    sets[20] = -1
    errors, _ = judge(features, sets, Task("multilabel", ("x", "y")))
    assert {(error.index, error.said, error.likely) for error in errors} == {(50, 0, 1), (7, 1, 0)}


def test_numbers_far_from_their_prediction():
    features, _ = blobs()
    random = np.random.default_rng(0)
    values = features @ random.normal(size=features.shape[1]) + random.normal(0, 0.3, len(features))
    values[33] += 30
    values[34] = np.nan
    errors, _ = judge(features, values.astype(np.float64), Task("regression", (), 0.0, 1.0))
    assert errors[0].index == 33
    assert errors[0].said == pytest.approx(values[33])
    assert errors[0].likely == pytest.approx(values[33] - 30, abs=3)
    assert len(errors) <= 2
    constant = np.full((9, 1), 1.0)
    residuals = np.array([1, 1.1, 0.9, 1, 1.2, 0.8, 1, 1.1, 3])
    (error,) = number_errors(residuals, constant)
    assert error.index == 8  # the median of |residual| is 0.1: 2 / (1.4826 x 0.1) = 13.5 standard deviations
    assert error.score == pytest.approx(1 - 2.25 / (2 / 0.14826))


def test_too_few_images_say_nothing():
    features, labels = blobs(per_class=4)
    errors, reason = judge(features, labels)
    assert errors == []
    assert "fewer than 20" in reason


def test_neighbours_are_those_of_the_whole_table():
    features = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
    directions = contents(features)
    found = find_neighbours(directions, 5)
    table = directions @ directions.T
    np.fill_diagonal(table, -np.inf)
    assert (found.index == np.argsort(-table, axis=1)[:, :5]).all()
    assert np.allclose(found.similarity, -np.sort(-table, axis=1)[:, :5])


def test_copies_are_no_neighbours():
    index = np.array([[1, 2, 3], [0, 3, 2], [3, 0, 1], [2, 0, 1]])
    similarity = np.array([[0.9, 0.5, 0.4]] * 4, np.float32)
    kept = without_copies(Neighbours(index, similarity), np.array([0, 0, 2, 2]), k=2)
    assert kept.index.tolist() == [[2, -1], [3, -1], [0, -1], [0, -1]]
    assert kept.similarity[0].tolist() == pytest.approx([0.5, -1])


def test_outliers_are_far_from_all_and_few_otherwise():
    random = np.random.default_rng(0)
    features = np.abs(random.normal(3, 1, (2000, 40))).astype(np.float32)
    strange = np.zeros((5, 40), np.float32)
    strange[:, 30:] = np.abs(random.normal(3, 1, (5, 10)))  # five of one kind don't hide each other
    kinds = np.append(random.integers(0, 2, 2000), [0, 0, 1, 1, 1])
    around = find_neighbours(contents(np.concatenate([features, strange])), 10)
    found = find_outliers(around, kinds)
    assert {i for i, _ in found[:5]} == set(range(2000, 2005))
    assert len(found) - 5 <= 0.01 * 2000
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 3.09
