"""The bookkeeping of a search: what was asked and answered, what is still out, which trial is hopeless."""

import math
import statistics
import time
from dataclasses import dataclass, field

from tlkit.errors import RunError
from tlkit.search.oracles import Proposal

DONE, PRUNED, FAILED = "done", "pruned", "failed"
LEAST_CURVES = 5  # trials that must have come as far before one is measured against them
LEAST_SHARE = 1 / 3  # of its epochs that a trial is given in any case


@dataclass(frozen=True)
class Answer:
    """What came of a trial.

    Attributes:
        status: `"done"`, `"pruned"` or `"failed"`.
        score: The validation figure that is to be high; None where it failed.
        curve: The best score up to each epoch, from the first on.
        seconds: How long it took.
        reason: Why it was pruned or failed, in a line.
    """

    status: str
    score: float | None
    curve: list = field(default_factory=list)
    seconds: float = 0.0
    reason: str = ""


class Trials:
    """A search that can be left at any moment and taken up again.

    Args:
        oracle: `tlkit.search.oracles.Oracle`, fresh.
        journal: `tlkit.search.journal.Journal`: what it holds has happened.

    Attributes:
        proposals: Dict of number to `Proposal`, of all that was asked.
        answers: Dict of number to `Answer`, in the order in which they came.
        until: When the last trial has to be over, on the clock of `time.monotonic`; no other is begun that would take
            longer, as trials usually do.
        expected: Seconds that the first trial is taken to need.
        most: Trials to ask for, at most; the oracle may have been made for more.

    Raises:
        RunError: If the oracle proposes something else than it did.
    """

    def __init__(self, oracle, journal):
        self._oracle, self._journal = oracle, journal
        self.proposals, self.answers, self._known, self._decided = {}, {}, {}, {}
        self.until, self.expected, self.most, self._over = math.inf, 0.0, math.inf, False
        for line in journal.lines:
            if "told" in line:
                self._take(*_told(line))
            elif isinstance(line.get("decided"), dict):
                self._decided |= line["decided"]
            else:
                self._ask_again(line)
        self._left = [number for number in self.proposals if number not in self.answers]

    def next(self):
        """Return the next `Proposal` to work on: first those that a kill cut short; `WAIT`, or None at the end."""
        if self._left:
            return self.proposals[self._left.pop(0)]
        if self._over or len(self.proposals) >= self.most or self._time_is_up():
            return None
        proposal = self._oracle.ask()
        # Where there is none, too: the oracle has drawn, and goes on from there.
        self._journal.append(**_line(proposal))
        self._open(proposal)
        return proposal

    def decide(self, what, value):
        """Decide something that hangs on the clock for good: return the value, or the one that it got before a kill.

        Args:
            what: Its name.
            value: JSON-able.
        """
        if what not in self._decided:
            self._journal.append(decided={what: value})
            self._decided[what] = value
        return self._decided[what]

    @property
    def seconds(self):
        """What all trials took together."""
        return sum(answer.seconds for answer in self.answers.values())

    def _time_is_up(self):
        seconds = [answer.seconds for answer in self.answers.values()] or [self.expected]
        usual = statistics.median(seconds)
        if time.monotonic() + usual > self.until:
            self.decide("over", True)
        return "over" in self._decided

    def again(self, number):
        """Put a trial back whose worker was lost."""
        self._left.append(number)

    def answer(self, number, answer):
        """Take the `Answer` of a trial; it is on disk when this returns."""
        self._journal.append(told=number, answer=vars(answer))
        self._take(number, answer)

    def known(self, number):
        """Return the curves of the trials that were over when this one was asked for, however fast anything runs."""
        return self._known[number]

    @property
    def best(self):
        """The number of the trial with the highest score; of equal ones the first. None if none has one."""
        scored = {number: answer.score for number, answer in self.answers.items() if answer.status == DONE}
        return min(scored, key=lambda number: (-scored[number], number), default=None)

    def _ask_again(self, line):
        proposal = self._oracle.ask()
        if _line(proposal) != line:
            raise RunError(
                f"the oracle proposes {_line(proposal)}, not {line} as when the search began. Go on with the versions "
                "of keras-tuner and scikit-learn that it began with, or start a new one."
            )
        self._open(proposal)

    def _open(self, proposal):
        self._over = proposal is None
        if isinstance(proposal, Proposal):
            self.proposals[proposal.number] = proposal
            self._known[proposal.number] = [answer.curve for answer in self.answers.values() if answer.status == DONE]

    def _take(self, number, answer):
        self.answers[number] = answer
        self._oracle.tell(number, answer.score)


def _told(line):
    """Return the number of a trial and its `Answer`, as a line of the journal tells them."""
    number, told = line["told"], line.get("answer")
    try:
        answer = Answer(**told)
        scores = [answer.score, *answer.curve] if answer.status == DONE else answer.curve
        sound = all(isinstance(value, int | float) for value in (answer.seconds, *scores)) and type(number) is int
    except (TypeError, ValueError):
        sound = False
    if not sound or answer.status not in (DONE, PRUNED, FAILED):
        raise RunError(
            f"the search's journal tells of trial {str(number)[:20]} what no trial comes to. Start a new one."
        )
    return number, answer


def _line(proposal):
    """Return the journal's line of what the oracle proposed: a trial, to wait, or nothing more."""
    if not isinstance(proposal, Proposal):
        return {"asked": proposal}
    return {"asked": proposal.number, "settings": proposal.settings, "epochs": proposal.epochs}


def is_hopeless(known, curve, epochs):
    """Tell whether a trial's best score so far is below the median of earlier trials at the same epoch.

    Args:
        known: Curves of earlier trials, as from `Trials.known`.
        curve: Its best score up to each epoch.
        epochs: How many it will have.

    Reference:
        Golovin et al. 2017, "Google Vizier", https://doi.org/10.1145/3097983.3098043, section 3.2.2, with the best
        scores in place of running means.
    """
    reached = [other[len(curve) - 1] for other in known if len(other) >= len(curve)]
    if len(reached) < LEAST_CURVES or len(curve) < LEAST_SHARE * epochs or len(curve) >= epochs:
        return False
    return curve[-1] < statistics.median(reached)
