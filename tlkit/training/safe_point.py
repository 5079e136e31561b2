"""The last moment at which a training's weights were numbers: what it goes back to when something goes wrong."""

import dataclasses

import numpy as np

from tlkit.errors import TlkitError
from tlkit.training.history import History

SECONDS = {"probe_seconds", "stage_seconds", "pass_seconds"}  # what has been spent stays spent


class SafePoint:
    """A copy of a `TrainingState`, its arrays shared, since none is ever changed in place.

    Args:
        state: The state, its tensors taken from the model at this moment.
    """

    def __init__(self, state):
        self._values = {
            field.name: _copied(getattr(state, field.name))
            for field in dataclasses.fields(state)
            if field.name not in SECONDS
        }

    def restore(self, state):
        """Put the state back to where it was."""
        vars(state).update({name: _copied(value) for name, value in self._values.items()})


def _copied(value):
    return value.copy() if isinstance(value, list | History) else value


class NoNumberError(TlkitError):
    """A training that has left the numbers.

    Args:
        what: What is wrong: `"the loss is nan"`, say.
        state: `TrainingState`: where it is so.
        rate: Learning rate of the stage's last step; None before its first one.
    """

    def __init__(self, what, state, rate):
        where = f"stage {state.stage}, epoch {state.epoch}, step {state.step}"
        if rate is None:
            cure = "No step has been done: look at the images with `tlkit audit --preview`"
            super().__init__(f"{where}: {what}. {cure}, and at the weights that it began with.")
        else:
            super().__init__(
                f"{where}, learning rate {rate:.3g}: {what}. The last good state and the best model so "
                "far stay in the run folder. Try a new run with a tenth of that stage's learning_rate, or with "
                "clip_norm = 1 for it; the run's recipe.toml names both."
            )


def refuse_no_number(what, loss, state, rate):
    """Raise `NoNumberError` if a loss isn't finite."""
    if not np.isfinite(loss):
        raise NoNumberError(f"the {what} is {loss}", state, rate)


def refuse_no_numbers(arrays, state, rate):
    """Raise `NoNumberError` if any of some arrays has an element that isn't finite."""
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NoNumberError("a weight is no number any more", state, rate)
