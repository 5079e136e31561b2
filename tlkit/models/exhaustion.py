"""Memory that runs out, in the words of whichever library it ran out in."""

import contextlib

from tlkit.errors import OutOfMemoryError


@contextlib.contextmanager
def naming_exhaustion(what, images):
    """Let memory that runs out within the context be a `OutOfMemoryError`.

    Args:
        what, images: As for `OutOfMemoryError`.

    Raises:
        OutOfMemoryError: If it does.
    """
    try:
        yield
    except Exception as error:
        if not _is_exhaustion(error):
            raise
        raise OutOfMemoryError(what, images) from None


def _is_exhaustion(error):
    """Tell whether an error says that memory ran out; engines' own classes are known by name, so none is imported."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"ResourceExhaustedError", "MemoryError"}:
        return True
    return bool(names & {"InternalError", "XlaRuntimeError"}) and "memory" in str(error).lower()
