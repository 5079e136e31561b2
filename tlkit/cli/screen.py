"""What the command line shows while it works: notes and progress bars, on stderr."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tlkit.cli.engine import load_engine
from tlkit.progress import Listener

MEGABYTE = 10**6

console = Console(stderr=True, highlight=False, soft_wrap=True)


class Screen(Listener):
    """Draws a run on stderr: one line a note, one bar at a time; on a file or a pipe, plain lines and no bars."""

    def __init__(self):
        self._bar = self._task = None
        self._epochs = 0
        self._stage = ("", 0, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._close()

    def __reduce__(self):
        return Screen, ()  # in a worker, that is; a bar stays where it is drawn

    def note(self, text):
        self._print(text)

    def engine_needed(self):
        load_engine()

    def bytes_received(self, done, total, what):
        self._draw(f"{what}, MB", done // MEGABYTE, max(total, done + MEGABYTE * (not total)) // MEGABYTE)

    def files_checked(self, done, total):
        self._draw("checking files", done, total)

    def stage_started(self, number, stages, total_steps, done_steps):
        self._close()
        self._epochs = stages[number].epochs
        if done_steps:
            self._print(f"stage {number}: resumed at step {done_steps} of {total_steps}")
        self._stage = (f"stage {number}", done_steps, total_steps)

    def features_computed(self, done, total, what):
        self._draw(f"feature pass, {what}", done, total)

    def step_done(self, loss):
        what, done, total = self._stage
        self._stage = (what, done + 1, total)
        self._draw(*self._stage)

    def epoch_done(self, row, is_best):
        mark = "  best so far" if is_best else ""
        self._print(
            f"stage {row['stage']} epoch {row['epoch'] + 1:>2}/{self._epochs}  loss {row['loss']:.3f}  "
            f"accuracy {row['accuracy']:.3f}  "
            f"val loss {row['val_loss']:.3f}  val accuracy {row['val_accuracy']:.3f}{mark}"
        )

    def stage_finished(self):
        self._close()

    def images_predicted(self, done, total, what):
        self._draw(f"predicting {what}", done, total)

    def rate_tried(self, done, total):
        self._draw("trying learning rates", done, total)

    def _print(self, text):
        (self._bar.console if self._bar else console).print(text, markup=False)

    def _draw(self, what, done, total):
        """Show the bar of `what`, closing another's; the last step closes it."""
        if not console.is_terminal:
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task(what, total=total)
            self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total)
        if done >= total:
            self._close()

    def _close(self):
        if self._bar:
            self._bar.stop()
            self._bar = self._task = None
