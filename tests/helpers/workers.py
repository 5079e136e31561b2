"""What workers do in tests: they are other processes, which import it by this name."""

import os
import signal
import time
from pathlib import Path

from tlkit.errors import Stopped, TlkitError
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
