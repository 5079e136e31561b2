"""Tables on stdout."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_PIPE = 10_000


def print_table(header, rows, right=(), spare=""):
    """Print a table without frames on stdout; columns whose cells are all numbers are set to the right.

    On a terminal long cells are folded to its width; a pipe gets every row on one line.

    Args:
        header: Column titles.
        rows: Tuples of cells, shown with `str`.
        right: Titles of other columns to set to the right.
        spare: Title of a column that a terminal too narrow for the table does without.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_PIPE
    drawn = _draw(header, rows, right)
    if spare and _width(drawn, console) > console.width:
        drawn = _draw(header, rows, right, tight=True)
    if spare and _width(drawn, console) > console.width:
        kept = [position for position, title in enumerate(header) if title != spare]
        drawn = _draw([header[n] for n in kept], [[row[n] for n in kept] for row in rows], right, tight=True)
    console.print(drawn)


def _draw(header, rows, right, tight=False):
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0) if tight else (0, 1))
    for position, title in enumerate(header):
        numeric = title in right or (bool(rows) and all(_is_number(row[position]) for row in rows))
        drawn.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))  # Text: a path with brackets is no markup
    return drawn


def _width(drawn, console):
    """Return how wide a table would like to be."""
    return console.measure(drawn, options=console.options.update(width=WIDTH_OF_A_PIPE)).maximum


def _is_number(cell):
    try:
        float(str(cell).replace(",", ""))
    except ValueError:
        return False
    return True
