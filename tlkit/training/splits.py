"""Batches that don't fit into memory whole: from which step on they are computed in how many parts."""

import math

from tlkit.recipe_keys import Split

PROBE_STAGE = -1  # the stage before the first
_LAYERS = {"training": "the layers that train", "frozen": "layers in inference mode"}


class Splits:
    """How many images are computed at once, now and from then on.

    A batch stays what it is: the gradients of its parts are added up before the step. So the stream of images, the
    schedule, mixing and the weights of classes know nothing of parts.

    Args:
        batch_size: Images in a full batch.
        entries: List of `Split`.
        record: Called with the list of all entries after one was added, before anything comes of it.
    """

    def __init__(self, batch_size, entries=(), record=None):
        self._batch_size, self.entries, self._record = batch_size, list(entries), record

    def rows(self, what, stage, step=0):
        """Return how many images are computed at once.

        Args:
            what: `"training"`: layers of a stage while they are stepped and validated; such an entry is for its own
                stage. `"frozen"`: layers in inference mode; such an entry is for all that comes after it.
            stage, step: When; steps are those of the stage.
        """
        parts = [entry.parts for entry in self.entries if entry.what == what and self._holds(entry, stage, step)]
        return math.ceil(self._batch_size / max(parts, default=1))

    def begin(self, stage, step):
        """Tell whether an entry begins at a step, so that what was built for the step before it no longer serves."""
        return any((entry.stage, entry.step) == (stage, step) for entry in self.entries)

    def halve(self, full, stage, step, trains_norms=False):
        """Compute half as many images at once from a step on; return one line that says so.

        Args:
            full: The `OutOfMemoryError` that asks for it.
            stage, step: When.
            trains_norms: Whether BatchNorm trains, whose statistics are those of a part.

        Raises:
            OutOfMemoryError: If it was one image already.
        """
        if self.rows(full.what, stage, step) == 1:
            raise full
        held = (entry.parts for entry in self.entries if entry.what == full.what and self._holds(entry, stage, step))
        entry = Split(what=full.what, stage=stage, step=step, parts=2 * max(held, default=1))
        place = (entry.what, stage, step)
        self.entries = [*(one for one in self.entries if (one.what, one.stage, one.step) != place), entry]
        if self._record:
            self._record(self.entries)
        return self._describe(entry, trains_norms)

    def _describe(self, entry, trains_norms):
        images = self.rows(entry.what, entry.stage, entry.step)
        when = f"from step {entry.step} of stage {entry.stage} on"
        when = "from the probe on" if entry.stage == PROBE_STAGE else when
        line = f"out of memory: {when}, {_LAYERS[entry.what]} compute {images} of {self._batch_size} images at once"
        if entry.what == "training":
            line += ", gradients added up, so that a step is still that of the whole batch"
            line += f"; BatchNorm that trains takes its statistics from {images} images" if trains_norms else ""
        return f"{line} (training.splits)"

    @staticmethod
    def _holds(entry, stage, step):
        if entry.what == "training" and entry.stage != stage:
            return False
        return (entry.stage, entry.step) <= (stage, step)
