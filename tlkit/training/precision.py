"""How long a training step takes in each precision, on this machine and for this model."""

import time

import numpy as np

from tlkit.training.features import Batch
from tlkit.training.stage import Craft, StageTrainer
from tlkit.training.variables import assign, values_of

PRECISIONS = ("float32", "bfloat16")
TIMED_STEPS = 3


def seconds_per_step(model, stage, **of_model):
    """Time training steps of a stage in each precision; arguments as for `time_steps`.

    Returns:
        Dict of precision to seconds: the quickest of three steps after the first, which compiles.
    """
    return {precision: min(time_steps(model, stage, precision, **of_model)[1:]) for precision in PRECISIONS}


def time_steps(model, stage, precision, *, ends, tasks, batch_size, steps=1 + TIMED_STEPS):
    """Time training steps of a stage on noise, and put the model's weights back.

    Args:
        model: What `tlkit.models.assemble.assemble` returns.
        stage: The `Stage`.
        precision: `"float32"` or `"bfloat16"`.
        ends: Names of the model's block ends.
        tasks: Dict of task name to `Task`.
        batch_size: Images a step.
        steps: How many steps.

    Returns:
        List of the seconds of each step; the first compiles.
    """
    before, seconds = values_of(model.variables), []
    craft = Craft(precision=precision)
    trainer = StageTrainer(model, stage, ends=ends, tasks=tasks, steps_per_epoch=1, craft=craft)
    shape = trainer.suffix.inputs[0].shape[1:]
    noise = np.random.default_rng(0).random((batch_size, *shape), np.float32)
    batch = Batch(noise, {name: _no_labels(task, batch_size) for name, task in tasks.items()})
    for _ in range(steps):
        started = time.monotonic()
        trainer.train_step(batch, step=0)
        seconds.append(time.monotonic() - started)
    assign(model.variables, before)
    return seconds


def _no_labels(task, batch_size):
    if task.kind == "regression":
        return np.zeros(batch_size)
    return np.zeros((batch_size, len(task.classes)) if task.kind == "multilabel" else batch_size, np.int32)
