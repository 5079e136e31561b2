"""What a run keeps of its frozen layers' features: the recipe's choice made, its store opened."""

from dataclasses import replace

from tlkit.training.store import DiskStore, MemoryStore, StoreError


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
    counts = {split: len(job.data.indices(split)) for split in ("train", "val", "test")}
    if job.pool is not None:
        counts = {"train": len(job.pool), "val": len(job.pool), "test": 0}
    store = DiskStore(max_bytes=job.cache_size, note=job.listener.note)
    room = {"disk": _disk_room(store, recipe.training.cache, job.listener), "ram": memory_room()}
    plan = plan_cache(
        recipe.training.cache,
        [(chain.position(unfrozen_blocks(stage, job.ends)), stage.epochs) for stage in recipe.stages],
        row_bytes=chain.row_bytes,
        num_train=counts["train"],
        num_val=counts["val"],
        num_test=counts["test"],
        views=replace(job, recipe=recipe).views().count,
        room=room,
    )
    job.listener.note(plan.summary)
    if plan.mode == "ram":
        store = MemoryStore(room["ram"])
    recipe = recipe.model_copy(deep=True)
    recipe.training.cache = plan.mode
    return recipe, plan, None if plan.mode == "off" else store


def _disk_room(store, mode, listener):
    """Return the bytes that a run may fill on disk; say why if nothing can be written there."""
    if mode not in {"auto", "disk"}:
        return 0
    try:
        return store.room()
    except StoreError as error:
        listener.note(f"features: nothing can be kept on disk: {error}")
        return 0


def kept_evaluation(job, chain, views, indices):
    """Return what a run keeps of the evaluation view of some images, for `tlkit.evaluation.infer.predict_images`.

    Returns:
        Dict of `kept`, the `KeptFeatures` or None, and `keep_at`: the cut that no stage has trained below, if the plan
        keeps the evaluation view there, else 0.
    """
    from tlkit.training.features import KeptFeatures
    from tlkit.training.fit import unfrozen_blocks
    from tlkit.training.repeatable import describe_engine

    if job.store is None:
        return {"kept": None, "keep_at": 0}
    pool = indices if job.pool is None else job.pool
    kept = KeptFeatures(job.store, chain, views.evaluation(), job.data, pool, describe_engine())
    frozen = min(chain.position(unfrozen_blocks(stage, job.ends)) for stage in job.recipe.stages)
    return {"kept": kept, "keep_at": frozen if frozen in job.plan.evaluation else 0}
