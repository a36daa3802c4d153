"""The report of an evaluation: tables on the screen and in Markdown, JSON with every number, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minimax_ued.evaluation.measure import Evaluation
from paperloop.errors import UserError, note
from paperloop.files import write_atomically, write_json
from paperloop.loop.provenance import provenance
from paperloop_lab import plots, stats
from paperloop_lab.console import show

__all__ = ["print_evaluation", "to_json", "write_evaluation"]

_AGGREGATES = {"mean": "mean", "iqm": "interquartile mean", "optimality_gap": "optimality gap"}
_FACTS = ("folder", "method", "trained_on", "network", "env_steps", "updates", "seeds")


class _Table(NamedTuple):
    title: str
    head: Sequence[str]
    rows: list[list[str]]

    def markdown(self) -> list[str]:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        return [f"## {self.title}", "", line(self.head), "|" + " --- |" * len(self.head), *map(line, self.rows), ""]


def print_evaluation(found: Evaluation) -> None:
    """Print the tables: tasks down, runs and controls across."""
    for title, head, rows in _tables(found):
        show(head, rows, title=title)
    note(found.notes)


def write_evaluation(found: Evaluation, folder: Path) -> list[Path]:
    """Write evaluation.md, evaluation.json and evaluation.png; return the paths.

    Raises:
        UserError: the folder cannot be written.
    """
    files = [folder / f"evaluation.{kind}" for kind in ("md", "json", "png")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(files[1], to_json(found))
        write_atomically(files[0], _markdown(found).encode())
    except OSError as error:
        raise UserError(
            f"The evaluation cannot be written to {folder} ({error.strerror or error}): give another folder."
        ) from None
    plots.save_figure(plots.interval_bars(_panels(found), xlabel="solved rate"), files[2])
    return files


def to_json(found: Evaluation) -> dict[str, Any]:
    """Return every number of the evaluation, with settings and provenance, ready for JSON."""
    kinds = ("solved", "returns", "regrets")

    def plain(intervals: Mapping[Any, stats.Interval]) -> dict[str, list[float]]:
        return {key if isinstance(key, str) else f"{100 * key:g}": list(one) for key, one in intervals.items()}

    return {
        "settings": found.settings,
        "notes": list(found.notes),
        "tasks": list(found.tasks),
        "controls": [label for label in found.measured if label not in found.runs],
        "runs": {label: one.facts for label, one in found.runs.items()},
        **{
            kind: {
                label: {task: values.tolist() for task, values in getattr(one, kind).items()}
                for label, one in found.measured.items()
            }
            for kind in kinds
        },
        "intervals": {kind: {label: plain(of) for label, of in found.intervals(kind).items()} for kind in kinds},
        "aggregates": {label: plain(of) for label, of in found.aggregates().items()},
        "worst_levels": {
            "levels": found.worst,
            "cvar": {label: plain(of) for label, of in found.intervals("tails").items() if of},
        },
        "provenance": provenance("minimax-ued"),
    }


def _markdown(found: Evaluation) -> str:
    runs = _Table("Runs", ["", *_FACTS], [
        [label, *(f"{x:,}" if isinstance(x, int) else str(x) for x in (one.facts[name] for name in _FACTS))]
        for label, one in found.runs.items()
    ])  # fmt: skip
    where = provenance("minimax-ued")
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines = [
        "# Evaluation", "",
        "Means over seeds [95 % stratified bootstrap interval; of one seed none]. Actions are sampled; a student plays "
        f"one episode on each held-out level and {found.settings['episodes']} on each test maze and level of your own. "
        "Regret is the best possible return, found by breadth-first search, minus the student's. Worst levels are "
        f"ranked, for each seed, by {found.settings['cvar_attempts']} attempts at each and measured by as many "
        "independent ones, so that the choice does not bias the result (Rutherford et al. 2024, arXiv 2408.15099).", "",
        *(line for note in found.notes for line in (note, "")),
        "![Solved rates with intervals](evaluation.png)", "",
    ]  # fmt: skip
    for table in (runs, *_tables(found), *_more(found)):
        lines += table.markdown()
    told = f"Seed {found.settings['seed']}; {versions}; {', '.join(where['devices'])}."
    return "\n".join([*lines, f"{told} All numbers, those of every seed included, are in evaluation.json.", ""])


def _tables(found: Evaluation) -> list[_Table]:
    """The solved rates, with their aggregates over several test mazes, and the win rates on the worst levels."""
    rows = _rows(found.intervals(), found.tasks)
    if len(found.mazes) > 1:
        aggregates = found.aggregates()
        rows += [
            [f"{title} of the {len(found.mazes)} mazes", *(_cell(of[name]) for of in aggregates.values())]
            for name, title in _AGGREGATES.items()
        ]
    heads = (f"{label}, {one.seeds} seed{'s' * (one.seeds > 1)}" for label, one in found.measured.items())
    tables = [_Table("Solved rate", ["task", *heads], rows)]
    tails = {label: of for label, of in found.intervals("tails").items() if of}
    if tails:
        alphas = [*next(iter(tails.values()))]
        rows = [[f"{100 * alpha:g} %", *cells] for alpha, (_, *cells) in zip(alphas, _rows(tails, alphas), strict=True)]
        tables.append(_Table(f"Mean win rate on the worst of {found.worst}", ["worst", *tails], rows))
    return tables


def _more(found: Evaluation) -> list[_Table]:
    titles = {"returns": "Return", "regrets": "Regret"}
    tables = [_Table(t, ["task", *found.measured], _rows(found.intervals(k), found.tasks)) for k, t in titles.items()]
    return [table for table in tables if table.rows]


def _rows(intervals: Mapping[str, Mapping[Any, stats.Interval]], tasks: Sequence[Any]) -> list[list[str]]:
    cells = {task: [_cell(of[task]) if task in of else "" for of in intervals.values()] for task in tasks}
    return [[str(task), *row] for task, row in cells.items() if any(row)]


def _panels(found: Evaluation) -> dict[str, dict[str, stats.Interval]]:
    """What the figure shows: the solved rate on what is not a test maze, and the mean over all test mazes."""
    solved = found.intervals()
    panels = {
        task: {label: of[task] for label, of in solved.items()} for task in found.tasks if task not in found.mazes
    }
    if found.mazes:
        aggregates = found.aggregates()
        panels["test mazes, mean"] = {label: of["mean"] for label, of in aggregates.items()}
    return panels


def _cell(interval: stats.Interval) -> str:
    point, low, high = interval
    return f"{point:.2f}" if low == high == point else f"{point:.2f} [{low:.2f}, {high:.2f}]"
