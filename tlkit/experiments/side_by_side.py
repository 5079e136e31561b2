"""Trainings of an experiment side by side: small nets leave most of a machine idle, so several share it."""

from dataclasses import replace

from tlkit.errors import TlkitError
from tlkit.progress import EngineOnly
from tlkit.run import usable_cpus
from tlkit.search.oracles import Proposal
from tlkit.search.trials import DONE, Answer
from tlkit.search.workers import work_in_processes


def train_side_by_side(study, trainings, workers):
    """Do trainings in processes, each of which has its share of the processors; they can be stopped and gone on with.

    Args:
        study: `tlkit.experiments.study.Study`.
        trainings: List of the arguments of `Study.trained`, as tuples.
        workers: Number of processes.

    Raises:
        TlkitError: In one line, for whatever ends one of them.
    """

    def say(proposal, _):
        variant, seed, *_ = trainings[proposal.number]
        study.listener.note(f"{variant}, seed {seed}: done")

    threads = max(1, usable_cpus() // workers)
    quiet = replace(study, listener=EngineOnly(study.listener))
    work_in_processes(_Queue(trainings), _start, (quiet,), min(workers, len(trainings)), threads, say)


class _Queue:
    """What workers take from: every training once, and again if its worker dies."""

    def __init__(self, trainings):
        self._trainings, self._left = trainings, list(range(len(trainings)))

    def next(self):
        return Proposal(self._left.pop(0), {}) if self._left else None

    def known(self, number):
        return self._trainings[number]

    def again(self, number):
        self._left.append(number)

    def answer(self, number, answer):
        if answer.status != DONE:
            variant, seed, *_ = self._trainings[number]
            raise TlkitError(f"{variant}, seed {seed}: {answer.reason}. Try --workers 1, which shows why.")


def _start(study):
    def train(_, training):
        study.trained(*training)
        return Answer(DONE, None)

    return train
