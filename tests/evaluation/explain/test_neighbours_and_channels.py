"""Nearest images, and those that make channels strongest."""

import numpy as np

from tlkit.evaluation.explain.channels import leading_channels, strongest_images
from tlkit.evaluation.explain.neighbours import nearest, pooled


def test_an_image_is_its_own_nearest():
    features = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    positions, distances = nearest(features, features[7], 6)
    assert positions[0] == 7
    assert distances[0] == 0
    expected = np.sort(np.linalg.norm(features.astype(np.float64) - features[7], axis=1))[:6]
    np.testing.assert_allclose(distances, expected)


def test_three_four_five():
    positions, distances = nearest(np.array([[0, 0], [3, 4], [0, 1]]), np.zeros(2), 9)
    assert positions.tolist() == [0, 2, 1]
    assert distances.tolist() == [0, 1, 5]


def test_feature_maps_are_averaged_over_the_image():
    maps = np.arange(16.0).reshape(1, 2, 4, 2)
    np.testing.assert_array_equal(pooled(maps), [[7, 8]])
    assert pooled(maps[0, 0]) is not None
    np.testing.assert_array_equal(pooled(maps[0, 0]), maps[0, 0])


def test_the_channels_with_the_largest_share_in_grad_cam_s_sum():
    maps, slopes = np.ones((2, 2, 3)), np.ones((2, 2, 3))
    maps[0, 0] = [9, 1, 5]  # means 3, 1 and 2
    slopes[..., 0] = -1  # the strongest speaks against
    assert leading_channels(maps, slopes, 2).tolist() == [2, 1]


def test_strongest_images_over_batches():
    maps = np.zeros((5, 2, 2, 3), np.float32)
    maps[3, 1, 0, 2], maps[0, 0, 0, 2], maps[4, 0, 1, 0] = 7, 5, 3
    images = np.array([10, 20, 30, 40, 50])
    batches = [(images[:2], maps[:2]), (images[2:], maps[2:])]
    blue, red = strongest_images(batches, [2, 0], count=2)
    assert (blue.channel, red.channel) == (2, 0)
    assert blue.images.tolist() == [40, 10]
    assert blue.peaks.tolist() == [7, 5]
    assert blue.maps[0].tolist() == [[0, 0], [7, 0]]
    assert red.images[0] == 50
