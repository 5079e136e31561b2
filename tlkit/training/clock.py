"""Time in a training: how long its stages take, and when it has to come to its end."""

import math
import time


class Deadline:
    """The moment at which a training ends with what is best by then.

    Args:
        at: That moment, on the clock of `time.monotonic`; also an attribute.
        record: Called once, before anything comes of it, with the list of `Stage` whose `stop_after` says where the
            training ends: whoever trains by these ends in the same place, however long it takes.
    """

    def __init__(self, at=math.inf, record=None):
        self.at, self._record = at, record

    def is_over(self):
        """Tell whether the moment has come."""
        return time.monotonic() >= self.at

    def cut(self, stages, number, epochs):
        """End a training in stage `number` after so many of its epochs; return all stages, as recorded."""
        cut = [
            stage if place < number else stage.model_copy(update={"stop_after": epochs if place == number else 0})
            for place, stage in enumerate(stages)
        ]
        if self._record:
            self._record(cut)
        self.at = math.inf
        return cut


class StageClock:
    """Adds to the state how long its stage has taken, over however many processes."""

    def __init__(self, state):
        self._state, self._last = state, time.monotonic()
        while len(state.stage_seconds) <= state.stage:
            state.stage_seconds.append(0.0)

    def tick(self):
        now = time.monotonic()
        self._state.stage_seconds[-1] += now - self._last
        self._last = now
