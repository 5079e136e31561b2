"""LogME against the density that it stands for."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from tlkit.search.evidence import log_evidence


@pytest.mark.parametrize("shape", [(40, 5), (30, 50)])
def test_it_is_the_largest_density_of_the_targets(shape):
    """The targets are normal with covariance F F' / alpha + I / beta; alpha and beta are searched for numerically."""
    random = np.random.default_rng(0)
    features = random.normal(size=shape)
    targets = features @ random.normal(0, 0.5, shape[1]) + random.normal(0, 0.7, shape[0])

    def minus_density(logarithms):
        alpha, beta = np.exp(logarithms)
        covariance = features @ features.T / alpha + np.eye(shape[0]) / beta
        return -multivariate_normal.logpdf(targets, np.zeros(shape[0]), covariance) / shape[0]

    best = -minimize(minus_density, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10}).fun
    assert log_evidence(features, targets[:, None]) == pytest.approx(best, abs=1e-4)


def test_several_targets_count_alike():
    random = np.random.default_rng(1)
    features, targets = random.normal(size=(30, 4)), random.normal(size=(30, 3))
    each = [log_evidence(features, targets[:, [k]]) for k in range(3)]
    assert log_evidence(features, targets) == pytest.approx(np.mean(each))


def test_features_that_tell_the_labels_have_more_of_it():
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, (100, 1)).astype(float)
    telling = np.hstack([labels + random.normal(0, 0.3, (100, 1)), random.normal(size=(100, 5))])
    assert log_evidence(telling, labels) > log_evidence(random.normal(size=(100, 6)), labels) + 0.1


def test_features_that_say_nothing_leave_noise_alone():
    """All zero, or all alike in every image: the density is that of noise around zero, or around one line."""
    targets = np.random.default_rng(3).integers(0, 2, (40, 1)).astype(float)
    noise = -(np.log(2 * np.pi * np.square(targets).mean()) + 1) / 2
    assert log_evidence(np.zeros((40, 3)), targets) == pytest.approx(noise)
    assert log_evidence(np.ones((40, 3)), targets) > noise


def test_more_features_than_images_and_a_class_without_any():
    """Features that fit any labels, and huge ones, as nets with random weights have."""
    random = np.random.default_rng(4)
    targets = np.hstack([np.zeros((20, 1)), random.integers(0, 2, (20, 2)).astype(float)])
    for scale in (1e-6, 1.0, 1e6):
        features = scale * random.normal(size=(20, 100))
        assert np.isfinite(log_evidence(features, targets))
        assert log_evidence(features, targets) == pytest.approx(log_evidence(features, targets[:, 1:]))
