"""Stages and learning rates: what is chosen when the user leaves it open. No TensorFlow here.

The ancestor of such rules is BiT-HyperRule (Kolesnikov et al. 2020, https://arxiv.org/abs/1912.11370, section 3.3):
a few thresholds on the number of images in place of a search.
"""

import math

from tlkit.recipe_keys import Stage

# Below this many training images an unfrozen block has more to forget than to learn from.
FEW_IMAGES = 100
# Steps of a stage, and the bounds of the epochs that they give. Measured on 341 photos of 10 classes with Lite0, five
# folds. Head alone: 10 epochs at 3e-3 76.0 %; 20 epochs at 1e-3 74.5 %, 3e-3 78.3 %, 1e-2 76.8 %, 3e-2 75.4 %. After 10
# epochs at 1e-2, two blocks for 8 epochs: 3e-5 76.5 %, 1e-4 76.8 %, 3e-4 78.0 %. Each interval is some 9 points wide.
HEAD_STEPS, HEAD_EPOCHS, HEAD_RATE = 200, (5, 20), 3e-3
FINE_STEPS, FINE_EPOCHS, FINE_RATE = 100, (3, 8), 3e-4


def auto_stages(num_images, num_blocks, batch_size):
    """Choose the stages from the number of training images: head first, then the upper blocks, gently.

    Args:
        num_images: Number of training images.
        num_blocks: Number of blocks of the backbone.
        batch_size: Images a step.

    Returns:
        List of `Stage`.
    """
    steps = math.ceil(num_images / batch_size)
    head = Stage(unfreeze=0, epochs=_epochs(HEAD_STEPS, steps, HEAD_EPOCHS), learning_rate=HEAD_RATE)
    if num_images < FEW_IMAGES or num_blocks < 2:
        return [head]
    fine = Stage(unfreeze=2, epochs=_epochs(FINE_STEPS, steps, FINE_EPOCHS), learning_rate=FINE_RATE)
    return [head, fine]


def _epochs(total_steps, steps_per_epoch, bounds):
    lowest, highest = bounds
    return max(lowest, min(highest, math.ceil(total_steps / steps_per_epoch)))


def describe_stage(stage):
    """Return a stage in words, for the screen: `"2 blocks unfrozen, 10 epochs, adam 0.0001, cosine"`."""
    unfrozen = {0: "head only", "all": "all blocks unfrozen", 1: "1 block unfrozen"}
    what = unfrozen.get(stage.unfreeze, f"{stage.unfreeze} blocks unfrozen")
    epochs = f"{stage.epochs} epoch" + ("s" if stage.epochs > 1 else "")
    return f"{what}, {epochs}, {stage.optimizer} {stage.learning_rate:g}, {stage.schedule}"
