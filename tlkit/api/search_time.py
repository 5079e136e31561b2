"""A search within a given time: how many runs are compared at its end, when its trials end, what more would buy."""

import math
import time
from dataclasses import dataclass

from tlkit.api.budgeting import Budget
from tlkit.api.trials import FOLDS
from tlkit.search.budget import MARGIN, REPORT_SECONDS, format_duration
from tlkit.search.trials import Trials

COMPARED_SHARE = 0.5  # of what is left after the recipe's own trial, at most, for the runs that are compared
LEAST_TRIALS = 10  # of each search, with less time there is no nested cross-validation
LAST = 3.0  # seconds for the comparison itself, and until the process has ended


@dataclass
class SearchTime:
    """Divides a search's time between its trials, the folds, and the runs that are compared; without a budget, nothing.

    Args:
        search: `Trials`.
        budget: `Budget` or None.
        asked: Runs of the best and of the recipe's own settings that were asked for.
        workers: Number of processes that make trials.
        nested: Whether the search is to be done in folds, too.

    Attributes:
        nested: Whether there is time for folds.
        seeds: Runs of either settings that were compared.
    """

    search: Trials
    budget: Budget | None
    asked: int
    workers: int = 1
    nested: bool = False

    def __post_init__(self):
        self.seeds, self._end, self._for_folds = self.asked, math.inf, 0.0

    def plan(self, own_seconds, listener):
        """Decide whether there are folds, and when the last trial has to be over.

        Args:
            own_seconds: What the trial of the recipe's own settings took, its features included.
            listener: `Listener` for notes.
        """
        if self.budget is None:
            return
        own_seconds = self.search.decide("own_seconds", own_seconds)
        left = self.budget.left - self.search.seconds / self.workers - LAST  # what it took before a kill counts, too
        self._end = time.monotonic() + left
        left -= min(COMPARED_SHARE * left, self.asked * self._pair(own_seconds))
        if self.nested:
            of_one = left / (FOLDS + 1) / MARGIN
            enough = of_one >= LEAST_TRIALS * own_seconds / self.workers
            self.nested = self.search.decide("nested", bool(enough))
            if self.nested:
                left, self._for_folds = of_one, FOLDS * of_one * MARGIN
            else:
                listener.note("no time for nested cross-validation")
        self.search.expected = own_seconds
        self.search.until = time.monotonic() + left

    def _pair(self, seconds):
        """Return what a run of either settings takes, if the slower of their trials took so many seconds."""
        return 2 * MARGIN * (seconds + REPORT_SECONDS)

    def compared_seeds(self, seconds):
        """Return of how many seeds there is time to compare the runs, when the trials are over.

        Args:
            seconds: What the best trial took.
        """
        if self.budget is not None:
            left = max(0.0, self._end - time.monotonic() - self._for_folds)
            seconds = max(seconds, self.search.decide("own_seconds", seconds))
            self.seeds = self.search.decide("seeds", min(self.asked, int(left / self._pair(seconds))))
        return self.seeds

    def fold_until(self, fold):
        """Return when the trials of a fold have to be over, on the clock of `time.monotonic`."""
        if self.budget is None:
            return math.inf
        now = time.monotonic()
        return now + max(0.0, self._end - now) / (FOLDS - fold) / MARGIN

    def describe(self):
        """Return the entry `budget` of `tuning.json`; None without one."""
        if self.budget is None:
            return None
        scores = [answer.score for answer in self.search.answers.values() if answer.score is not None]
        half = len(scores) // 2
        gained = max(scores) - max(scores[:half]) if half else None
        if gained is None:
            more = "too few trials to say what more would buy"
        elif gained:
            more = f"the later half of the {len(scores)} trials raised the best score by {gained:.4f}: more may, too"
        else:
            more = f"the later half of the {len(scores)} trials bettered nothing: more would buy little"
        if self.seeds < self.asked:
            more += f"; it would also compare {self.asked} seeds instead of {self.seeds}"
        return {"seconds": self.budget.seconds, "used_seconds": round(self.budget.spent, 3), "more_time": more}


def in_words(budget):
    """Return the entry `budget` of `tuning.json` as lines."""
    used, whole = format_duration(budget["used_seconds"]), format_duration(budget["seconds"])
    return [f"budget: {used} of {whole} used", f"more time: {budget['more_time']}"]
