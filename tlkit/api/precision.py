"""What unfrozen layers compute in while they train, where the recipe leaves it to be measured."""


def choose_precision(job, recipe, model):
    """Return the recipe with the faster precision of this machine for this model, and say so in one line.

    Args:
        job: The `Job`.
        recipe: Its resolved `Recipe`, of which `training.precision` may still be `"auto"`.
        model: The model as it was built; left as it was.
    """
    if recipe.training.precision != "auto":
        return recipe
    if not recipe.stages:
        return recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": "float32"})})
    from tlkit.training.precision import seconds_per_step
    from tlkit.training.stage import unfrozen_blocks

    deepest = max(recipe.stages, key=lambda stage: unfrozen_blocks(stage, job.ends))
    seconds = seconds_per_step(model, deepest, ends=job.ends, tasks=job.data.tasks, batch_size=recipe.data.batch_size)
    recipe = recipe.model_copy(deep=True)
    recipe.training.precision = min(seconds, key=seconds.get)
    measured = ", ".join(f"{precision} {1000 * of:.0f} ms" for precision, of in seconds.items())
    job.listener.note(f"precision: {recipe.training.precision}, since a step takes {measured}")
    return recipe
