"""What the long work says while it runs; the command line draws it, Python callers may ignore it or listen."""


class Listener:
    """Hears what a run does; every method does nothing here, so that a listener overrides only what it shows."""

    def note(self, text):
        """Take one line worth knowing: a choice that was made, a fault that was met."""

    def engine_needed(self):
        """Take that the next thing done loads TensorFlow, which takes seconds."""

    def bytes_received(self, done, total, what):
        """Take how many bytes of the file `what` have come from the network; `total` is 0 where it is unknown."""

    def files_checked(self, done, total):
        """Take how many of the image files have been checked."""

    def training_resumed(self, probe, history):
        """Take the probe's row, or None, and the rows of `history.csv` of a training that is taken up again."""

    def probe_fitted(self, row):
        """Take the figures of the linear probe, in the columns of `history.csv` that it has."""

    def stage_started(self, number, stages, total_steps, done_steps):
        """Take that stage `number` (from 0) of `stages` begins, with steps already done when it was resumed."""

    def features_computed(self, done, total, what):
        """Take how many of the images whose features are missing have gone through the frozen layers in that view."""

    def step_done(self, loss):
        """Take the loss of one training step."""

    def epoch_done(self, row, is_best):
        """Take the row that the epoch adds to `history.csv`."""

    def stage_finished(self):
        """Take that the stage is over."""

    def images_predicted(self, done, total, what):
        """Take how many of the images of `what` (`"test"`, say) have been predicted."""

    def rate_tried(self, done, total):
        """Take how many of the steps of a learning-rate range test are done."""


class EngineOnly(Listener):
    """Tells another listener only that the engine is about to be loaded."""

    def __init__(self, listener):
        self._listener = listener

    def engine_needed(self):
        self._listener.engine_needed()
