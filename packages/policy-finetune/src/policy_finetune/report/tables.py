"""Tables for a console: what matters survives when it is narrow.

Names are folded, headings broken between words, and then the least important columns left out, which the caption says.
Numbers are never cut: where not even the columns that are never left out have room, lines are longer than the console.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from paperloop.errors import printable

__all__ = ["fitted", "show"]

#: Names are folded down to this many cells, not further.
NARROWEST_LABEL = 12


def show(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    labels: int = 1,
    drop: Sequence[str] = (),
    title: str = "",
    caption: str = "",
) -> None:
    """Print a table; see `fitted` for the arguments."""
    table = fitted(headings, rows, Console().width, labels=labels, drop=drop, title=title, caption=caption)
    needed = _total({str(column.header): column.width or 0 for column in table.columns})
    console = Console(width=max(Console().width, needed), markup=False, highlight=False)  # a name may hold brackets
    console.print(table)


def fitted(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    labels: int = 1,
    drop: Sequence[str] = (),
    title: str = "",
    caption: str = "",
) -> Table:
    """Return a table that fits into a width where that is possible.

    Args:
        headings: of the columns.
        rows: their cells.
        width: of the console, in character cells.
        labels: so many columns at the left hold names, which may be folded.
        drop: headings of columns to leave out, in this order, until the others fit.
        title: above the table.
        caption: below it.
    """
    rows = [[printable(cell) for cell in row] for row in rows]  # a name from a file may hold anything
    title, caption = printable(title), printable(caption)
    columns = {heading: [row[i] for row in rows] for i, heading in enumerate(headings)}
    names = set(headings[:labels])
    least = {heading: _least(heading, cells, heading in names) for heading, cells in columns.items()}
    dropped = []
    for heading in drop:
        if _total(least) <= width:
            break
        del columns[heading], least[heading]
        dropped.append(heading)
    if dropped:
        caption = "; ".join(filter(None, [caption, f"left out at this width: {', '.join(dropped)}"]))
    widths = _widen(least, {heading: _widest([heading, *cells]) for heading, cells in columns.items()}, width)
    table = Table(
        *(
            Column(
                heading,
                width=widths[heading],
                overflow="fold",
                justify="left" if heading in names else "right",
            )
            for heading in columns
        ),
        title=title or None,
        caption=caption or None,
    )
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _least(heading: str, cells: Sequence[str], name: bool) -> int:
    """Return the cells that a column needs: names fold, headings break between words, numbers do neither."""
    if name:
        return min(_widest([heading, *cells]), max(NARROWEST_LABEL, cell_len(heading)))
    return max(_widest(heading.split()), _widest(cells))


def _total(widths: Mapping[str, int]) -> int:
    """Return the width of a table, with a space on both sides of each cell and lines between."""
    return sum(widths.values()) + 3 * len(widths) + 1


def _widen(least: Mapping[str, int], natural: Mapping[str, int], width: int) -> dict[str, int]:
    """Share out what is left of a width, to the columns that are narrowest for what they hold."""
    widths = dict(least)
    for _ in range(max(0, width - _total(least))):
        wanting = [heading for heading in widths if widths[heading] < natural[heading]]
        if not wanting:
            break
        widths[min(wanting, key=lambda heading: widths[heading] / natural[heading])] += 1
    return widths
