"""Means and intervals over seeds, as numbers and in words."""

from typing import NamedTuple

import numpy as np

from tlkit.evaluation.bootstrap import student_interval


class Spread(NamedTuple):
    """What several seeds gave.

    Attributes:
        mean, lowest, highest: Of the values.
        low, high: Student's 95 % interval of the mean.
    """

    mean: float
    lowest: float
    highest: float
    low: float
    high: float

    def words(self, digits=1, unit=""):
        """Return the mean with its interval, such as `1.2 points (95 % interval 0.9 to 1.5)`."""
        unit = f" {unit}" if unit else ""
        return (
            f"{self.mean:.{digits}f}{unit} (95 % interval over seeds {self.low:.{digits}f} to {self.high:.{digits}f})"
        )


def spread(values):
    """Return the `Spread` of at least two values, one a seed."""
    values = np.asarray(values, np.float64)
    return Spread(float(values.mean()), float(values.min()), float(values.max()), *student_interval(values))


def judged(difference, what, digits=1, unit="points", aside=""):
    """Say whether a difference is more than chance, in a sentence.

    Args:
        difference: `Spread` of paired differences.
        what: What is larger where it is positive, as the sentence's beginning up to "by".
        digits, unit: As for `Spread.words`.
        aside: What to say where the interval holds zero.
    """
    said = f"{what} by {difference.words(digits, unit)}"
    if difference.low > 0:
        return f"{said}: more than chance over seeds."
    if difference.high < 0:
        return f"{said}: the contrary of the claim, more than chance over seeds."
    return f"{said}: not to be told from nothing with these seeds{aside}."
