"""How fast this machine is with a net: what a plan within a budget is made from."""

import time
from dataclasses import replace

import numpy as np

from tlkit.catalog import BUILDABLE
from tlkit.search.budget import Speed, guess_step, may_fit
from tlkit.training import rules

TIMED = 2  # runs of a batch that are timed, after one that builds what they run
TIMED_STEPS = 2


def measure(job, work, left):
    """Build a job's net, and measure its `Speed` on this machine.

    Args:
        job: The `Job`; its recipe may leave the image size open.
        work: `Work`.
        left: Seconds that are left: a training step is timed only where a stage may fit.
    """
    from tlkit.models.chain import Chain
    from tlkit.training.precision import time_steps
    from tlkit.training.stage import unfrozen_blocks

    started = time.monotonic()
    size = image_size_of(job.recipe)
    recipe = job.recipe.model_copy(deep=True)
    recipe.data.image_size = size
    model = job.make_model(recipe, job.data.tasks)
    built = time.monotonic() - started
    chain = Chain(model, job.ends, job.data.tasks, work.batch_size)
    batch, read = _read_batch(job, size, work.batch_size)
    stage = work.rule_stage(len(job.ends))
    cut = chain.position(unfrozen_blocks(stage, job.ends) if stage else 0)
    halves = [(0, cut), (cut, chain.end)] if cut else [(0, chain.end)]
    seconds, rows = [], batch
    for first, last in halves:
        times = []
        for _ in range(1 + TIMED):
            begun = time.monotonic()
            [out] = chain.run(rows, first, [last])
            times.append(time.monotonic() - begun)
        seconds.append(min(times[1:]) / len(batch))
        rows = out
    prefix, suffix = seconds if cut else (0.0, *seconds)
    speed = Speed(size, built, read, prefix, suffix)
    if stage is None:
        return speed
    speed = guess_step(speed, work)
    if not may_fit(work, speed, stage, left):
        return speed
    of_model = {"ends": job.ends, "tasks": job.data.tasks, "batch_size": work.batch_size}
    first_step, *steps = time_steps(model, stage, "float32", **of_model, steps=1 + TIMED_STEPS)
    return replace(speed, step=min(steps), first_step=first_step)


def image_size_of(recipe):
    """Return the side in pixels of what a recipe's net sees."""
    return BUILDABLE[recipe.backbone.name].image_size if recipe.data.image_size == "auto" else recipe.data.image_size


def _read_batch(job, size, batch_size):
    """Return a batch of training views, and the seconds that one of them takes to read and render."""
    from tlkit.data.pipeline import Views, view_batches

    recipe = rules.resolve_views(job.recipe, [task.kind for task in job.data.tasks.values()])
    views = Views(job.data, image_size=size, fit=recipe.data.fit, augment=recipe.data.augment, count=1)
    images = np.resize(job.data.indices("train"), 3 * batch_size)
    batches = view_batches(views.training(0), images, batch_size)
    batch = next(batches)  # the first one waits for the threads
    begun = time.monotonic()
    rest = list(batches)
    return batch, (time.monotonic() - begun) / max(1, sum(map(len, rest)))
