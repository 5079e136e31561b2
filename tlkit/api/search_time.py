"""A search within a given time: how many runs are compared at its end, when its trials end, what more would buy."""

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
        seeds: Runs of either that there is time for.
        nested: Whether there is time for folds.
    """

    search: Trials
    budget: Budget | None
    asked: int
    workers: int = 1
    nested: bool = False

    def __post_init__(self):
        self.seeds = self.asked

    def plan(self, own_seconds, listener):
        """Decide how many seeds there is time for, whether there are folds, and when the last trial has to be over.

        Args:
            own_seconds: What the trial of the recipe's own settings took, its features included.
            listener: `Listener` for notes.
        """
        if self.budget is None:
            return
        left = self.budget.left - self.search.seconds / self.workers - LAST  # what it took before a kill counts, too
        pair = 2 * MARGIN * (own_seconds + REPORT_SECONDS)
        self.seeds = self.search.decide("seeds", min(self.asked, max(0, int(COMPARED_SHARE * left / pair))))
        if self.seeds < self.asked:
            some = f"{self.seeds or 'no'} seed{'s' if self.seeds > 1 else ''}"
            listener.note(f"time for {some} of the {self.asked} asked for")
        left -= self.seeds * pair
        if self.nested:
            of_one = left / (FOLDS + 1) / MARGIN
            self.nested = self.search.decide("nested", of_one >= LEAST_TRIALS * own_seconds * MARGIN / self.workers)
            if self.nested:
                left = of_one
            else:
                listener.note("no time for nested cross-validation")
        self.search.until = time.monotonic() + left

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
