"""What a user can get wrong, said in one line: where, what was expected, what was received, what to do."""

import difflib
import errno
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


class LostImageError(DataError):
    """An image that could be read when the data were checked, and no longer can."""


class NoLabelError(DataError):
    """Images none of which has a label."""


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


_REMEDIES = {
    errno.ENOSPC: "Free some space there",
    errno.EDQUOT: "Free some of your quota there",
    errno.EFBIG: "Raise the limit on file sizes",
    errno.EROFS: "Make the place writable",
    errno.EACCES: "Make the place writable",
    errno.EPERM: "Make the place writable",
    errno.EIO: "Have the disk looked at",
}


class WriteError(RunError, OSError):
    """A file that the system refuses to write; also an `OSError`, for whoever can do without the file.

    Args:
        path: What was to be written; nothing of it is left half written.
        error: The system's `OSError`.
        resume: What to type to go on, once that is mended; None where there is nothing to go on with.
    """

    def __init__(self, path, error, resume=None):
        why = error.strerror or str(error)
        then = f"then go on: {resume}" if resume else "then try again."
        super().__init__(f"{path}: can't be written: {why}. {_REMEDIES.get(error.errno, 'Mend that')}, {then}")
        self.path, self.errno, self.strerror = path, error.errno, why

    def __str__(self):
        return self.args[0]  # not what an `OSError` makes of its number

    def resumed_by(self, command):
        """Return the error that names what to type to go on."""
        return WriteError(self.path, self, command)


class OutOfMemoryError(TlkitError):
    """The device, or the computer, that ran out of memory.

    Args:
        what: `"training"` for layers that train, while they are stepped or validated; `"frozen"` for layers in
            inference mode.
        images: Number of images that were computed at once.

    Attributes:
        what: As given.
    """

    def __init__(self, what, images):
        self.what, self._images = what, images
        unit = "image" if images == 1 else "images"
        cure = "a smaller image_size" if images == 1 else "a smaller batch_size or image_size"
        if what == "training":
            cure += ", or fewer unfrozen blocks"
        super().__init__(
            f"out of memory with {images} {unit} at once. Try {cure}, or free some of the device's memory."
        )

    def bare(self):
        """Return the error without its traceback and context, which hold on to what fills the memory."""
        return type(self)(self.what, self._images)


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
