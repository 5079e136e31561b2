"""Which settings to try next: keras-tuner's oracles, without their files, made a function of seed and answers."""

import warnings
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from tlkit.search.space import hyperparameters, settings_of

ORACLES = ("random", "bayesian", "hyperband")
OBJECTIVE = "score"
WAIT = "wait"  # the next question hangs on answers that are still out


class Proposal(NamedTuple):
    """A trial to make.

    Attributes:
        number: From 0.
        settings: Dict of recipe key to value.
        epochs: Of the last stage, where the oracle says; else None.
    """

    number: int
    settings: dict
    epochs: int | None = None


class Oracle:
    """Proposes trials. The same questions and answers in the same order give the same proposals in any process.

    Args:
        kind: One of `ORACLES`.
        ranges: Dict of recipe key to `Span` or list of values.
        trials: Most trials; Hyperband may have fewer in store.
        seed: Whole number.
        epochs: For Hyperband: of the last stage of a trial that goes all the way.

    Reference:
        Bergstra & Bengio 2012, https://www.jmlr.org/papers/v13/bergstra12a.html (random); Snoek, Larochelle & Adams
        2012, https://arxiv.org/abs/1206.2944 (Bayesian); Li et al. 2017, https://arxiv.org/abs/1603.06560 (Hyperband).
    """

    def __init__(self, kind, ranges, trials, seed, epochs):
        self._ranges, self._trials = ranges, trials
        self._oracle = _make(kind, hyperparameters(ranges), trials, seed, epochs)

    def ask(self):
        """Return the next `Proposal`, `WAIT`, or None if there is none."""
        number = len(self._oracle.trials)
        if number >= self._trials:
            return None
        # One thread: on small matrices more would only wait, and the last bits differ. The warnings are of the Gaussian
        # process, whose scales reach the ends of their ranges where a key does nothing.
        with threadpool_limits(1, "blas"), warnings.catch_warnings(action="ignore"):
            trial = self._oracle.create_trial(f"worker of trial {number}")
        if trial.status == "IDLE":
            return WAIT
        if trial.status != "RUNNING":
            return None
        values = trial.hyperparameters.values
        return Proposal(number, settings_of(self._ranges, values), values.get("tuner/epochs"))

    def tell(self, number, score):
        """Take the score of a trial; high is good. A trial that failed is told as bad as the worst."""
        trial_id = list(self._oracle.trials)[number]
        if score is None:
            scores = [trial.score for trial in self._oracle.trials.values() if trial.score is not None]
            score = min(scores, default=0.0)
        self._oracle.update_trial(trial_id, {OBJECTIVE: score})
        trial = self._oracle.trials[trial_id]
        trial.status = "COMPLETED"
        self._oracle.end_trial(trial)


def _make(kind, space, trials, seed, epochs):
    import keras_tuner

    classes = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        "hyperband": keras_tuner.oracles.HyperbandOracle,
    }

    class Unwritten(classes[kind]):
        """The oracle as it is, but for files: its own are not written atomically, and the journal has all of it."""

        def save(self, *_):
            pass

        def _save_trial(self, trial):
            pass

    shared = {"objective": keras_tuner.Objective(OBJECTIVE, "max"), "hyperparameters": space, "seed": seed + 1}
    shared |= {"allow_new_entries": False, "tune_new_entries": False}
    own = {"max_epochs": epochs} if kind == "hyperband" else {"max_trials": trials}
    if kind == "bayesian":  # three random ones for each key, as is its default, would leave few to choose
        own["num_initial_points"] = max(3, min(3 * len(space.space), trials // 3))
    oracle = Unwritten(**shared, **own)
    oracle.verbose = 0
    return oracle
