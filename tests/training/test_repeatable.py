"""The same training in several processes comes to the same bits."""

import subprocess
import sys

import pytest

TRAIN = """
import hashlib
import numpy as np
from tlkit.models.assemble import assemble
from tlkit.models.backbones import block_ends, build_backbone
from tlkit.models.heads import make_head
from tlkit.recipe_keys import Stage
from tlkit.tasks import Task
from tlkit.training.repeatable import make_repeatable
from tlkit.training.stage import Craft, StageTrainer
from tlkit.training.features import Batch

make_repeatable(0)
tasks = {"label": Task("single_label", ("a", "b", "c"))}
model = assemble(build_backbone("efficientnet_lite0", weights="imagenet"), make_head(tasks, init="random"), tasks)
stage = Stage(unfreeze="all", epochs=1, learning_rate=1e-3)
craft = Craft(batch_norm="train")
trainer = StageTrainer(model, stage, ends=block_ends(model), tasks=tasks, steps_per_epoch=3, craft=craft)
random = np.random.default_rng(0)
for step in range(2):
    images = random.uniform(0, 255, (16, 224, 224, 3)).astype("float32")
    trainer.train_step(Batch(images, {"label": random.integers(0, 3, 16)}), step)
bits = b"".join(np.asarray(variable).tobytes() for variable in model.variables)
print(hashlib.sha256(bits).hexdigest())
"""


@pytest.mark.slow
def test_every_process_trains_batch_norm_to_the_same_bits():
    """Without `graphs_as_written` they come to two different results, each about as often."""
    runs = [subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, check=True) for _ in range(5)]
    assert len({run.stdout for run in runs}) == 1
