"""Which epoch is kept: epochs contend within their stage, and each stage's best with what was best before it."""

from tlkit.training.rules import beats
from tlkit.training.splits import PROBE_STAGE

PROBE = {"stage": PROBE_STAGE, "epoch": 0}  # where the probe stands among the candidates


class Contest:
    """The rules of the contest; who is ahead is in the `TrainingState`.

    Args:
        monitor: `"loss"` or `"accuracy"`: the validation figure that decides.
        patience: Epochs without a better one that end a stage; 0 for never.
    """

    def __init__(self, monitor, patience):
        self._by_loss, self._patience = monitor == "loss", patience

    def score(self, row):
        """Return what is to be highest: the monitored figure, then the other one to break ties."""
        by_loss, by_accuracy = -row["val_loss"], row["val_accuracy"]
        return (by_loss, by_accuracy) if self._by_loss else (by_accuracy, by_loss)

    def figures(self, validation):
        """Return the monitored figure of each validation image, such that low is good."""
        return validation.losses if self._by_loss else 1.0 - validation.scores

    def count_stale(self, state, stage, is_best):
        """Count epochs without a better one; after `decay_epochs` of them a plateau is met."""
        state.stale_epochs = 0 if is_best else state.stale_epochs + 1
        state.stale_since_drop = 0 if is_best else state.stale_since_drop + 1
        if stage.schedule == "plateau" and state.stale_since_drop >= stage.decay_epochs:
            state.drops, state.stale_since_drop = state.drops + 1, 0

    def is_stale(self, state):
        """Tell whether patience is at its end."""
        return bool(self._patience) and state.stale_epochs >= self._patience

    def choose(self, state, listener):
        """Keep what was best so far unless the stage's best beats it on the same validation images."""
        if state.best is None:
            wins, record = True, {}
        else:
            wins, difference, error = beats(state.stage_best_figures[0], state.best_figures[0])
            record = {"difference": difference, "standard_error": error, "against": _name(state.best)}
            figure = "loss" if self._by_loss else "error"
            listener.note(
                f"{_name(state.stage_best)} against {_name(state.best)}, paired on validation: "
                f"{difference:+.3f} ± {error:.3f} {figure}; {'taken' if wins else 'not taken'}"
            )
        candidate = {key: state.stage_best[key] for key in ("stage", "epoch", "val_loss", "val_accuracy")}
        state.selection.append(candidate | record | {"taken": wins})
        if wins:
            state.best, state.best_figures = state.stage_best, state.stage_best_figures
            state.best_variables = state.stage_best_variables

    @staticmethod
    def stage_would_ship(state):
        """Tell whether the stage's best would ship if the training ended now."""
        if state.stage_best is None or state.best is None:
            return state.stage_best is not None
        return beats(state.stage_best_figures[0], state.best_figures[0])[0]


def _name(row):
    return "the probe" if row["stage"] < 0 else f"stage {row['stage']} epoch {row['epoch'] + 1}"
