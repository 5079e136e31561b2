"""A search over one division of the images: trials one after the other, or several at once."""

import time
from dataclasses import dataclass
from pathlib import Path

from tlkit import run as run_folder
from tlkit.api.job import Job
from tlkit.api.trials import Bench, start_bench
from tlkit.progress import Listener
from tlkit.recipe_keys import Recipe
from tlkit.search.oracles import Oracle
from tlkit.search.trials import Trials
from tlkit.search.workers import work_in_processes

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Setup:
    """What the searches of one command share.

    Attributes:
        job: The `Job` of the recipe that is tuned, as from `with_memory`.
        recipe: That `Recipe`, without ranges.
        base: That `Recipe` with explicit stages, whose keys trials set.
        source: As for `tlkit.load_data`.
        oracle, ranges, most, workers: As for `tlkit.api.tuning.tune`, `most` its number of trials.
        path: The command's folder.
        listener: `Listener` for notes.
    """

    job: Job
    recipe: Recipe
    base: Recipe
    source: object
    oracle: str
    ranges: dict
    most: int
    workers: int
    path: Path
    listener: Listener

    def trials(self, journal):
        """Return the `Trials` of a search, as far as its journal says that it has come."""
        oracle = Oracle(self.oracle, self.ranges, self.most, self.base.seed, self.base.stages[-1].epochs)
        return Trials(oracle, journal)


def work(setup, search, path, division, timing=None):
    """Make all trials that are left.

    Args:
        setup: `Setup`.
        search: `Trials`.
        path: The search's folder.
        division: `Division`.
        timing: `tlkit.api.search_time.SearchTime`, told what the recipe's own trial took; None to limit nothing.

    Returns:
        `(own, bench)`: the score of the recipe's own settings, and the `Bench`.
    """
    bench, begun, listener = Bench(setup.job, setup.base, path, division), time.monotonic(), setup.listener
    own = bench.make_own(setup.job.recipe)
    listener.note(f"the recipe's own settings: score {own:.4f}")
    if timing:
        timing.plan(time.monotonic() - begun, listener)
    for number in search.answers:  # a kill may have come in between
        bench.finish(number, is_best=number == search.best and search.answers[number].score > own)

    def say(proposal, answer):
        bench.finish(proposal.number, is_best=search.best == proposal.number and answer.score > own)
        listener.note(_describe(proposal, answer))

    if setup.workers > 1:
        threads = max(1, run_folder.usable_cpus() // setup.workers)
        arguments = (setup.base, setup.source, setup.job.cache_size, path, division, listener)
        work_in_processes(search, start_bench, arguments, setup.workers, threads, say)
        return own, bench
    while (proposal := search.next()) is not None:
        answer = bench.make(proposal, search.known(proposal.number))
        search.answer(proposal.number, answer)
        say(proposal, answer)
    return own, bench


def _describe(proposal, answer):
    score = "" if answer.score is None else f"  score {answer.score:.4f}"
    reason = f" ({answer.reason})" if answer.reason else ""
    return f"trial {proposal.number + 1:>3}{score}  {answer.seconds:.1f} s  {answer.status}{reason}"
