"""The mean of the best epochs' weights."""

import numpy as np

from tlkit.training.average import BestEpochs


def epoch(number):
    """Return the weights of an epoch: a kernel, and the state of a random generator."""
    return [np.full((2, 2), number, np.float32), np.array([number, 7], np.uint32)]


def test_the_best_epochs_are_averaged_and_the_others_forgotten():
    scores, values = [], []
    best = BestEpochs(2, scores, values)
    for number, score in enumerate([0.1, 0.9, 0.5, 0.7, 0.2]):
        best.offer(score, epoch(number))
    assert sorted(scores) == [0.7, 0.9]
    kernel, state = best.average()
    np.testing.assert_array_equal(kernel, np.full((2, 2), (1 + 3) / 2, np.float32))
    assert state.dtype == np.uint32
    best.forget()
    assert not scores
    assert not values


def test_one_epoch_is_no_average():
    best = BestEpochs(3, [], [])
    assert best.average() is None
    best.offer(1.0, epoch(0))
    assert best.average() is None


def test_another_process_goes_on_with_what_was_kept():
    scores, values = [], []
    BestEpochs(2, scores, values).offer(0.3, epoch(4))
    second = BestEpochs(2, scores, values)
    second.offer(0.4, epoch(8))
    np.testing.assert_array_equal(second.average()[0], np.full((2, 2), 6, np.float32))
