"""What a user can get wrong, said in one line: where, what was expected, what was received, what to do."""

import difflib
import signal
from itertools import islice

LONGEST = 200  # characters of a value in a message
MOST_KNOWN = 2000  # names among which a near miss is sought: it takes some 20 microseconds each


class TlkitError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with status 2."""

    def __str__(self):
        return printable(super().__str__())


class RecipeError(TlkitError):
    """A recipe or an override that can't be read or doesn't make sense."""


class DataError(TlkitError):
    """Images, labels or splits that can't be used."""


class WeightsError(TlkitError):
    """Weights that are missing, damaged or made for another net."""


class DownloadError(TlkitError):
    """A file that can't be had from the network, or isn't the one that was meant."""


class ArchiveError(TlkitError):
    """An archive that is damaged, or asks for more than to be unpacked into its folder."""


class Stopped(BaseException):
    """The user or the system asked a run to stop, and its state has been saved.

    Args:
        signal_number: SIGINT or SIGTERM.
        resume: What to type to go on.

    Attributes:
        status: Exit status for the process: 128 plus the signal's number.
    """

    def __init__(self, signal_number, resume):
        super().__init__(f"{signal.Signals(signal_number).name}: stopped and saved. To go on: {resume}")
        self.status = 128 + signal_number

    @classmethod
    def after(cls, interruption, resume):
        """Return what a `KeyboardInterrupt`, a `Terminated` or another `Stopped` comes to for who is to go on."""
        numbers = {Terminated: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}
        return cls(numbers.get(type(interruption)) or interruption.status - 128, resume)


class Terminated(BaseException):
    """SIGTERM arrived."""


class RunError(TlkitError):
    """A run folder that is missing, incomplete, or in use for something else."""


def did_you_mean(received, known):
    """Return `" Did you mean 'x'?"` for the nearest of `known`, or an empty string if none is near."""
    known = [str(name) for name in islice(known, MOST_KNOWN)]
    close = difflib.get_close_matches(str(received)[:LONGEST], known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def printable(text):
    """Return a text with escapes for all that moves a terminal's cursor or breaks the line, as file names may."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown(value):
    """Return what a message shows of a value that may be long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
