"""Tables for a console: names fold where it is narrow, numbers are never cut."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from paperloop.errors import printable

__all__ = ["show"]

#: Names are folded down to this many cells.
NARROWEST = 10


def show(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, labels: int = 1, title: str = "", caption: str = ""
) -> None:
    """Print a table; where not even the numbers have room, its lines are longer than the console.

    Args:
        headings: of the columns.
        rows: their cells.
        labels: so many columns at the left hold names, which may be folded.
        title: above the table.
        caption: below it.
    """
    least = [NARROWEST] * labels
    least += [
        max(cell_len(printable(text)) for text in (heading, *cells))
        for heading, *cells in zip(headings, *rows, strict=True)
    ][labels:]
    table = Table(
        *(
            Column(printable(heading), overflow="fold", min_width=width) if number < labels
            else Column(printable(heading), justify="right", no_wrap=True, min_width=width)
            for number, (heading, width) in enumerate(zip(headings, least, strict=True))
        ),
        title=printable(title) or None,
        caption=printable(caption) or None,
    )  # fmt: skip
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(markup=False, highlight=False)  # a name may hold brackets
    console.width = max(console.width, sum(least) + 3 * len(least) + 1)  # a space on both sides, and lines between
    console.print(table)
