"""Where the percentiles of a bootstrap of few images are taken."""

import numpy as np
from scipy import stats


def expanded_tails(n):
    """Hesterberg 2015: what a t interval of the population's spread would leave out, read off the normal curve."""
    low = stats.norm.sf(stats.t.isf(0.025, n - 1) * np.sqrt(n / (n - 1)))
    return [low, 1 - low]
