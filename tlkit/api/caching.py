"""What a run keeps of its frozen layers' features: the recipe's choice made, its store opened."""

from tlkit.training.store import DiskStore, MemoryStore


def choose_cache(job, recipe, model):
    """Choose what a run keeps, where the recipe leaves it open, and say so in one line.

    Args:
        job: The `Job`; a plan that it has already, as a fold has the whole run's, stays.
        recipe: Its resolved `Recipe`, of which `training.cache` may still be `"auto"`.
        model: The model as it was built.

    Returns:
        `(recipe, plan, store)`: the recipe with its choice made, the `CachePlan`, and the store or None.
    """
    from tlkit.models.chain import Chain
    from tlkit.training.cache import memory_room, plan_cache
    from tlkit.training.fit import unfrozen_blocks

    if job.plan is not None:
        return recipe, job.plan, job.store
    chain = Chain(model, job.ends, job.data.tasks, recipe.data.batch_size)
    disk = DiskStore(max_bytes=job.cache_size, note=job.listener.note)
    room = {"disk": disk.room(), "ram": memory_room()}
    counts = {split: len(job.data.indices(split)) for split in ("train", "val", "test")}
    if job.pool is not None:
        counts = {"train": len(job.pool), "val": len(job.pool), "test": 0}
    plan = plan_cache(
        recipe.training.cache,
        [(chain.position(unfrozen_blocks(stage, job.ends)), stage.epochs) for stage in recipe.stages],
        row_bytes=chain.row_bytes,
        num_train=counts["train"],
        num_val=counts["val"],
        num_test=counts["test"],
        views=recipe.data.views or None,
        room=room,
    )
    job.listener.note(plan.summary)
    store = {"disk": disk, "ram": MemoryStore(room["ram"])}.get(plan.mode)
    recipe = recipe.model_copy(deep=True)
    recipe.training.cache = plan.mode
    return recipe, plan, store


def kept_evaluation(job, chain, views, indices):
    """Return the `KeptFeatures` of the evaluation view of some images of a run, or None if it keeps none."""
    from tlkit.training.features import KeptFeatures
    from tlkit.training.repeatable import describe_engine

    if job.store is None:
        return None
    pool = indices if job.pool is None else job.pool
    return KeptFeatures(job.store, chain, views.evaluation(), job.data, pool, describe_engine())
