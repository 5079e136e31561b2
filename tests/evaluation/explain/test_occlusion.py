"""Occlusion sensitivity on scores that look at one known place."""

import numpy as np

from tlkit.evaluation.explain.occlusion import occlusion
from tlkit.evaluation.explain.targets import log_odds


def bright_corner(images):
    """Look at the 8 x 8 pixels from (16, 8) on and at nothing else."""
    return images[:, 16:24, 8:16].astype(np.float64).mean(axis=(1, 2, 3))


def test_hiding_the_only_place_that_counts_costs_most():
    image = np.full((32, 32, 3), 255, np.uint8)
    found = occlusion(bright_corner, image, patch=8, stride=8)
    expected = np.zeros((32, 32))
    expected[16:24, 8:16] = 255 - 127
    np.testing.assert_allclose(found, expected)


def test_overlapping_patches_are_averaged():
    """A row of 4 pixels, of which the score is the first: patches of 2 begin at 0, 1 and 2."""
    image = np.full((2, 4, 3), 227, np.uint8)
    found = occlusion(lambda images: images[:, 0, 0, 0].astype(float), image, patch=2, stride=1)
    np.testing.assert_allclose(found, [[100, 50, 0, 0]] * 2)


def test_what_speaks_against_is_below_zero():
    found = occlusion(lambda images: -bright_corner(images), np.full((32, 32, 3), 255, np.uint8), patch=8, stride=8)
    assert found[20, 12] == -128
    assert found.max() == 0


def test_every_pixel_is_hidden_and_batches_do_not_matter():
    image = np.random.default_rng(0).integers(0, 256, (37, 30, 3), np.uint8)
    kept = image.copy()
    one, many = (occlusion(bright_corner, image, batch_size=size) for size in (1, 50))
    np.testing.assert_array_equal(one, many)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(image, kept)


def test_log_odds():
    logits = np.array([[2.0, 1.0, 0.0], [50.0, 0.0, 0.0]])
    probability = np.exp(logits[0, 0]) / np.exp(logits[0]).sum()
    odds = log_odds(logits, 0, "single_label")
    np.testing.assert_allclose(odds, [np.log(probability / (1 - probability)), 50 - np.log(2)])
    np.testing.assert_array_equal(log_odds(logits, 1, "multilabel"), [1, 0])
