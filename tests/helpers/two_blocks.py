"""A net of two blocks and a head that trains in milliseconds, and the few batches that it trains on."""

import keras
import numpy as np

from tlkit.models.assemble import assemble
from tlkit.progress import Listener
from tlkit.tasks import Task
from tlkit.training.checkpoint import Checkpoint, TrainingState
from tlkit.training.features import Batch
from tlkit.training.fit import Training
from tlkit.training.interrupt import StopRequest
from tlkit.training.stage import Craft

TASKS = {"label": Task("single_label", ("a", "b", "c"))}
ENDS = ("block1", "block2")
BATCH, STEPS = 8, 3


def head(features):
    x = keras.layers.GlobalAveragePooling2D()(features)
    x = keras.layers.BatchNormalization(name="head_bn")(x)
    return keras.layers.Dense(3, name="logits")(keras.layers.Dropout(0.3)(x))


def linear_head(features):
    x = keras.layers.GlobalAveragePooling2D()(features)
    return keras.layers.Dense(3, name="logits")(keras.layers.Dropout(0.3)(x))


def make_model(head=head, size=8, tasks=TASKS):
    """Two blocks, each with BatchNorm and Dropout, and a head that has both, too, unless another is given."""
    keras.utils.set_random_seed(0)
    image = x = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(x)
    for block in (1, 2):
        x = keras.layers.Conv2D(4, 3, name=f"conv{block}")(x)
        x = keras.layers.BatchNormalization(name=f"bn{block}")(x)
        x = keras.layers.Dropout(0.5, name=f"dropout{block}")(x)
        x = keras.layers.ReLU(name=f"block{block}")(x)
    return assemble(keras.Model(image, x, name="two_blocks"), head, tasks)


def make_batches(seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, (STEPS, BATCH)).astype(np.int32)
    images = (labels[..., None, None, None] * 80 + random.integers(0, 60, (STEPS, BATCH, 8, 8, 3))).astype(np.uint8)
    return [{"image": image, "labels": {"label": label}} for image, label in zip(images, labels, strict=True)]


class Batches:
    """The same few batches every epoch, as features at the stage's cut."""

    batch_size, steps_per_epoch = BATCH, STEPS

    def start_stage(self, chain, position, later=(), shown=None):
        self.chain, self.position = chain, position

    def prepare(self, epoch):
        return iter(())

    prepare_views = prepare

    def training(self, step, mixing=True):
        batches = make_batches()
        return (Batch(*self._at_cut(batches[number % STEPS])) for number in range(step, 10_000))

    def in_order(self, numbers, most):
        return (Batch(*self._at_cut(batch)) for batch in make_batches())

    def validation(self):
        return map(self._at_cut, make_batches(1))

    def _at_cut(self, batch):
        images = batch["image"].astype("float32")
        return (self.chain.run(images, 0, [self.position])[0] if self.position else images), batch["labels"]


def make_training(model, stages, probe_views=(), splits=None, **craft):
    more = {"features": Batches(), "craft": Craft(**craft), "probe_views": probe_views, "splits": splits}
    return Training(model, stages, ends=ENDS, tasks=TASKS, **more)


def train(training, tmp_path, state=None, stop=None, seconds=3600, listener=None, **more):
    state = state or TrainingState()
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint", {"test": True}, seconds)
    with checkpoint:
        training.run(
            state,
            checkpoint=checkpoint,
            listener=listener or Listener(),
            stop=stop or StopRequest(),
            on_epoch=lambda state: None,
            **more,
        )
    return state, checkpoint


class StopAfter(Listener):
    """Asks for a stop after some steps, counted over all stages."""

    def __init__(self, steps, stop):
        self.left, self.stop = steps, stop

    def step_done(self, loss):
        self.left -= 1
        if self.left == 0:
            self.stop.signal = 15
