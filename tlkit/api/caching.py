"""What a run keeps of its frozen layers' features: the recipe's choice made, its store opened."""

from dataclasses import replace

from tlkit.api.parts import make_mixing, probe_views, streamed_epochs
from tlkit.training.store import DiskStore, MemoryStore, StoreError


def choose_cache(job, recipe, model, beside=0):
    """Choose what a run keeps, where the recipe leaves it open, and say so in one line.

    Args:
        job: The `Job`; a plan that it has already, as a fold has the whole run's, stays.
        recipe: Its resolved `Recipe`, of which `training.cache` may still be `"auto"`.
        model: The model as it was built.
        beside: Bytes of memory that training is predicted to take.

    Returns:
        `(recipe, plan, store)`: the recipe with its choice made, the `CachePlan`, and the store or None.
    """
    from tlkit.models.chain import Chain
    from tlkit.training.cache import memory_room, plan_cache

    if job.plan is not None:
        return recipe, job.plan, job.store
    chain = Chain(model, job.ends, job.data.tasks, recipe.data.batch_size)
    counts = {split: len(job.data.indices(split)) for split in ("train", "val", "test")}
    if job.pool is not None:
        counts = {"train": len(job.pool), "val": len(job.pool), "test": 0}
    store = DiskStore(max_bytes=job.cache_size, note=job.listener.note)
    room = {
        "disk": _disk_room(store, recipe.training.cache, job.listener),
        "ram": memory_room(beside),
    }
    job = replace(job, recipe=recipe)
    plan = plan_cache(
        recipe.training.cache,
        _shown(job, chain),
        row_bytes=chain.row_bytes,
        num_train=counts["train"],
        num_val=counts["val"],
        num_test=counts["test"],
        keep_training=job.views().count is not None,
        anyway=chain.position(0),
        room=room,
    )
    job.listener.note(plan.summary)
    if mixed := _mixed_views(job):
        job.listener.note(
            f"mixup and CutMix mix images, not features: the frozen layers run on {mixed:,} image views for them"
        )
    if plan.mode == "ram":
        store = job.memory or MemoryStore(room["ram"])
    recipe = recipe.model_copy(deep=True)
    recipe.training.cache = plan.mode
    return recipe, plan, None if plan.mode == "off" else store


def _shown(job, chain):
    """Return `(position, view numbers)` of the probe and of each stage; None for a view that no other epoch shows."""
    from tlkit.training.stage import unfrozen_blocks

    views, streamed, epoch = job.views(), streamed_epochs(job.recipe), 0
    numbers = list(probe_views(job))
    shown = [(chain.position(0), numbers)] if numbers else []
    for stage in job.recipe.stages:
        epochs = range(epoch, epoch + stage.epochs)
        numbers = [None if number in streamed else views.number(number) for number in epochs]
        shown.append((chain.position(unfrozen_blocks(stage, job.ends)), numbers))
        epoch += stage.epochs
    return shown


def _mixed_views(job):
    """Return on how many training views the frozen layers run because they are mixed."""
    depths = [stage.unfreeze for stage in job.recipe.stages for _ in range(stage.epochs)]
    frozen = [number for number in make_mixing(job.recipe).epochs if depths[number] not in {"all", len(job.ends)}]
    return len(frozen) * len(job.data.indices("train"))


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
    from tlkit.training.repeatable import describe_engine
    from tlkit.training.stage import unfrozen_blocks

    if job.store is None:
        return {"kept": None, "keep_at": 0}
    pool = indices if job.pool is None else job.pool
    kept = KeptFeatures(job.store, chain, views.evaluation(), job.data, pool, describe_engine())
    cuts = [chain.position(unfrozen_blocks(stage, job.ends)) for stage in job.recipe.stages]
    frozen = min(cuts, default=chain.position(0))
    return {"kept": kept, "keep_at": frozen if frozen in job.plan.evaluation else 0}
