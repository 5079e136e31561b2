"""Tables on stdout."""

from rich import box
from rich.table import Table
from rich.text import Text


def table(header, rows):
    """Return a rich table without frames; columns whose cells are all numbers are set to the right.

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
    return drawn


def _is_number(cell):
    try:
        float(str(cell).replace(",", ""))
    except ValueError:
        return False
    return True
