"""Cross-validated probes: the closed form against fits one by one, and predictions that owe nothing to their image."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from tlkit.search.probes import logistic_probe, ridge_probe
from tlkit.tasks import Task
from tlkit.training.probe import STRENGTHS

FOLD = np.arange(60) % 5


def make_features(width, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, (60, width)).astype(np.float32)


@pytest.mark.parametrize("width", [7, 100])
def test_ridge_in_closed_form_is_that_of_a_fit_without_each_fold(width, monkeypatch):
    """Of scikit-learn, on numbers, at one strength."""
    features = make_features(width)
    numbers = features[:, :3].sum(axis=1) + np.random.default_rng(1).normal(size=60)
    task = Task("regression", mean=5.0, scale=3.0)
    monkeypatch.setattr("tlkit.search.probes.STRENGTHS", (0.05,))
    received = ridge_probe(features, numbers, task, FOLD)[:, 0]
    total = np.square(features.astype(float) - features.mean(axis=0, dtype=float)).sum()  # of which 0.05 is a share
    for fold in range(5):
        held = fold == FOLD
        model = Ridge(alpha=0.05 * total).fit(features[~held].astype(float), numbers[~held])
        np.testing.assert_allclose(received[held], model.predict(features[held].astype(float)), rtol=1e-6)


@pytest.mark.parametrize("probe", [logistic_probe, ridge_probe])
def test_an_image_is_predicted_without_its_label(probe):
    """Labels that are mere noise are told no better than by chance, whatever the features could memorize."""
    features, task = make_features(200), Task("single_label", ("a", "b"))
    right = 0
    for seed in range(8):
        labels = np.random.default_rng(seed).integers(0, 2, 60).astype(np.int32)
        right += int((probe(features, labels, task, FOLD).argmax(axis=1) == labels).sum())
    assert abs(right / 480 - 0.5) < 4 * np.sqrt(0.25 / 480)


@pytest.mark.parametrize("probe", [logistic_probe, ridge_probe])
@pytest.mark.parametrize("kind", ["single_label", "multilabel", "regression"])
def test_what_can_be_told_is_told(probe, kind):
    features = make_features(10)
    first = features[:, 0] > 1
    labels = {
        "single_label": first.astype(np.int32),
        "multilabel": np.stack([first, features[:, 1] > 1], axis=1).astype(np.int8),
        "regression": 100 + 10 * features[:, 0].astype(float),
    }[kind]
    task = Task("regression", mean=110.0, scale=20.0) if kind == "regression" else Task(kind, ("a", "b"))
    predicted = probe(features, labels, task, FOLD)
    if kind == "regression":
        assert np.abs(predicted[:, 0] - labels).mean() < 1
    elif kind == "multilabel":
        assert ((predicted > 0.5) == labels).mean() > 0.85
    else:
        assert (predicted.argmax(axis=1) == labels).mean() > 0.85


@pytest.mark.parametrize("probe", [logistic_probe, ridge_probe])
def test_images_without_a_label_are_left_out(probe):
    features, task = make_features(10), Task("single_label", ("a", "b"))
    labels = (features[:, 0] > 1).astype(np.int32)
    labels[[3, 14]] = -1
    predicted = probe(features, labels, task, FOLD)
    assert np.isnan(predicted[[3, 14]]).all()
    known = labels >= 0
    assert np.isfinite(predicted[known]).all()
    without = probe(features[known], labels[known], task, FOLD[known])
    np.testing.assert_allclose(predicted[known], without, rtol=1e-6, atol=1e-9)


def test_of_the_strengths_the_one_that_predicts_best_is_taken(monkeypatch):
    """Noisy numbers that several features tell: neither the strongest penalty nor the weakest predicts as well."""
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 40)).astype(np.float32)
    numbers = features[:, :8].sum(axis=1) + random.normal(0, 3, 60)
    task = Task("regression")

    def error():
        return np.square(ridge_probe(features, numbers, task, FOLD)[:, 0] - numbers).mean()

    best = error()
    for end in (STRENGTHS[0], STRENGTHS[-1]):
        monkeypatch.setattr("tlkit.search.probes.STRENGTHS", (end,))
        assert error() > 1.1 * best
