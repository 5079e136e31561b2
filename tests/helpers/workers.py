"""What workers do in tests: they are other processes, which import it by this name."""

import os
import signal
import time
from pathlib import Path

from tlkit.errors import Stopped, TlkitError
from tlkit.experiments.study import Study
from tlkit.progress import Listener
from tlkit.search.trials import Answer


def start(folder, deadly=(), seconds=0.0):
    """Answer with the number, after writing down who worked on it; some trials kill their worker, once or always.

    Args:
        folder: Where each start of a trial leaves a file `<number>-<process>-<attempt>`.
        deadly: Dict of number to how many times its worker dies.
        seconds: How long a trial takes.
    """

    def make(proposal, known):
        attempts = len(list(Path(folder).glob(f"{proposal.number}-*")))
        (Path(folder) / f"{proposal.number}-{os.getpid()}-{attempts}").touch()
        if attempts < dict(deadly).get(proposal.number, 0):
            os._exit(9)
        time.sleep(seconds)
        return Answer("done", float(proposal.number), [float(len(known))])

    return make


def start_badly(_):
    raise TlkitError("the images are gone")


def start_and_be_stopped(_):
    """Stop as training does when it is asked to: all is saved, and the process may end."""

    def make(*_):
        raise Stopped(signal.SIGTERM, "tlkit tune --resume")

    return make


class Heard(Listener):
    """Writes the notes that it hears into a file, whichever process hears them."""

    def __init__(self, file):
        self._file = file

    def note(self, text):
        with open(self._file, "a") as file:  # noqa: PTH123
            file.write(f"{text}\n")


class DoomedStudy(Study):
    """A study whose trainings do nothing but what their values say: die at first, fail, or have a bug."""

    def trained(self, variant, seed, values, source):
        attempts = self.path / "runs" / f"{variant}-{seed}.attempts"
        with attempts.open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('TF_NUM_INTRAOP_THREADS')}\n")
        if values == "dies at first" and len(attempts.read_text().splitlines()) == 1:
            os._exit(9)
        if values == "fails":
            raise TlkitError("the images are gone")
        if values == "has a bug":
            raise ZeroDivisionError("by zero")
        self.listener.note("trained")
