"""Reports: that of a run as its last step, and those of runs that are complete."""

from pathlib import Path

from tlkit import run as run_folder
from tlkit.errors import TlkitError
from tlkit.progress import Listener


def report_runs(runs, *, out=None, listener=None):
    """Write the report of a run anew, or a page that puts several runs side by side.

    Args:
        runs: Folders of complete runs.
        out: File of the page of several runs; it must not exist.
        listener: `Listener` for notes.

    Returns:
        `pathlib.Path` of the page.

    Raises:
        RunError: If a run isn't complete.
        TlkitError: If the page can't be written where it is asked for.
    """
    listener = listener or Listener()
    if len(runs) == 1:
        from tlkit.delivery.report import write_report

        with run_folder.reading(runs[0]):
            return write_report(runs[0], read_model=_reader(listener), listener=listener)
    from tlkit.delivery.side_by_side import write_side_by_side

    try:
        with run_folder.reading(", ".join(map(str, runs))):
            return write_side_by_side(runs, out)
    except OSError as error:
        raise TlkitError(f"--out {out}: can't write it: {error.strerror}. Choose another file.") from None


def report_job(job):
    """Write the report of a run that has its metrics; what goes wrong is said, and costs the run nothing.

    Args:
        job: The `Job`, its model trained. The runs of folds have no report of their own: the run that ships has.
    """
    if job.path != job.resume_path:
        return
    from tlkit.delivery.report import write_report

    own, read = job.path.resolve(), _reader(job.listener)
    try:
        write_report(
            job.path,
            data=job.data,
            read_model=lambda path: job.model if path == own else read(path),
            listener=job.listener,
        )
    except Exception as error:  # a page is not worth a run
        job.listener.note(
            f"no report: {type(error).__name__}: {error}. The run is complete all the same; "
            f"`tlkit report {job.path}` tries again."
        )


def _reader(listener):
    """Return a function of a run folder to its model."""

    def read(path):
        listener.engine_needed()
        from tlkit.models.reader import read_model

        return read_model(Path(path) / run_folder.MODEL)

    return read
