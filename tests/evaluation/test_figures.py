"""Figures and their intervals, against computations that go image by image."""

import numpy as np
import pytest
from tails import expanded_tails

from tlkit.evaluation.bootstrap import resampled_counts
from tlkit.evaluation.figures import multilabel_figures, regression_figures, single_label_figures, wilson_interval
from tlkit.tasks import Task

SEVEN = Task("single_label", tuple("abcdefg"))
TAGS = Task("multilabel", ("x", "y", "z"))


@pytest.fixture(scope="module")
def random_case():
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 60).astype(np.int32)  # nobody is a g
    logits = random.normal(size=(60, 7))
    logits[np.arange(60), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def f1(labels, predicted, k):
    both = ((labels == k) & (predicted == k)).sum()
    return 2 * both / max((labels == k).sum() + (predicted == k).sum(), 1)


def test_single_label_figures_image_by_image(random_case):
    labels, probabilities = random_case
    figures = single_label_figures(labels, probabilities, SEVEN)
    predicted = probabilities.argmax(axis=1)
    by_class = [f1(labels, predicted, k) for k in range(6)]
    assert figures["macro_f1"] == pytest.approx(np.mean(by_class))
    shares = np.bincount(labels, minlength=6) / 60
    assert figures["weighted_f1"] == pytest.approx(shares @ by_class)
    true = probabilities[np.arange(60), labels]
    assert figures["log_loss"] == pytest.approx(-np.log(true).mean(), rel=1e-5)
    assert figures["brier"] == pytest.approx(((probabilities - np.eye(7)[labels]) ** 2).sum() / 60, rel=1e-5)
    among_five = sum((p > p[y]).sum() < 5 for p, y in zip(probabilities, labels, strict=True))
    assert figures["top5"] == among_five / 60
    assert figures["top5_interval"] == wilson_interval(among_five, 60)
    confusion = np.zeros((7, 7), int)
    np.add.at(confusion, (labels, predicted), 1)
    assert figures["confusion"] == confusion.tolist()


def test_roc_auc_is_the_share_of_pairs_in_order(random_case):
    labels, probabilities = random_case
    shares = []
    for k in range(6):
        inside, outside = probabilities[labels == k, k], probabilities[labels != k, k]
        shares.append((inside[:, None] > outside).mean())
    assert single_label_figures(labels, probabilities, SEVEN)["roc_auc"] == pytest.approx(np.mean(shares))
    one = single_label_figures(np.zeros(3, int), probabilities[:3], SEVEN)
    assert one["roc_auc"] is None  # nothing to tell the class from


def test_the_interval_of_macro_f1_is_that_of_resampled_images(random_case):
    labels, probabilities = random_case
    predicted, values = probabilities.argmax(axis=1), []
    counts = np.concatenate(list(resampled_counts(60)), axis=1).astype(int)
    for column in counts.T:
        drawn = np.repeat(np.arange(60), column)
        of_those = labels[drawn], predicted[drawn]
        values.append(np.mean([f1(*of_those, k) for k in np.unique(of_those[0])]))
    figures = single_label_figures(labels, probabilities, SEVEN)
    low, high = np.quantile(values, expanded_tails(60))
    right = figures["macro_f1"] * 60
    floor = wilson_interval(np.floor(right), 60)[0], wilson_interval(np.ceil(right), 60)[1]
    assert figures["macro_f1_interval"] == pytest.approx([min(low, floor[0]), max(high, floor[1])], abs=1e-6)


def test_very_many_classes_have_no_confusion_matrix():
    many = Task("single_label", tuple(map(str, range(201))))
    probabilities = np.full((4, 201), 1 / 201, np.float32)
    assert single_label_figures(np.arange(4), probabilities, many)["confusion"] is None


def test_several_labels_have_the_same_figures():
    random = np.random.default_rng(1)
    hits = (random.random((50, 3)) < [0.5, 0.3, 0]).astype(np.int8)
    probabilities = np.clip(hits * 0.3 + random.random((50, 3)) * 0.7, 0.01, 0.99).astype(np.float32)
    figures = multilabel_figures(hits, probabilities, TAGS)
    predicted = probabilities >= 0.5
    by_label = [f1(hits[:, k], predicted[:, k], 1) for k in range(2)]
    assert figures["macro_f1"] == pytest.approx(np.mean(by_label))
    support = hits[:, :2].sum(axis=0)
    assert figures["weighted_f1"] == pytest.approx(by_label @ support / support.sum())
    low, high = figures["macro_f1_interval"]
    assert low < figures["macro_f1"] < high
    assert figures["mean_roc_auc"] == pytest.approx(np.mean([figures["per_class"][k]["roc_auc"] for k in "xy"]))
    assert figures["log_loss"] == pytest.approx(
        -np.log(np.where(hits == 1, probabilities, 1 - probabilities)).mean(), rel=1e-5
    )
    nobody = multilabel_figures(np.zeros((4, 3), np.int8), probabilities[:4], TAGS)
    assert nobody["macro_f1"] is nobody["macro_f1_interval"] is nobody["weighted_f1"] is nobody["mean_roc_auc"] is None


def test_the_intervals_of_numbers_are_those_of_resampled_images():
    random = np.random.default_rng(2)
    labels = random.normal(20, 5, 40)
    predictions = (labels + random.normal(0, 3, 40)).astype(np.float32)[:, None]
    figures = regression_figures(labels, predictions, Task("regression", mean=20.0, scale=5.0))
    errors, r2, rmse = predictions[:, 0] - labels, [], []
    for column in np.concatenate(list(resampled_counts(40)), axis=1).astype(int).T:
        drawn = np.repeat(np.arange(40), column)
        r2.append(1 - (errors[drawn] ** 2).sum() / ((labels[drawn] - labels[drawn].mean()) ** 2).sum())
        rmse.append(np.sqrt((errors[drawn] ** 2).mean()))
    assert figures["r2_interval"] == pytest.approx(np.quantile(r2, expanded_tails(40)), abs=1e-5)
    assert figures["rmse_interval"] == pytest.approx(np.quantile(rmse, expanded_tails(40)), abs=1e-3)
