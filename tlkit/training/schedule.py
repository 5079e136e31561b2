"""Learning rates: pure functions of the step, and what a plateau has seen. No TensorFlow here."""

import math

from tlkit.training.rules import resolve_stage


def learning_rate(stage, step, steps_per_epoch, drops=0):
    """Return the learning rate of the head at one step of a stage.

    Args:
        stage: The `Stage`, its `decay` and `decay_epochs` resolved.
        step: Step of the stage, from 0.
        steps_per_epoch: Batches in an epoch.
        drops: How often a plateau has been met in this stage.

    Returns:
        Float: during warmup a share of the peak that grows with every step, then what the schedule says.

    Reference:
        Cosine: Loshchilov & Hutter 2016, https://arxiv.org/abs/1608.03983, equation 5, one cycle. Warmup: Goyal et al.
        2017, https://arxiv.org/abs/1706.02677, section 2.2.
    """
    total = stage.epochs * steps_per_epoch
    warm = round(stage.warmup * total)
    if step < warm:
        return stage.learning_rate * (step + 1) / warm
    if stage.schedule == "cosine":
        return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
    if stage.schedule == "plateau":
        return stage.learning_rate * stage.decay**drops
    if stage.schedule in {"step", "exponential"}:
        return stage.learning_rate * stage.decay ** (step // steps_per_epoch // stage.decay_epochs)
    return stage.learning_rate


def describe_stage(stage):
    """Return a stage in words, for the screen: `"2 blocks unfrozen, 10 epochs, adam 0.0001, cosine"`."""
    stage = resolve_stage(stage)
    unfrozen = {0: "head only", "all": "all blocks unfrozen", 1: "1 block unfrozen"}
    what = unfrozen.get(stage.unfreeze, f"{stage.unfreeze} blocks unfrozen")
    epochs = f"{stage.epochs} epoch" + ("s" if stage.epochs > 1 else "")
    words = [what, epochs, f"{stage.optimizer} {stage.learning_rate:g}", stage.schedule]
    if stage.schedule in {"step", "exponential", "plateau"}:
        words[-1] += f" x {stage.decay:g} after {stage.decay_epochs}"
    said = {
        f"{stage.block_factor:.2g} of the rate a block down": stage.block_factor < 1,
        f"{stage.warmup:.0%} warmup": stage.warmup,
        f"weight decay {stage.weight_decay:g}": stage.weight_decay,
        f"gradients clipped to {stage.clip_norm:g}": stage.clip_norm,
        f"{stage.accumulate} batches a step": stage.accumulate > 1,
        f"{stage.image_size} pixels": stage.image_size != "full",
    }
    return ", ".join(words + [words for words, is_set in said.items() if is_set])
