"""What is chosen when the stages are left open."""

import subprocess
import sys

import pytest

from tlkit.recipe_keys import Stage
from tlkit.training.schedule import FEW_IMAGES, auto_stages, describe_stage


def test_few_images_train_the_head_alone():
    (stage,) = auto_stages(FEW_IMAGES - 1, 7, 32)
    assert stage.unfreeze == 0


@pytest.mark.parametrize("num_images", [FEW_IMAGES, 250, 1000, 5_000, 50_000, 3_000_000])
def test_the_head_comes_first_and_the_blocks_more_gently(num_images):
    head, fine = auto_stages(num_images, 7, 32)
    assert head.unfreeze == 0
    assert 0 < fine.unfreeze <= 7
    assert fine.learning_rate < head.learning_rate


def test_more_images_need_fewer_epochs():
    epochs = [sum(stage.epochs for stage in auto_stages(n, 7, 32)) for n in (100, 1000, 10_000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)


def test_a_backbone_of_one_block_is_not_unfrozen_whole():
    assert len(auto_stages(1000, 1, 32)) == 1


def test_stages_in_words():
    assert describe_stage(Stage(epochs=3, learning_rate=1e-3)) == "head only, 3 epochs, adam 0.001, cosine"
    assert describe_stage(Stage(unfreeze="all", epochs=3, learning_rate=1)).startswith("all blocks unfrozen")


def test_choosing_needs_no_tensorflow():
    code = "import sys, tlkit.training.schedule; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
