"""Trainings of an experiment side by side, in processes that share the processors: small nets don't use many well."""

import traceback
from dataclasses import replace

from tlkit.errors import TlkitError
from tlkit.progress import EngineOnly
from tlkit.search.oracles import Proposal
from tlkit.search.trials import DONE, FAILED, Answer
from tlkit.search.workers import work_in_processes

BUG = "bug"


def train_side_by_side(study, trainings, workers, threads):
    """Do trainings in processes; stopped or killed, each goes on where it was when it is trained again.

    Args:
        study: `tlkit.experiments.study.Study`; each process has a copy of its listener.
        trainings: List of the arguments of `Study.trained`, as tuples.
        workers: Number of processes.
        threads: Number of threads of each.

    Raises:
        TlkitError: In one line, for whatever ends one of them; the others are stopped and saved.
    """
    work_in_processes(_Queue(trainings), _start, (study,), workers, threads, lambda *_: None)


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
        if answer.status == BUG:
            raise RuntimeError(f"{_name(self._trainings[number])}: a worker met with a bug:\n{answer.reason}")
        if answer.status == FAILED:
            raise TlkitError(f"{_name(self._trainings[number])}: {answer.reason}")


class _Prefixed(EngineOnly):
    """Tells another listener what a training notes, and its epochs, under the training's name."""

    def __init__(self, listener, training):
        super().__init__(listener)
        self._training = _name(training)

    def note(self, text):
        self._listener.note(f"{self._training}: {text}")

    def epoch_done(self, row, is_best):
        figures = f"accuracy {row['accuracy']:.3f}  val accuracy {row['val_accuracy']:.3f}"
        self.note(f"epoch {row['epoch'] + 1:>2}  {figures}")


def _start(study):
    def train(_, training):
        try:
            replace(study, listener=_Prefixed(study.listener, training)).trained(*training)
        except TlkitError as error:
            return Answer(FAILED, None, reason=str(error))
        except Exception:  # a bug, which is to be seen once, and in the process that the user started
            return Answer(BUG, None, reason=traceback.format_exc())
        return Answer(DONE, None)

    return train


def _name(training):
    variant, seed, *_ = training
    return f"{variant}, seed {seed}"
