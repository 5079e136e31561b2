"""The parts of a job's training, made from its recipe."""

import numpy as np

from tlkit.data.labels import labelled
from tlkit.errors import DataError, RecipeError, did_you_mean
from tlkit.training import rules


def class_counts(data):
    """Return the number of training images of each class: dict of single-label task to int `(classes,)`."""
    train = data.indices("train")
    labels = {
        name: (data.labels[name][train], len(task.classes))
        for name, task in data.tasks.items()
        if task.kind == "single_label"
    }
    return {name: np.bincount(of[of >= 0], minlength=classes) for name, (of, classes) in labels.items()}


def refuse_idle(recipe, data):
    """Refuse keys that would do nothing.

    Args:
        recipe: `Recipe`, its stages chosen.
        data: `Data`.

    Raises:
        RecipeError: If a weight is for no task, a remedy for imbalance or a smoothing has no classes to work on, or a
            stage ends before the batches of its first step are there.
        DataError: If a task has no label among the validation images.
    """
    tasks = data.tasks
    for name in recipe.loss.weights if isinstance(recipe.loss.weights, dict) else ():
        if name not in tasks:
            raise RecipeError(
                f"`loss.weights.{name}`: expected one of the tasks {', '.join(tasks)}.{did_you_mean(name, tasks)}"
            )
    kinds = {task.kind for task in tasks.values()}
    needed = {"class_weights": {"single_label"}, "balanced_sampling": {"single_label"}}
    needed["focal"] = {"single_label", "multilabel"}
    if not kinds & needed.get(recipe.loss.imbalance, kinds):
        raise RecipeError(
            f"`loss.imbalance`: {recipe.loss.imbalance} needs a task of kind "
            f"{' or '.join(sorted(needed[recipe.loss.imbalance]))}. Received: {', '.join(sorted(kinds))}"
        )
    if recipe.loss.label_smoothing and kinds == {"regression"}:
        raise RecipeError("`loss.label_smoothing` needs a task with classes. Received: regression")
    steps = -(-len(data.indices("train")) // recipe.data.batch_size)
    for number, stage in enumerate(recipe.stages):
        if stage.accumulate > stage.epochs * steps:
            raise RecipeError(
                f"`stages.{number}.accumulate`: expected at most {stage.epochs * steps}, the stage's batches. "
                f"Received: {stage.accumulate}"
            )
    val = data.indices("val")
    for name in tasks:
        if not labelled(data.labels[name][val]).any():
            raise DataError(
                f"`{name}` has no label among the {len(val)} validation images. Label some, or leave it out."
            )


def refuse_no_training(job, recipe, model):
    """Refuse a recipe in which nothing is trained for a head that no probe is put into: nothing would be learned.

    Raises:
        RecipeError: If that is so.
    """
    from tlkit.models.assemble import cut, probe_layers

    if any(stage.trained_epochs for stage in recipe.stages):
        return
    if recipe.head.init != "probe" or probe_layers(cut(model, job.ends, 0, job.data.tasks)[1], job.data.tasks) is None:
        raise RecipeError("`stages`: a head without a linear probe needs at least one stage that trains. Add one.")


def probe_views(job):
    """Return the numbers of the training views that the probe is fitted on; none where there is no probe."""
    if job.recipe.head.init != "probe":
        return range(0)
    return range(min(job.views().count or 1, rules.PROBE_VIEWS))


def make_mixing(recipe):
    """Return the `tlkit.data.mixing.Mixing` of a resolved recipe: what is mixed, in which epochs."""
    from tlkit.data.mixing import Mixing, mixed_epochs

    first, epochs = 0, []
    if recipe.data.mixup or recipe.data.cutmix:
        for stage in recipe.stages:
            epochs += range(first, first + mixed_epochs(stage.epochs, recipe.data.mix_off))
            first += stage.epochs
    return Mixing(recipe.data.mixup, recipe.data.cutmix, frozenset(epochs))


def streamed_epochs(recipe):
    """Return the epochs, counted over all stages, whose training views aren't kept: mixed, or of another size."""
    sizes = [stage.image_size for stage in recipe.stages for _ in range(stage.epochs)]
    full = ("full", recipe.data.image_size)
    return make_mixing(recipe).epochs | {number for number, size in enumerate(sizes) if size not in full}


def make_splits(recipe, record=None):
    """Return the `tlkit.training.splits.Splits` of a recipe; where it leaves them open, there are none.

    Args:
        recipe: The `Recipe`.
        record: As for `Splits`.
    """
    from tlkit.training.splits import Splits

    entries = recipe.training.splits
    return Splits(recipe.data.batch_size, [] if entries == "auto" else entries, record)


def make_training(job, record_splits=None):
    """Return the `tlkit.training.fit.Training` of a job whose model is there.

    Args:
        job: The `Job`.
        record_splits: As `record` for `tlkit.training.splits.Splits`.
    """
    from tlkit.models.backbones import auxiliary_heads
    from tlkit.training.features import Features
    from tlkit.training.fit import Training
    from tlkit.training.repeatable import describe_engine

    recipe, data = job.recipe, job.data
    counts = class_counts(data)
    features = Features(
        data,
        job.views(),
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
        epochs=sum(stage.epochs for stage in recipe.stages),
        balanced=rules.most_imbalanced(counts)[0] if recipe.loss.imbalance == "balanced_sampling" else None,
        mixing=make_mixing(recipe),
        streamed=streamed_epochs(recipe),
        plan=job.plan,
        store=job.store,
        engine=describe_engine(),
        pool=job.pool,
        listener=job.listener,
    )
    return Training(
        job.model,
        recipe.stages,
        ends=job.ends,
        tasks=data.tasks,
        features=features,
        craft=make_craft(recipe, counts),
        probe_views=probe_views(job),
        auxiliaries=auxiliary_heads(recipe.backbone.name, data.tasks) if recipe.head.original else None,
        splits=make_splits(recipe, record_splits),
        digests=job.digests,
        early_images=job.budget.early_images if job.budget else 0,
    )


def make_craft(recipe, counts):
    """Return the `tlkit.training.stage.Craft` of a recipe; `counts` is what `class_counts` returns."""
    from tlkit.training.stage import Craft

    loss, training = recipe.loss, recipe.training
    weighted = loss.imbalance == "class_weights"
    return Craft(
        batch_norm=training.batch_norm,
        loss_weights=loss.weights,
        label_smoothing=loss.label_smoothing,
        class_weights={name: rules.class_weights(of) for name, of in counts.items()} if weighted else {},
        focal_gamma=loss.focal_gamma if loss.imbalance == "focal" else 0.0,
        l1=training.l1,
        l2=training.l2,
        l2_sp=training.l2_sp,
        ema=training.ema,
        average_best=training.average_best,
        precision=training.precision,
        monitor=training.monitor,
        patience=training.patience,
    )
