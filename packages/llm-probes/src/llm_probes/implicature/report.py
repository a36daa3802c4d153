"""The result on disk: figures, one line an item, and a page that a person can browse."""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_probes.implicature.evaluate import Item
from llm_probes.implicature.examples import Example
from paperloop.files import write_atomically, write_json

__all__ = ["table_rows", "write_result"]

PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ padding: .3em .6em; vertical-align: top; text-align: left; }}
tr {{ border-top: 1px solid #ddd; }} .wrong {{ background: #fdecea; }} .n {{ text-align: right; white-space: nowrap; }}
input {{ font: inherit; width: 24em; }}
</style>
<h1>{title}</h1>
<table>{figures}</table>
<p><label>Filter: <input id="f" placeholder="words, a type, or wrong"></label> <span id="c"></span></p>
<table>
<thead><tr><th>#<th>Question and response<th>Label<th>Type<th>Right in<th>Templates</thead>
<tbody id="b">{rows}</tbody></table>
<script>
const rows = [...document.querySelectorAll("#b tr")];
function show() {{
  const words = document.querySelector("#f").value.toLowerCase().split(/\\s+/);
  let n = 0;
  for (const row of rows) {{
    const text = row.textContent.toLowerCase() + " " + row.className;
    const hit = words.every(word => text.includes(word));
    row.hidden = !hit; n += hit;
  }}
  document.querySelector("#c").textContent = n + " of " + rows.length;
}}
document.querySelector("#f").addEventListener("input", show); show();
</script>
"""


def write_result(
    folder: Path,
    summary: Mapping[str, Any],
    items: Sequence[Item],
    test: Sequence[Example],
    types: Sequence[str] | None = None,
    *,
    title: str,
) -> list[Path]:
    """Write `summary.json`, `items.jsonl` and `items.html` into an existing folder and return their paths."""
    paths = [folder / name for name in ("summary.json", "items.jsonl", "items.html")]
    write_json(paths[0], dict(summary))
    lines = []
    for item in items:
        row = {key: value for key, value in dataclasses.asdict(item).items() if value is not None}
        row["scores"] = {n: [v if math.isfinite(v) else None for v in pair] for n, pair in item.scores.items()}
        row |= {"label": test[item.example].label, **({"type": types[item.example]} if types else {})}
        lines.append(json.dumps(row, ensure_ascii=False))
    write_atomically(paths[1], ("\n".join(lines) + "\n").encode())
    figures = "".join(
        f"<tr><td>{html.escape(name)}<td class=n>{html.escape(value)}" for name, value in table_rows(summary)
    )
    page = PAGE.format(title=html.escape(title), figures=figures, rows=_item_rows(items, test, types))
    write_atomically(paths[2], page.encode())
    return paths


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, figure) of what a reader wants first."""
    low, high = summary["interval_95"]
    rows = [("mean of the templates", f"{summary['mean']:.1f} %  [{low:.1f}, {high:.1f}]")]
    rows.append(("std over templates", f"{summary['std_over_templates']:.1f}"))
    rows += [(f"{group} templates", f"{v['mean']:.1f} %") for group, v in summary["by_group"].items()]
    rows += [(f"always {label}", f"{value:.1f} %") for label, value in summary["always"].items()]
    rows.append(("valid", f"{summary['valid']:.1f} %"))
    if "reference_parser" in summary:
        rows.append(("mean, original parser", f"{summary['reference_parser']['mean']:.1f} %"))
    if "human" in summary:
        human = summary["human"]
        rows.append(("people", f"{human['mean']:.1f} %  (worst {human['worst']:.1f}, best {human['best']:.1f})"))
    for kind, value in summary.get("by_type", {}).items():
        people = f", people {value['human']:.1f} %" if "human" in value else ""
        rows.append((f"{kind} ({value['examples']})", f"{value['mean']:.1f} %{people}"))
    return rows


def _item_rows(items: Sequence[Item], test: Sequence[Example], types: Sequence[str] | None) -> str:
    by_example: dict[int, list[Item]] = {}
    for item in items:
        by_example.setdefault(item.example, []).append(item)
    rows = []
    for index, some in by_example.items():
        example, right = test[index], sum(item.correct for item in some)
        details = "; ".join(f"{item.template}: {_detail(item)}" for item in some)
        cells = [
            str(index),
            f"{html.escape(example.utterance)}<br>{html.escape(example.response)}",
            example.label,
            html.escape(types[index] if types else ""),
            f"{right} of {len(some)}",
            html.escape(details),
        ]
        mark = "" if 2 * right > len(some) else " class=wrong"
        rows.append(f"<tr{mark}>" + "".join(f"<td>{cell}" for cell in cells))
    return "\n".join(rows)


def _detail(item: Item) -> str:
    mark = ("right" if item.correct else "wrong") if item.valid else "invalid"
    if item.completion is not None:
        return f"{mark} {item.completion.strip()[:120]!r}"
    right, wrong = next(iter(item.scores.values()))
    return f"{mark} {right - wrong:+.2f}"
