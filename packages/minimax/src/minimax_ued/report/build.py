"""The report of an evaluation: tables on the screen, Markdown with figures, and JSON with every number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minimax_ued.exhibits.history import MEASURES
from minimax_ued.report.figures import draw
from minimax_ued.report.scorecard import Scorecard
from paperloop.errors import UserError, printable
from paperloop.files import write_atomically, write_json
from paperloop.loop.provenance import provenance
from paperloop_lab import stats

__all__ = ["print_scorecard", "to_json", "write_report"]

_AGGREGATES = {"mean": "mean", "iqm": "interquartile mean", "optimality_gap": "optimality gap"}
_KINDS = {"solved": "Solved rate", "returns": "Return", "regrets": "Regret"}
_PARTS = {"learned": "learned from", "kept": "kept, as likely as they are replayed, or built by a teacher"}


class _Table(NamedTuple):
    head: Sequence[str]
    rows: list[list[str]]

    def markdown(self) -> list[str]:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        return [line(self.head), "|" + " --- |" * len(self.head), *map(line, self.rows), ""] if self.rows else []


def print_scorecard(card: Scorecard) -> None:
    """Print the tables: tasks down, runs and controls across."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    tables = {"Solved rate: mean over seeds [95 % interval]": _solved(card)}
    if card.tail is not None:
        tables[f"Mean win rate on the worst of {card.tail.described} [95 % interval]"] = _tails(card)
    for title, (head, rows) in tables.items():
        table = Table(title=title)
        for i, name in enumerate(head):
            table.add_column(Text(printable(name)), justify="right" if i else "left")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        console.print(table)
    for note in card.notes:
        console.print(printable(f"Note: {note}"), markup=False, highlight=False)


def write_report(card: Scorecard, folder: Path) -> list[Path]:
    """Write evaluation.md, evaluation.json and the figures that they name; return the paths.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures = draw(card, folder)
        write_json(folder / "evaluation.json", to_json(card) | {"figures": {k: v.name for k, v in figures.items()}})
        write_atomically(folder / "evaluation.md", _markdown(card, figures).encode())
    except OSError as error:
        raise UserError(
            f"The evaluation cannot be written to {folder} ({error.strerror or error}): give another folder."
        ) from None
    return [folder / "evaluation.md", folder / "evaluation.json", *figures.values()]


def to_json(card: Scorecard) -> dict[str, Any]:
    """Return every number of the evaluation, with settings and provenance, ready for JSON."""

    def scores(kind: str, label: str) -> list[list[float | None]]:
        return [[None if np.isnan(x) else float(x) for x in row] for row in card.scores(label, kind)]

    def intervals(kind: str, label: str) -> dict[str, Any]:
        columns = zip(card.tasks, card.scores(label, kind).T, strict=True)
        return {task: None if np.isnan(column).any() else list(card.interval(column)) for task, column in columns}

    return {
        "settings": card.settings,
        "notes": list(card.notes),
        "tasks": list(card.tasks),
        "controls": [label for label, one in card.measured.items() if one.control],
        "runs": {label: {"folder": str(one.run), **one.budget} for label, one in card.runs.items()},
        **{kind: {label: scores(kind, label) for label in card.measured} for kind in _KINDS},
        "intervals": {kind: {label: intervals(kind, label) for label in card.measured} for kind in _KINDS},
        "aggregates": {
            label: {name: list(interval) for name, interval in found.items()}
            for label, found in card.aggregates().items()
        },
        "worst_levels": _tail_json(card),
        "own_levels": {label: one.own.tolist() for label, one in card.measured.items() if one.own is not None},
        "training_levels": {
            part: {
                label: {name: [list(end) for end in series.change] for name, series in getattr(one, part).items()}
                for label, one in card.histories.items()
            }
            for part in _PARTS
        },
        "provenance": provenance("minimax-ued"),
    }


def _tail_json(card: Scorecard) -> dict[str, Any] | None:
    if card.tail is None:
        return None
    return {
        "levels": card.tail.name,
        "n_levels": card.tail.n_levels,
        "attempts_per_round": card.tail.attempts,
        "alphas": list(card.alphas),
        "cvar": {
            label: {f"{100 * alpha:g}": list(interval) for alpha, interval in found.items()}
            for label, found in card.tails().items()
        },
        "regret": {label: list(interval) for label, interval in card.tail_regrets().items()},
        "by_path_length": {
            label: [{"low": one.low, "high": one.high, "n": one.n, "win_rate": one.rates.tolist()} for one in bins]
            for label, bins in card.path_bins().items()
        },
    }


# ---------------------------------------------------------------------------------------------------------- Markdown


def _markdown(card: Scorecard, figures: dict[str, Path]) -> str:
    def picture(key: str, text: str) -> list[str]:
        return [f"![{text}]({figures[key].name})", ""] if key in figures else []

    lines = ["# Evaluation", "", *_runs(card).markdown()]
    few = [label for label, one in card.runs.items() if one.seeds == 1]
    if few:
        lines += [f"An interval of one seed ({', '.join(few)}) is its point: it says nothing about other seeds.", ""]
    lines += [*card.notes, *[""] * bool(card.notes)]
    told = ["one episode on each held-out level"]
    told += [f"{card.settings['episodes']} on each test maze"] * bool(card.mazes)
    told += [f"{card.settings['episodes']} on each level of your own"] * (card.own is not None)
    regret = " Regret is the best possible return, found by breadth-first search, minus the student's."
    lines += [
        "## Solved rates", "",
        "Mean over seeds [95 % stratified bootstrap interval]. Actions are sampled; the student plays "
        f"{', '.join(told)}.{regret * bool(card.mazes)}", "",
        *picture("scorecard", "Solved rates with intervals"), *_solved(card).markdown(),
    ]  # fmt: skip
    for kind in ("returns", "regrets"):
        table = _Table(["", *card.measured], _task_rows(card, kind)).markdown()
        lines += [f"### {_KINDS[kind]}", "", *table] if table else []
    if card.tail is not None:
        lines += _tail_part(card, picture)
    lines += _training_part(card, picture)
    lines += picture("mazes", "The test mazes")
    lines += picture("own", "The levels from the file with the solved rate of each run")
    found = provenance("minimax-ued")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines += [
        "## Where these numbers come from", "",
        f"Seed {card.settings['seed']}; {versions}; {', '.join(found['devices'])}. All numbers, those of every seed "
        "included, are in [evaluation.json](evaluation.json).", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _tail_part(card: Scorecard, picture: Any) -> list[str]:
    tail = card.tail
    assert tail is not None
    lines = [
        "## Worst levels (CVaR)", "",
        f"Mean win rate on the worst part of {tail.described} ({tail.name}). Levels are ranked, for each "
        f"seed, by {tail.attempts} attempts each, and measured by {tail.attempts} independent ones, so that the choice "
        "does not bias the result (Rutherford et al. 2024, arXiv 2408.15099).", "",
        *picture("cvar", "Win rate on the worst levels"), *_tails(card).markdown(),
    ]  # fmt: skip
    regrets = card.tail_regrets()
    if regrets:
        table = _Table([*regrets], [[_cell(interval) for interval in regrets.values()]])
        lines += ["Mean regret on all of these levels:", "", *table.markdown()]
    bins = card.path_bins()
    if bins:
        rows = [
            [f"{one.low} to {one.high}", str(one.n), *(_cell(card.interval(found[i].rates)) for found in bins.values())]
            for i, one in enumerate(next(iter(bins.values())))
        ]
        lines += ["### By the length of the shortest path", "", *picture("path_length", "Win rate by path length")]
        lines += _Table(["moves", "levels", *bins], rows).markdown()
    for label in card.runs if tail.min_actions is not None else ():
        lines += [
            f"The longest levels that {label} solves (first row) and those that it fails on (second row), chosen "
            "by the first round, with win rates of the second and the fewest actions that lead to the goal:", "",
            *picture(f"levels {label}", f"Hardest levels of {label}"),
        ]  # fmt: skip
    return lines


def _training_part(card: Scorecard, picture: Any) -> list[str]:
    if not card.histories:
        return []
    lines = ["## What they trained on", "", *picture("complexity", "Walls and paths of the training levels")]
    for part, title in _PARTS.items():
        found = {label: getattr(one, part) for label, one in card.histories.items()}
        rows = [
            [label, *(" → ".join(map(_cell, series[name].change)) if name in series else "" for name in MEASURES)]
            for label, series in found.items()
            if series
        ]
        if rows:
            lines += [f"Levels {title}, first and last tenth of training, mean over seeds:", ""]
            lines += _Table(["", *MEASURES.values()], rows).markdown()
    for label in card.histories:
        text = f"The most likely training levels of {label}, first seed; rows are moments, in environment steps"
        drawn = picture(f"buffer {label}", text)
        lines += [f"{text}:", "", *drawn] if drawn else []
    return lines


# ------------------------------------------------------------------------------------------------------------ tables


def _runs(card: Scorecard) -> _Table:
    head = ["", "folder", "method", "trained on", "network", "environment steps per seed", "updates", "seeds"]
    names = ("method", "trained_on", "network", "env_steps", "updates")
    rows = []
    for label, one in card.runs.items():
        told = [f"{x:,}" if isinstance(x, int) else str(x) for x in (one.budget[name] for name in names)]
        rows.append([label, f"`{one.run}`", *told, str(one.seeds)])
    return _Table(head, rows)


def _solved(card: Scorecard) -> _Table:
    """The solved rates, and their aggregates over several test mazes."""
    heads = (f"{label}, {one.seeds} seed{'s' * (one.seeds > 1)}" for label, one in card.measured.items())
    rows = _task_rows(card, "solved")
    if len(card.mazes) > 1:
        found = card.aggregates()
        rows += [
            [f"{title} of the {len(card.mazes)} mazes", *(_cell(found[label][name]) for label in card.measured)]
            for name, title in _AGGREGATES.items()
        ]
    return _Table(["task", *heads], rows)


def _task_rows(card: Scorecard, kind: str) -> list[list[str]]:
    columns = [card.scores(label, kind).T for label in card.measured]
    cells = [["" if np.isnan(x).any() else _cell(card.interval(x)) for x in row] for row in zip(*columns, strict=True)]
    return [[task, *row] for task, row in zip(card.tasks, cells, strict=True) if any(row)]


def _tails(card: Scorecard) -> _Table:
    found = card.tails()
    rows = [[f"{100 * alpha:g} %", *(_cell(one[alpha]) for one in found.values())] for alpha in card.alphas]
    return _Table(["worst", *found], rows)


def _cell(interval: stats.Interval) -> str:
    point, low, high = interval
    return f"{point:.2f}" if low == high == point else f"{point:.2f} [{low:.2f}, {high:.2f}]"
