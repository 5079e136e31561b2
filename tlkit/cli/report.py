"""`tlkit report`: one page on a run, or on several side by side."""

from pathlib import Path

import click

from tlkit.errors import RunError, TlkitError

DEFAULT_OUT = "report-compare.html"


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--out", metavar="FILE.html", help=f"The page of several runs. Default: {DEFAULT_OUT}.")
def report(runs, out):
    """Write the report of RUN, a run folder, anew; of several runs, a page that puts them side by side."""
    from tlkit import run as run_folder

    paths = [run_folder.find_complete_run(run) for run in runs]  # fails here, before anything is loaded
    if len(paths) == 1 and out:
        raise TlkitError(f"--out: a run's report lies in its folder, {paths[0] / run_folder.REPORT}. Leave out --out.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise RunError(f"{', '.join(runs)}: a run is named twice. Name each once.")
    if len(paths) > 1:
        out = _free(out or DEFAULT_OUT)
    from tlkit.cli.screen import Screen

    with Screen() as screen:
        from tlkit.api.report import report_runs

        page = report_runs(paths, out=out, listener=screen)
    click.echo(f"report: {page}")


def _free(out):
    """Return the path of a page that can be written."""
    path = Path(out)
    if path.suffix.lower() not in {".html", ".htm"}:
        raise TlkitError(f"--out {out}: expected the name of an HTML file, such as {DEFAULT_OUT}.")
    if path.exists():
        raise TlkitError(f"--out {out}: exists already. Delete it, or give another name.")
    if not path.parent.is_dir():
        raise TlkitError(f"--out {out}: no such folder as {path.parent}. Make it, or give another name.")
    return path
