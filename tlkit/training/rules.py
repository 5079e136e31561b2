"""What every `"auto"` of a recipe becomes: a few rules on the data, each with the source of its numbers. No TensorFlow.

The ancestor of such rules is BiT-HyperRule (Kolesnikov et al. 2020, https://arxiv.org/abs/1912.11370, section 3.3):
thresholds on the number of images in place of a search. "Table" means the tables of `tests/benchmarks/README.md`.
"""

import math

import numpy as np

from tlkit.recipe_keys import Stage

# Below this many training images an unfrozen block has more to forget than to learn from.
FEW_IMAGES = 100
# From so many on, all blocks train: on 2,000 small images of 10 classes (1,360 of them for training) that gave 80.7 %
# against 76.4 % for two blocks; on 341 photos two blocks already gain nothing to be told from chance. Table "Stages".
MANY_IMAGES = 1000
# Steps of a stage, and the bounds of the epochs that they give. A head that begins at random: 20 epochs at 1e-3, 3e-3,
# 1e-2, 3e-2 gave 74.5, 78.3, 76.8, 75.4 % on 341 photos, five folds, each interval some 9 points wide. A head that
# begins at the probe isn't trained alone: on 2,000 small images that made validation worse on each of five folds, on
# 341 photos it changed next to nothing. Table "Stages".
HEAD_STEPS, HEAD_EPOCHS, HEAD_RATE = 200, (5, 20), 3e-3
FINE_STEPS, FINE_EPOCHS, FINE_RATE, WARMUP = 200, (3, 8), 1e-4, 0.1
# With a rate that falls by 2.6 a block (Howard & Ruder 2018, https://arxiv.org/abs/1801.06146, section 3.2), the
# uppermost bears more.
UPPERMOST_RATE, BLOCK_FACTOR = 3e-4, 1 / 2.6
# Factor and epochs of falling rates: a tenth is AlexNet's, VGG's and ResNet's; 4 % every 8 epochs is GoogLeNet's
# (Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, section 6).
DECAYS = {"step": 0.1, "exponential": 0.96, "plateau": 0.1}
EXPONENTIAL_EPOCHS, PLATEAU_EPOCHS, STEPS_DOWN = 8, 3, 3
# Keras's default for AdamW.
ADAMW_DECAY = 0.004
# Buda et al. 2018 (https://arxiv.org/abs/1710.05381, figure 3): networks suffer visibly from about ten to one.
IMBALANCED = 10.0
# Training views of each image that the probe is fitted on, at most: its time grows with them.
PROBE_VIEWS = 4
# A later candidate must beat what is there by so many standard errors of the paired difference of validation losses:
# what chance alone exceeds once in twenty times. With 1, the rule of Breiman et al. 1984 ("Classification and
# Regression Trees", section 3.4.3), two of five folds of 341 photos took a stage whose log loss on the test images was
# then worse than the probe's: 0.79 for 0.57, and 0.76 for 0.71.
STANDARD_ERRORS = 1.645
# Test-time views of more images than these are not measured unasked: a second view takes as long as the evaluation.
MEASURE_VIEWS = 2000


def choose_stages(choice, num_images, num_blocks, batch_size, probed):
    """Choose the stages from the number of training images.

    Args:
        choice: `"auto"`, `"probe"`, `"head"`, `"gradual"`, `"discriminative"` or `"all"`.
        num_images: Number of training images.
        num_blocks: Number of blocks of the backbone.
        batch_size: Images a step.
        probed: Whether the head begins at the probe, and need not be trained by itself first.

    Returns:
        List of `Stage`; none where the probe is all.
    """
    steps = math.ceil(num_images / batch_size)
    fine = {"epochs": _epochs(FINE_STEPS, steps, FINE_EPOCHS), "warmup": WARMUP}
    head = Stage(unfreeze=0, epochs=_epochs(HEAD_STEPS, steps, HEAD_EPOCHS), learning_rate=HEAD_RATE)
    first = [] if probed else [head]
    falling = {"learning_rate": UPPERMOST_RATE, "block_factor": BLOCK_FACTOR}
    if choice == "auto":
        depth = 0 if num_images < FEW_IMAGES or num_blocks < 2 else 2 if num_images < MANY_IMAGES else "all"
        return [*first, Stage(unfreeze=depth, learning_rate=FINE_RATE, **fine)] if depth else first
    if choice == "gradual":
        short = falling | fine | {"epochs": max(1, fine["epochs"] // 2)}
        return [*first, *(Stage(unfreeze=depth, **short) for depth in range(1, num_blocks + 1))]
    return {
        "probe": [],
        "head": [head],
        "discriminative": [*first, Stage(unfreeze="all", **falling, **fine)],
        "all": [Stage(unfreeze="all", learning_rate=FINE_RATE, **fine)],
    }[choice]


def is_probed(head):
    """Tell whether a head begins at the probe: a linear one that the recipe describes, unless it says otherwise.

    Args:
        head: The recipe's `HeadTable`.
    """
    usual = not (head.hidden or head.custom or head.original)
    return head.init == "probe" and head.logits == "linear" and usual


def _epochs(total_steps, steps_per_epoch, bounds):
    lowest, highest = bounds
    return max(lowest, min(highest, math.ceil(total_steps / steps_per_epoch)))


def resolve_stage(stage):
    """Return a stage with the factor and the epochs of its schedule, and its weight decay, filled in."""
    decay, epochs, weight_decay = stage.decay, stage.decay_epochs, stage.weight_decay
    if decay == "auto":
        decay = DECAYS.get(stage.schedule, 0.1)
    if epochs == "auto":
        given = {"exponential": EXPONENTIAL_EPOCHS, "plateau": PLATEAU_EPOCHS}
        epochs = given.get(stage.schedule, math.ceil(stage.epochs / STEPS_DOWN))
    if weight_decay == "auto":
        weight_decay = ADAMW_DECAY if stage.optimizer == "adamw" else 0.0
    return stage.model_copy(update={"decay": decay, "decay_epochs": epochs, "weight_decay": weight_decay})


def resolve_views(recipe, kinds):
    """Return a recipe with `data.fit` and `data.augment` filled in.

    Labels of the whole image (how many of something, what is anywhere in it) are not those of a crop. On 205 blood
    smears the difference could not be told from chance: error of the cell count 3.01 without crops, 2.96 with.

    Args:
        recipe: `Recipe`.
        kinds: Kinds of its tasks.
    """
    whole = bool({"multilabel", "regression"} & set(kinds))
    chosen = {"fit": "squash" if whole else "crop", "augment": "mirror" if whole else "light"}
    table = recipe.data.model_copy(
        update={key: of for key, of in chosen.items() if getattr(recipe.data, key) == "auto"}
    )
    return recipe.model_copy(update={"data": table})


def choose_tta(choice, num_images):
    """Choose the test-time views whose worth is measured when a run ends.

    Args:
        choice: As the recipe's `evaluation.tta`.
        num_images: Number of test and validation images.
    """
    if choice != "auto":
        return choice
    return "flip" if num_images <= MEASURE_VIEWS else "none"


def most_imbalanced(counts):
    """Return the name and the ratio of the task whose most frequent class is the most times its rarest; or None, 0.

    Args:
        counts: Dict of single-label task to int array: training images of each class.
    """
    ratios = {name: values.max() / max(1, values.min()) for name, values in counts.items()}
    return max(ratios.items(), key=lambda item: item[1], default=(None, 0.0))


def choose_imbalance(choice, counts):
    """Choose what is done about rare classes.

    Args:
        choice: As the recipe's `loss.imbalance`.
        counts: Dict of single-label task to int array: training images of each class.

    Returns:
        `(choice, line)`: what is done, and a line that says so and why, or None where there is nothing to say.
    """
    worst, ratio = most_imbalanced(counts)
    if ratio < IMBALANCED:
        return ("none" if choice == "auto" else choice), None
    most, least = counts[worst].max(), counts[worst].min()
    of_task = f" of {worst}" if len(counts) > 1 else ""
    found = f"imbalance{of_task}: {most:,} images of the most frequent class, {least:,} of the rarest"
    if choice == "auto":
        return "class_weights", (
            f"{found}: rare classes weigh more in the loss, since from {IMBALANCED:g} to 1 on they would be neglected "
            "(loss.imbalance=none|balanced_sampling|focal for something else)"
        )
    return choice, f"{found}: {_REMEDIES[choice]}"


_REMEDIES = {
    "none": "nothing is done about it, as asked",
    "class_weights": "rare classes weigh more in the loss, as asked",
    "balanced_sampling": "every class is drawn equally often, as asked",
    "focal": "what is right already counts less in the loss, as asked",
}


def class_weights(counts):
    """Return the weight of each class in the loss: inversely proportional to its images, of mean 1 over the images.

    Args:
        counts: int `(classes,)`: training images of each class.

    Returns:
        float32 `(classes,)`; 0 for a class without images.
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, weights, 0.0).astype(np.float32)


def beats(candidate, incumbent):
    """Tell whether a candidate's validation losses are lower by more than chance makes likely.

    Args:
        candidate, incumbent: float `(images,)`: the loss of the same images under each.

    Returns:
        `(beats, difference, standard_error)`: the mean of candidate minus incumbent, and its standard error.
    """
    differences = np.asarray(candidate, np.float64) - np.asarray(incumbent, np.float64)
    error = float(differences.std(ddof=1) / math.sqrt(len(differences))) if len(differences) > 1 else 0.0
    difference = float(differences.mean())
    return difference < -STANDARD_ERRORS * error, difference, error
