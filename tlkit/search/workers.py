"""Trials in several processes on one machine: each is given out once, and again if its worker dies."""

import contextlib
import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import wait

from tlkit.errors import Stopped, TlkitError
from tlkit.search.oracles import WAIT, Proposal
from tlkit.search.trials import FAILED, Answer

MOST_DEATHS = 3  # of workers over one trial, after which it counts as failed
GRACE_SECONDS = 60  # for a worker that is asked to stop, to save what it has
# What TensorFlow, and the linear algebra of numpy, take for the number of their threads.
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Worker:
    process: multiprocessing.Process
    pipe: object
    proposal: Proposal | None = None


def work_in_processes(search, start, arguments, count, threads, on_answer):
    """Work on a search until it is over, in processes that live as long as it lasts.

    A worker that dies is replaced and its trial given out again. Where this process dies, its workers do.

    Args:
        search: `Trials`.
        start: Function of `arguments`, called once in each worker: returns a function of a `Proposal` and the curves
            known to it that returns an `Answer`. It must be importable by its module's name.
        arguments: Tuple of what can be pickled.
        count: Number of workers.
        threads: Number of threads of each.
        on_answer: Called here with a `Proposal` and its `Answer`, once it is in the journal.

    Raises:
        TlkitError: If a worker can't be started, or meets with what would end every trial.
    """
    pool = _Pool(start, arguments, threads)
    deaths = {}
    try:
        while _give_out(search, pool, count):
            for worker in pool.heard():
                proposal, answer = worker.proposal, pool.answer(worker)
                if answer is None:
                    deaths[proposal.number] = deaths.get(proposal.number, 0) + 1
                    if deaths[proposal.number] < MOST_DEATHS:
                        search.again(proposal.number)
                        continue
                    answer = Answer(FAILED, None, reason=f"its worker died {MOST_DEATHS} times")
                search.answer(proposal.number, answer)
                on_answer(proposal, answer)
    finally:
        pool.stop()


def _give_out(search, pool, count):
    """Give trials to idle workers, starting them as needed; return whether any trial is out."""
    while len(pool.busy()) < count:
        proposal = search.next()
        if not isinstance(proposal, Proposal):
            break
        pool.send(proposal, search.known(proposal.number))
    if proposal is WAIT and not pool.busy():
        raise TlkitError("tune: the oracle waits for answers, and none is out.")
    return bool(pool.busy())


class _Pool:
    """The worker processes: at most as many as were ever busy at once."""

    def __init__(self, start, arguments, threads):
        self._start, self._arguments, self._threads = start, arguments, threads
        self._workers = []

    def busy(self):
        return [worker for worker in self._workers if worker.proposal is not None]

    def send(self, proposal, known):
        """Give a trial to an idle worker, or to a new one."""
        worker = next((worker for worker in self._workers if worker.proposal is None), None) or self._new()
        worker.proposal = proposal
        with contextlib.suppress(OSError):  # it died while it was idle: `heard` finds out
            worker.pipe.send((proposal, known))

    def heard(self):
        """Wait, and return the busy workers that have answered or died."""
        busy = self.busy()
        ready = wait([*(worker.pipe for worker in busy), *(worker.process.sentinel for worker in busy)])
        return [worker for worker in busy if worker.pipe in ready or worker.process.sentinel in ready]

    def answer(self, worker):
        """Return a worker's `Answer`, or None if it died without; it is idle, or gone, afterwards."""
        worker.proposal = None
        try:
            answer = worker.pipe.recv() if worker.pipe.poll() else None
        except (EOFError, OSError):
            answer = None
        if answer is None:
            worker.process.join()
            self._workers.remove(worker)
        if isinstance(answer, str):
            raise TlkitError(f"a worker gave up: {answer}")
        return answer

    def stop(self):
        """Ask the workers to save what they have and to end; kill those that don't."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.proposal is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _new(self):
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may never wake up
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._start, self._arguments), daemon=True)
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(self._threads)))
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]


def _work(pipe, start, arguments):
    """Be a worker: answer what comes through the pipe until it is closed."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the parent says stop
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        make = start(*arguments)
    except TlkitError as error:
        pipe.recv()
        pipe.send(str(error))
        return
    try:
        while True:
            pipe.send(make(*pipe.recv()))
    except TlkitError as error:
        pipe.send(str(error))
    except (EOFError, OSError, KeyboardInterrupt, Stopped):
        pass  # the search is over, or stopped and saved


def _interrupt(_number, _frame):
    raise KeyboardInterrupt


def _die_with_parent():
    """End this process at once when the parent ends, so that no trial is worked on twice."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
