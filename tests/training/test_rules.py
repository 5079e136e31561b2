"""What every "auto" becomes."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm

from tlkit.recipe import read_recipe
from tlkit.recipe_keys import Stage
from tlkit.training.rules import (
    BLOCK_FACTOR,
    FEW_IMAGES,
    MANY_IMAGES,
    STANDARD_ERRORS,
    beats,
    choose_imbalance,
    choose_stages,
    choose_tta,
    resolve_stage,
    resolve_views,
)


def test_few_images_train_the_head_alone_if_the_probe_does_not_do_it():
    (stage,) = choose_stages("auto", FEW_IMAGES - 1, 7, 32, probed=False)
    assert stage.unfreeze == 0
    assert choose_stages("auto", FEW_IMAGES - 1, 7, 32, probed=True) == []


@pytest.mark.parametrize("num_images", [FEW_IMAGES, 250, 999, MANY_IMAGES, 50_000, 3_000_000])
def test_the_head_comes_first_and_the_blocks_more_gently(num_images):
    head, fine = choose_stages("auto", num_images, 7, 32, probed=False)
    assert head.unfreeze == 0
    assert fine.unfreeze == ("all" if num_images >= MANY_IMAGES else 2)
    assert fine.learning_rate < head.learning_rate
    assert choose_stages("auto", num_images, 7, 32, probed=True) == [fine]


def test_more_images_need_fewer_epochs():
    epochs = [
        sum(stage.epochs for stage in choose_stages("auto", n, 7, 32, False)) for n in (100, 1000, 10_000, 100_000)
    ]
    assert epochs == sorted(epochs, reverse=True)


def test_a_backbone_of_one_block_is_not_unfrozen_whole():
    assert len(choose_stages("auto", 5000, 1, 32, False)) == 1


@pytest.mark.parametrize("images", [50, 500, 50_000])
def test_gradual_unfreezing_adds_a_block_a_stage(images):
    stages = choose_stages("gradual", images, 5, 32, False)
    assert [stage.unfreeze for stage in stages] == [0, 1, 2, 3, 4, 5]
    assert choose_stages("gradual", images, 5, 32, True) == stages[1:]


def test_discriminative_rates_fall_with_depth_and_all_at_once_has_one_stage():
    head, fine = choose_stages("discriminative", 500, 5, 32, False)
    assert (head.unfreeze, fine.unfreeze, fine.block_factor) == (0, "all", BLOCK_FACTOR)
    (everything,) = choose_stages("all", 500, 5, 32, False)
    assert (everything.unfreeze, everything.block_factor) == ("all", 1.0)
    assert [stage.unfreeze for stage in choose_stages("head", 5000, 5, 32, True)] == [0]
    assert choose_stages("probe", 5000, 5, 32, True) == []


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["single_label"], ("crop", "light")),
        (["multilabel"], ("squash", "mirror")),
        (["single_label", "regression"], ("squash", "mirror")),
    ],
)
def test_labels_of_the_whole_image_are_not_cropped_away(kinds, expected):
    data = resolve_views(read_recipe("default"), kinds).data
    assert (data.fit, data.augment) == expected
    given = resolve_views(read_recipe("default", ["data.fit=crop", "data.augment=heavy"]), kinds).data
    assert (given.fit, given.augment) == ("crop", "heavy")


def test_views_of_many_images_are_not_measured_unasked():
    assert [choose_tta("auto", images) for images in (0, 2000, 2001)] == ["flip", "flip", "none"]
    assert [choose_tta(choice, 10**6) for choice in ("tencrop", "none")] == ["tencrop", "none"]


@pytest.mark.parametrize(
    ("schedule", "expected"), [("step", (0.1, 4)), ("exponential", (0.96, 8)), ("plateau", (0.1, 3))]
)
def test_schedules_that_fall_have_the_papers_factors(schedule, expected):
    stage = resolve_stage(Stage(epochs=12, learning_rate=1, schedule=schedule))
    assert (stage.decay, stage.decay_epochs) == expected
    given = resolve_stage(Stage(epochs=12, learning_rate=1, schedule=schedule, decay=0.5, decay_epochs=2))
    assert (given.decay, given.decay_epochs) == (0.5, 2)


def test_imbalance_is_met_from_ten_to_one_and_said():
    mild, strong = {"label": np.array([90, 10])}, {"label": np.array([100, 10, 40])}
    assert choose_imbalance("auto", mild) == ("none", None)
    assert choose_imbalance("focal", mild) == ("focal", None)
    choice, line = choose_imbalance("auto", strong)
    assert choice == "class_weights"
    assert "100 images of the most frequent class, 10 of the rarest" in line
    assert choose_imbalance("none", strong)[0] == "none"
    assert "as asked" in choose_imbalance("balanced_sampling", strong)[1]
    assert choose_imbalance("auto", {}) == ("none", None)


def test_a_candidate_must_win_by_more_than_the_standard_error():
    incumbent = np.zeros(100)
    gain = np.random.default_rng(0).normal(size=100)
    gain = (gain - gain.mean()) / gain.std(ddof=1)  # mean 0 and standard error 0.1
    for mean, expected in ((-0.17, True), (-0.16, False), (0.5, False)):
        wins, difference, error = beats(gain + mean, incumbent)
        assert wins is expected
        assert (difference, error) == (pytest.approx(mean), pytest.approx(0.1))
    assert pytest.approx(norm.ppf(0.95), abs=1e-3) == STANDARD_ERRORS
    assert not beats(incumbent, incumbent)[0]


def test_choosing_needs_no_tensorflow():
    code = "import sys, tlkit.training.rules; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
