"""The learning-rate range test: which rates make a stage's loss fall."""

import math
from dataclasses import dataclass

LOWEST, HIGHEST = 1e-7, 1.0
SMOOTHING = 0.9  # share of the past in the mean loss
DIVERGED = 2.0  # of the first mean loss, so much above the lowest one the test ends
FALLS = 0.95  # of what it begins with, below which the loss must come for a rate to be suggested
MARGIN = 10.0  # the suggestion is so much below the rate of the lowest mean loss


@dataclass(frozen=True)
class RangeTest:
    """Losses at rising learning rates.

    Attributes:
        rates: List of the learning rates, one a step, each the same factor above the one before.
        losses: List of the mean losses up to that step, in which each earlier one counts 0.9 of the next.
        diverged: Whether the test ended because the loss had grown far beyond what it was.
    """

    rates: list[float]
    losses: list[float]
    diverged: bool

    @property
    def suggestion(self):
        """A tenth of the rate at which the mean loss was lowest; None where it never falls clearly."""
        first = len(self.losses) // 5
        if not first or min(self.losses) > FALLS * min(self.losses[:first]):
            return None
        return self.rates[min(range(len(self.losses)), key=self.losses.__getitem__)] / MARGIN


def range_test(trainer, batches, steps):
    """Train on batches while the learning rate rises exponentially; stop where the loss explodes.

    Args:
        trainer: `tlkit.training.stage.StageTrainer`; the model is trained in place.
        batches: Iterator of `tlkit.training.features.Batch`.
        steps: Number of steps from 1e-7 to 1, at least 2.

    Yields:
        `RangeTest` so far, after every step.

    Reference:
        Smith 2015, https://arxiv.org/abs/1506.01186, section 3.3.
    """
    rates, losses, mean = [], [], 0.0
    for step, batch in zip(range(steps), batches, strict=False):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))
        loss, _ = trainer.train_step(batch, step, rate=rate)
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smooth = mean / (1 - SMOOTHING ** (step + 1))
        far = DIVERGED * abs(losses[0]) if losses else math.inf
        diverged = not math.isfinite(smooth) or smooth > min(losses, default=smooth) + far
        if not diverged:
            rates.append(rate)
            losses.append(smooth)
        yield RangeTest(list(rates), list(losses), diverged)
        if diverged:
            return
