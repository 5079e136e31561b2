"""The learning-rate range test of a job's stage."""

from dataclasses import replace

from tlkit.api.parts import make_training
from tlkit.errors import RecipeError, TlkitError
from tlkit.training.schedule import describe_stage


def range_test_of(job, number, steps):
    """Do what `tlkit.api.find_learning_rate` says for a `Job` that isn't resolved."""
    job = job.resolve()
    stages = job.recipe.stages
    if not stages:
        raise RecipeError("lr-find: the recipe has no stages, the probe is all of it. Give one with --set stages=head.")
    if not 0 <= number < len(stages):
        raise RecipeError(f"--stage: expected one of the {len(stages)} stages, from 0. Received: {number}")
    if steps < 2:
        raise RecipeError(f"--steps: expected at least 2. Received: {steps}")
    job.listener.note(f"stage {number}: {describe_stage(stages[number])}")
    recipe = job.recipe.model_copy(deep=True)
    per_epoch = -(-len(job.data.indices("train")) // recipe.data.batch_size)
    recipe.stages = [stages[number].model_copy(update={"epochs": -(-steps // per_epoch)})]
    model = job.make_model(recipe, job.data.tasks)
    training = make_training(replace(job, recipe=recipe, model=model))
    for done, so_far in enumerate(training.range_test(steps, job.listener), start=1):
        job.listener.rate_tried(done, steps)
        found = so_far
    if not found.losses:
        raise TlkitError("lr-find: the first loss is no number. Look at the data with `tlkit audit --preview`.")
    return found
