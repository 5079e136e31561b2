"""Whether a run's stages fit into memory, before they begin; batches that don't are computed in parts."""

from tlkit.api.parts import make_craft, make_splits
from tlkit.recipe_keys import Split
from tlkit.training.sizes import format_size

SHARE = 0.9  # of the memory that is available, which a stage may be predicted to take


def choose_splits(job, recipe, model):
    """Choose in how many parts batches are computed, where the recipe leaves it open, and say so stage by stage.

    Args:
        job: The `Job`.
        recipe: Its resolved `Recipe`, of which `training.splits` may still be `"auto"`.
        model: The model as it was built.

    Returns:
        `(recipe, bytes)`: the recipe with its choice made, and the most that any stage of it is predicted to take; 0
        where a device of its own computes, whose memory isn't known.
    """
    room, entries, found = _room(), recipe.training.splits, []
    if room:
        found = footprints(job, recipe, model)
    if entries == "auto":
        entries = []
        for number, of_stage in enumerate(found):
            entries += _fit(number, of_stage, recipe.data.batch_size, room, entries, job.listener)
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"splits": entries})})
    splits, size = make_splits(recipe), recipe.data.batch_size
    taken = (
        of_stage.bytes(splits.rows("training", number), splits.rows("frozen", number), size)
        for number, of_stage in enumerate(found)
    )
    return recipe, max(taken, default=0)


def footprints(job, recipe, model):
    """Return the `Footprint` of each stage of a recipe."""
    from tlkit.training.footprint import footprint

    craft = make_craft(recipe, {})
    return [footprint(model, stage, ends=job.ends, tasks=job.data.tasks, craft=craft) for stage in recipe.stages]


def _room():
    """Return the bytes that a stage may take; 0 where a device of its own computes, whose memory isn't known."""
    from tlkit.training.cache import available_memory
    from tlkit.training.repeatable import describe_device

    return SHARE * available_memory() if describe_device()[0] == "CPU" else 0


def _fit(number, found, batch_size, room, earlier, listener):
    """Return the `Split`s that a stage begins with."""
    from tlkit.training.splits import Splits

    splits = Splits(batch_size, earlier)
    rows, frozen = batch_size, splits.rows("frozen", number)
    before = found.bytes(rows, frozen, batch_size)
    while found.per_frozen_image and found.bytes(0, frozen, batch_size) > room and frozen > 1:
        frozen = -(-frozen // 2)
    while found.bytes(rows, frozen, batch_size) > room and rows > 1:
        rows = -(-rows // 2)
    if before <= room:
        return []
    chosen = []
    if frozen < splits.rows("frozen", number):
        chosen.append(Split(what="frozen", stage=-1, parts=-(-batch_size // frozen)))
    if rows < batch_size:
        chosen.append(Split(what="training", stage=number, parts=-(-batch_size // rows)))
    after = found.bytes(rows, frozen, batch_size)
    what = f"memory: stage {number} is predicted to take {format_size(before)} and {format_size(int(room))} is free"
    if after > room:
        listener.note(
            f"{what}; even one image at a time takes {format_size(after)}, so the system may end the run. Fewer "
            "unfrozen blocks or a smaller image_size take less"
        )
        return chosen
    how = [f"{rows} of {batch_size} images at once, gradients added up"] if rows < batch_size else []
    how += [f"frozen layers {frozen} at once"] if frozen < batch_size else []
    listener.note(f"{what}: it computes {'; '.join(how)}, and takes {format_size(after)} (training.splits)")
    return chosen
