"""What changes with every step leaves nothing behind in the process; `tests/benchmarks/soak.py` measures whole runs."""

import gc
import sys

import keras
import numpy as np
import pytest

from tlkit.recipe_keys import Stage
from tlkit.training.average import MovingAverage
from tlkit.training.optimizers import BlockOptimizer
from tlkit.training.rules import resolve_stage
from tlkit.training.tensorboard import ScalarLog

WARM_UP, COUNTED = 200, 3000
RANDOM = np.random.default_rng()  # no number comes twice: what the engine keeps it keeps once


def objects_left(call):
    """Return how many of Python's objects there are more after many calls with a place and a number new each time."""
    for place in range(WARM_UP + COUNTED):
        if place == WARM_UP:
            gc.collect()
            before = sys.getallocatedblocks()
        call(place, RANDOM.random())
    gc.collect()
    return sys.getallocatedblocks() - before


def learning_rate(_):
    variable = keras.Variable(np.zeros((2, 2)))
    optimizer = BlockOptimizer(
        resolve_stage(Stage(unfreeze=0, epochs=1, learning_rate=1.0, block_factor=0.5)), [[variable]]
    )
    optimizer.build([variable])
    return lambda _, value: optimizer.set_learning_rate(value)


def moving_average(_):
    average, start = MovingAverage([keras.Variable(np.zeros((2, 2)))], 1 - 1e-12), int(RANDOM.integers(10**5))
    return lambda place, _: average.update(start + place)


def curves(folder):
    log = ScalarLog(folder, pytest.fail)
    return lambda place, value: log.write({"loss": value, "epoch": place}, step=place)


@pytest.mark.parametrize("make", [learning_rate, moving_average, curves])
def test_a_number_that_was_given_to_the_engine_is_gone_afterwards(tmp_path, make):
    """TensorFlow keeps every Python number that it makes a tensor of; here each is another."""
    assert objects_left(make(tmp_path)) < COUNTED / 3


def test_the_count_sees_what_the_engine_keeps():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow keeps them")
    variable = keras.Variable(0.0)
    assert objects_left(lambda _, value: variable.assign(value)) > COUNTED / 2
