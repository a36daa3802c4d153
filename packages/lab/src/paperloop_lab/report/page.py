"""A report as one HTML page that needs nothing else: no server, and nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from paperloop.errors import printable
from paperloop_lab import plots
from paperloop_lab.report.tables import HEAD, Report, cell, summary

__all__ = ["page"]

KINDS = {".png": "png", ".gif": "gif"}
LARGEST = 16 * 2**20  # bytes of all pictures of one run that go into the page

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { cursor: pointer; border-bottom: 2px solid #888; } th[data-order]::after { content: " " attr(data-order); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption, .note { color: #666; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 1rem; }
"""

# A click on a column's head sorts by it: by number where every cell of it has one, and by text otherwise.
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), column = head.cellIndex, up = head.dataset.order !== "\\u25b2";
  for (const other of table.querySelectorAll("th")) delete other.dataset.order;
  head.dataset.order = up ? "\\u25b2" : "\\u25bc";
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...table.tBodies[0].rows], numbers = rows.every(row => key(row) !== "" && !isNaN(key(row)));
  rows.sort((a, b) => (numbers ? key(a) - key(b) : key(a).localeCompare(key(b))) * (up ? 1 : -1));
  table.tBodies[0].append(...rows);
});
"""


def page(found: Report) -> str:
    """Return a report as HTML: groups, figures, every metric in tables that sort, and the pictures of each run.

    A run's pictures are the PNG and GIF files in its `plots/`, such as levels, episodes and transport plans. They are
    part of the page; what would make it too large is named instead.
    """
    parts = ["<h1>Report</h1>", _table(HEAD, [[(text, None) for text in summary(group)] for group in found.groups])]
    parts += [f"<p class=note>{_text(note)}</p>" for note in found.notes]
    parts += [_pictures(found.figures)]
    what = f"{plots.NAMES[found.statistic].capitalize()} over n agents"
    parts += ["<h2>Last values</h2>", f"<p>{what} [{found.confidence:.0%} stratified bootstrap interval].</p>"]
    for split, names in found.metrics.items():
        rows = []
        for name in names:
            finals = [group.finals.get((split, name)) for group in found.groups]
            cells = [(f"{cell(f)}, n={f.agents}", f.interval.point) if f else ("", None) for f in finals]
            rows.append([(name, None), *cells])
        parts += [f"<h3>{_text(split)}</h3>", _table(("metric", *(group.label for group in found.groups)), rows)]
    drawn = {figure.resolve() for figure in found.figures}
    parts.append("<h2>Runs</h2>")
    for group in found.groups:
        for run in group.runs:
            parts.append(f"<h3>{_text(group.label)}: <code>{_text(str(run.path))}</code></h3>")
            files = sorted(file for file in (run.path / "plots").glob("*") if file.suffix in KINDS)
            parts.append(_pictures(file for file in files if file.resolve() not in drawn))
    head = f'<meta charset="utf-8"><title>Report</title><style>{STYLE}</style>'
    return f"<!doctype html>\n<html lang=en>{head}\n" + "\n".join(parts) + f"\n<script>{SCRIPT}</script></html>\n"


def _text(text: str) -> str:
    return html.escape(printable(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[tuple[str, float | None]]]) -> str:
    """Return a table of cells, each its text and the number by which it is sorted."""

    def one(text: str, value: float | None) -> str:
        number = "" if value is None else f' class=number data-value="{value}"'
        return f"<td{number}>{_text(text)}</td>"

    lines = ("<tr>" + "".join(one(*told) for told in row) + "</tr>" for row in rows)
    heads = "".join(f"<th>{_text(name)}</th>" for name in head)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _pictures(files: Iterable[Path]) -> str:
    left, parts = LARGEST, []
    for file in files:
        left -= file.stat().st_size
        if left < 0:
            parts.append(f"<p class=note>Too large for this page: {_text(str(file))}</p>")
            continue
        data = base64.b64encode(file.read_bytes()).decode()
        image = f'<img alt="{_text(file.stem)}" src="data:image/{KINDS[file.suffix]};base64,{data}">'
        parts.append(f"<figure>{image}<figcaption>{_text(file.name)}</figcaption></figure>")
    return f"<div class=pictures>{''.join(parts)}</div>" if parts else ""
