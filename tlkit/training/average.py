"""Averages of weights: over the steps of a stage, and over its best epochs."""

import keras
import numpy as np

from tlkit.training.variables import as_scalar, in_place, values_of


class MovingAverage:
    """The exponential moving average of some variables.

    After step t (from 0) the average moves by `1 - min(decay, (1 + t) / (10 + t))` of the way to the variables'
    values: early on it would else remember the beginning for `1 / (1 - decay)` steps.

    Args:
        variables: List of `keras.Variable`; those that hold no floats (random generators' states) are left alone.
        decay: In (0, 1).

    Reference:
        Polyak & Juditsky 1992, https://doi.org/10.1137/0330046. The warmup is that of TensorFlow's
        `ExponentialMovingAverage`.
    """

    def __init__(self, variables, decay):
        self._decay = decay
        self._variables = [
            v for v in variables if keras.backend.is_float_dtype(keras.backend.standardize_dtype(v.dtype))
        ]
        # From arrays: a Variable made from another's value shares its memory.
        self.values = [
            keras.Variable(value, trainable=False, dtype=value.dtype.name) for value in values_of(self._variables)
        ]

    def update(self, step):
        """Take the variables' values after a step of the stage, from 0."""
        rest = as_scalar(1.0 - min(self._decay, (1 + step) / (10 + step)))
        for average, variable in zip(self.values, self._variables, strict=True):
            average.assign(average + (variable - average) * rest)

    def in_place(self):
        """Return a context in which the averages are in the variables."""
        return in_place(self._variables, values_of(self.values))


class BestEpochs:
    """The weights of a stage's best epochs, to be averaged.

    Args:
        count: How many are averaged.
        scores: List of what was to be high of those kept so far, changed in place.
        values: List of all their arrays, one epoch's after the other's, changed in place.

    Reference:
        Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, average points of one trajectory.
    """

    def __init__(self, count, scores, values):
        self._count, self._scores, self._values = count, scores, values

    def offer(self, score, arrays):
        """Take an epoch's weights if it is among the best."""
        if len(self._scores) == self._count:
            worst = min(range(self._count), key=self._scores.__getitem__)
            if score <= self._scores[worst]:
                return
            del self._scores[worst], self._values[worst * len(arrays) : (worst + 1) * len(arrays)]
        self._scores.append(score)
        self._values.extend(arrays)

    def average(self):
        """Return the mean of the kept epochs' arrays, or None where there are fewer than two."""
        epochs = len(self._scores)
        if epochs < 2:
            return None
        width = len(self._values) // epochs
        return [_mean(self._values[place::width]) for place in range(width)]

    def forget(self):
        """Begin anew, as a stage does."""
        self._scores.clear()
        self._values.clear()


def _mean(arrays):
    if arrays[0].dtype.kind != "f":
        return arrays[0]  # the state of a random generator
    return np.mean([array.astype(np.float64) for array in arrays], axis=0).astype(arrays[0].dtype)
