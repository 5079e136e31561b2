"""Ctrl-C and SIGTERM during training: finish the step, save, then stop."""

import contextlib
import signal
import threading


class StopRequest:
    """Remembers the first stop signal that arrived."""

    def __init__(self):
        self.signal = None

    def _remember(self, number, _frame):
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C does not wait
        self.signal = number


@contextlib.contextmanager
def deferred_signals():
    """Yield a `StopRequest`; inside, SIGINT and SIGTERM only set it. Outside the main thread nothing is deferred."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.signal(number, request._remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
