"""Learning rates of every step, and a stage in words."""

import math

import pytest

from tlkit.recipe_keys import Stage
from tlkit.training.rules import resolve_stage
from tlkit.training.schedule import describe_stage, learning_rate


def rates(epochs, steps_per_epoch, drops=0, **settings):
    stage = resolve_stage(Stage(epochs=epochs, **settings))
    return [learning_rate(stage, step, steps_per_epoch, drops) for step in range(epochs * steps_per_epoch)]


def test_cosine_falls_over_the_stage():
    found = rates(2, 5, learning_rate=0.4)
    assert found == pytest.approx([0.2 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])


def test_warmup_comes_before_the_cosine():
    found = rates(2, 10, learning_rate=0.4, warmup=0.25)
    assert found[:5] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4])
    assert found[5:] == pytest.approx([0.2 * (1 + math.cos(math.pi * step / 15)) for step in range(15)])


def test_googlenets_rate_falls_by_four_percent_every_eight_epochs():
    found = rates(17, 2, learning_rate=0.01, schedule="exponential")
    assert found == pytest.approx([0.01] * 16 + [0.0096] * 16 + [0.009216] * 2)


def test_a_step_divides_by_ten():
    found = rates(6, 1, learning_rate=1.0, schedule="step")
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_plateau_divides_by_ten_each_time():
    assert rates(1, 2, drops=3, learning_rate=1.0, schedule="plateau") == pytest.approx([1e-3, 1e-3])


def test_a_constant_rate_is_constant():
    assert rates(3, 2, learning_rate=0.5, schedule="constant") == [0.5] * 6


def test_stages_in_words():
    assert describe_stage(Stage(epochs=3, learning_rate=1e-3)) == "head only, 3 epochs, adam 0.001, cosine"
    assert describe_stage(Stage(unfreeze="all", epochs=3, learning_rate=1)).startswith("all blocks unfrozen")


def test_what_is_not_usual_is_said():
    stage = Stage(
        unfreeze=1,
        epochs=9,
        learning_rate=0.1,
        optimizer="sgd",
        schedule="step",
        weight_decay=1e-4,
        accumulate=4,
        image_size=128,
    )
    assert describe_stage(resolve_stage(stage)) == (
        "1 block unfrozen, 9 epochs, sgd 0.1, step x 0.1 after 3, weight decay 0.0001, 4 batches a step, 128 pixels"
    )
