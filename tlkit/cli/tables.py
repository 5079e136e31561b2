"""Tables on stdout."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_OF_A_PIPE = 10_000


def print_table(header, rows):
    """Print a table without frames on stdout; columns whose cells are all numbers are set to the right.

    On a terminal long cells are folded to its width; a pipe gets every row on one line.

    Args:
        header: Column titles.
        rows: Tuples of cells, shown with `str`.
    """
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, title in enumerate(header):
        numeric = bool(rows) and all(_is_number(row[position]) for row in rows)
        drawn.add_column(title, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))  # Text: a path with brackets is no markup
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_PIPE
    console.print(drawn)


def _is_number(cell):
    try:
        float(str(cell).replace(",", ""))
    except ValueError:
        return False
    return True
