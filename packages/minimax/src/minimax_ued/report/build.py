"""The report of an evaluation: tables on the screen, Markdown with figures, and JSON with every number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from minimax_ued.exhibits.gallery import draw_hardest, draw_test_mazes
from minimax_ued.exhibits.history import MEASURES, changes, complexity_figure
from minimax_ued.exhibits.pictures import level_sheet, save_png
from minimax_ued.exhibits.snapshots import draw_timeline
from minimax_ued.report.figures import cvar_figure, path_length_figure, scorecard_figure
from minimax_ued.report.published import CVAR_SFL, OOD_25, OOD_60, PACE, PUBLISHED, PublishedTable
from minimax_ued.report.scorecard import Measured, Scorecard
from paperloop.errors import UserError, printable
from paperloop.files import write_atomically, write_json
from paperloop.loop.provenance import provenance
from paperloop_lab import plots, stats

__all__ = ["print_scorecard", "to_json", "write_report"]

_AGGREGATES = {"mean": "mean", "iqm": "interquartile mean", "optimality_gap": "optimality gap"}
_KINDS = {"solved": "Solved rate", "returns": "Return", "regrets": "Regret"}


def print_scorecard(card: Scorecard) -> None:
    """Print the tables: tasks down, runs and controls across."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()

    def show(title: str, head: Sequence[str], sections: Sequence[Sequence[Sequence[str]]]) -> None:
        table = Table(title=title)
        for i, name in enumerate(head):
            table.add_column(Text(printable(name)), justify="right" if i else "left")
        for rows in sections:
            for row in rows:
                table.add_row(*(Text(printable(cell)) for cell in row))
            table.add_section()
        console.print(table)

    seeds = [f"{label}\n{one.seeds} seed{'s' * (one.seeds > 1)}" for label, one in card.measured.items()]
    sections = [_task_rows(card, "solved")]
    if len(card.mazes) > 1:
        sections.append(_aggregate_rows(card, card.mazes))
    show("Solved rate: mean over seeds [95 % interval]", ["task", *seeds], sections)
    if card.tail is not None:
        title = f"Mean win rate on the worst of {card.tail.described} [95 % interval]"
        show(title, ["worst", *card.runs], [_tail_rows(card)])
    for note in card.notes:
        console.print(printable(f"Note: {note}"), markup=False, highlight=False)


def write_report(card: Scorecard, folder: Path) -> list[Path]:
    """Write evaluation.md, evaluation.json and the figures that they name; return the paths.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures = _draw(card, folder)
        write_json(folder / "evaluation.json", to_json(card) | {"figures": {k: v.name for k, v in figures.items()}})
        write_atomically(folder / "evaluation.md", _markdown(card, figures).encode())
    except OSError as error:
        raise UserError(
            f"The evaluation cannot be written to {folder} ({error.strerror or error}): give another folder."
        ) from None
    return [folder / "evaluation.md", folder / "evaluation.json", *figures.values()]


def to_json(card: Scorecard) -> dict[str, Any]:
    """Return every number of the evaluation, with settings, published rows and provenance, ready for JSON."""
    tail = None
    if card.tail is not None:
        tail = {
            "levels": card.tail.name,
            "n_levels": card.tail.n,
            "attempts_per_round": card.tail.attempts,
            "alphas": list(card.alphas),
            "cvar": {
                label: {f"{100 * alpha:g}": list(interval) for alpha, interval in found.items()}
                for label, found in card.tails().items()
            },
            "regret": {label: list(interval) for label, interval in card.tail_regrets().items()},
            "by_path_length": {
                label: [{"low": one.low, "high": one.high, "n": one.n, "win_rate": one.rates.tolist()} for one in table]
                for label, table in card.path_bins().items()
            },
        }
    return {
        "settings": card.settings,
        "notes": list(card.notes),
        "tasks": list(card.tasks),
        "controls": [label for label, one in card.measured.items() if one.control],
        "runs": {label: {"folder": str(one.run), **one.budget} for label, one in card.runs.items()},
        **{kind: {label: _plain(card.scores(label, kind)) for label in card.measured} for kind in _KINDS},
        "intervals": {
            kind: {label: dict(zip(card.tasks, _intervals(card, label, kind), strict=True)) for label in card.measured}
            for kind in _KINDS
        },
        "aggregates": {
            label: {name: list(interval) for name, interval in found.items()}
            for label, found in card.aggregates().items()
        },
        "worst_levels": tail,
        "own_levels": {label: one.own.tolist() for label, one in card.measured.items() if one.own is not None},
        "training_levels": {
            part: {
                label: {name: [list(end) for end in ends] for name, ends in found.items()}
                for label, found in changes(card.histories, part).items()
            }
            for part in ("learned", "kept")
        },
        "published": {name: _published_json(table) for name, table in PUBLISHED.items()},
        "provenance": provenance("minimax-ued"),
    }


# ---------------------------------------------------------------------------------------------------------- Markdown


def _markdown(card: Scorecard, figures: dict[str, Path]) -> str:
    def picture(key: str, text: str) -> list[str]:
        return [f"![{text}]({figures[key].name})", ""] if key in figures else []

    settings, lines = card.settings, ["# Evaluation", ""]
    lines += _runs_part(card)
    lines += [f"{note}" for note in card.notes] + [""] * bool(card.notes)
    lines += ["## Solved rates", ""]
    told = ["one episode on each held-out level"]
    told += [f"{settings['episodes']} on each test maze"] * bool(card.mazes)
    told += [f"{settings['episodes']} on each level of your own"] * (card.own is not None)
    regret = "Regret is the best possible return, found by breadth-first search, minus the student's." * bool(
        card.mazes
    )
    lines += [
        "Mean over seeds [95 % stratified bootstrap interval]. Actions are sampled; the student plays "
        f"{', '.join(told)}. {regret}",
        "",
    ]
    lines += picture("scorecard", "Solved rates with intervals")
    head = ["", *card.measured]
    lines += _table(head, _task_rows(card, "solved"))
    if len(card.mazes) > 1:
        lines += [f"Over the {len(card.mazes)} test mazes and the seeds:", ""]
        lines += _table(head, _aggregate_rows(card, card.mazes))
    for kind in ("returns", "regrets"):
        rows = _task_rows(card, kind)
        lines += [f"### {_KINDS[kind]}", "", *_table(head, rows)] if rows else []
    if card.tail is not None:
        lines += _tail_part(card, picture)
    lines += _training_part(card, picture)
    lines += picture("mazes", "The test mazes")
    lines += picture("own", "The levels from the file with the solved rate of each run")
    if card.mazes:
        lines += _published_part(card)
    lines += ["## Where these numbers come from", ""]
    found = provenance("minimax-ued")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines += [
        f"Seed {settings['seed']}; {versions}; {', '.join(found['devices'])}. All numbers, those of every seed "
        "included, are in [evaluation.json](evaluation.json).",
        "",
    ]
    return "\n".join(lines)


def _runs_part(card: Scorecard) -> list[str]:
    rows = [
        [
            label,
            f"`{one.run}`",
            str(one.budget["method"]),
            str(one.budget["trained_on"]),
            str(one.budget["network"]),
            f"{one.budget['env_steps']:,}",
            f"{one.budget['updates']:,}",
            str(one.seeds),
        ]
        for label, one in card.runs.items()
    ]
    head = ["", "folder", "method", "trained on", "network", "environment steps per seed", "updates", "seeds"]
    few = [label for label, one in card.runs.items() if one.seeds == 1]
    lines = _table(head, rows)
    if few:
        lines += [f"An interval of one seed ({', '.join(few)}) is its point: it says nothing about other seeds.", ""]
    return lines


def _tail_part(card: Scorecard, picture: Any) -> list[str]:
    tail = card.tail
    assert tail is not None
    lines = [
        "## Worst levels (CVaR)",
        "",
        f"Mean win rate on the worst part of {tail.described} ({tail.name}). Levels are ranked, for each "
        f"seed, by {tail.attempts} attempts each, and measured by {tail.attempts} independent ones, so that the choice "
        f"does not bias the result ({CVAR_SFL.citation}).",
        "",
    ]
    lines += picture("cvar", "Win rate on the worst levels")
    head = ["", *(f"{100 * alpha:g} %" for alpha in card.alphas)]
    rows = [[label, *(_cell(found[alpha]) for alpha in card.alphas)] for label, found in card.tails().items()]
    comparable = _is_full_size(card)
    if comparable:
        names = [f"{100 * alpha:g}" for alpha in card.alphas]
        for method in CVAR_SFL.columns:
            column = CVAR_SFL.column(method)
            rows.append([f"published: {method}", *(_spread(*column[name]) for name in names)])
    lines += _table(head, rows)
    if comparable:
        lines += [_source(CVAR_SFL), ""]
    regrets = card.tail_regrets()
    if regrets:
        lines += ["Mean regret on all of these levels:", ""]
        lines += _table([*regrets], [[_cell(interval) for interval in regrets.values()]])
    bins = card.path_bins()
    if bins:
        lines += ["### By the length of the shortest path", ""]
        lines += picture("path_length", "Win rate by path length")
        table = next(iter(bins.values()))
        rows = [
            [f"{one.low} to {one.high}", str(one.n), *(_cell(card.interval(found[i].rates)) for found in bins.values())]
            for i, one in enumerate(table)
        ]
        lines += _table(["moves", "levels", *bins], rows)
    if tail.min_actions is not None:
        for label in card.runs:
            lines += [
                f"The longest levels that {label} solves (first row) and those that it fails on (second row), chosen "
                "by the first round, with win rates of the second and the fewest actions that lead to the goal:",
                "",
                *picture(f"levels {label}", f"Hardest levels of {label}"),
            ]
    return lines


def _training_part(card: Scorecard, picture: Any) -> list[str]:
    histories = card.histories
    if not histories:
        return []
    lines = ["## What they trained on", "", *picture("complexity", "Walls and paths of the training levels")]
    for part, title in (
        ("learned", "learned from"),
        ("kept", "kept, as likely as they are replayed, or built by a teacher"),
    ):
        found = {label: ends for label, ends in changes(histories, part).items() if ends}
        if not found:
            continue
        rows = [
            [label, *(f"{_cell(ends[name][0])} → {_cell(ends[name][1])}" if name in ends else "" for name in MEASURES)]
            for label, ends in found.items()
        ]
        lines += [f"Levels {title}, first and last tenth of training, mean over seeds:", ""]
        lines += _table(["", *MEASURES.values()], rows)
    for label in histories:
        text = f"The most likely training levels of {label}, first seed; rows are moments of training"
        drawn = picture(f"buffer {label}", text)
        lines += [f"{text}:", "", *drawn] if drawn else []
    return lines


def _published_part(card: Scorecard) -> list[str]:
    lines = [
        "## Published results for comparison",
        "",
        "**The budgets differ.** The published rows are not like for like with the runs above: they were trained for "
        "other numbers of steps, with other settings, and measured in other implementations of the mazes. They say "
        "where the literature stands, not what this package reproduces.",
        "",
    ]
    for table in (OOD_60, OOD_25):
        # Row of the table -> our maze of that name: the one that the table was made on, where it was measured.
        mazes = {row: maze for row in table.rows for maze in (row, f"{row}DCD") if maze in card.mazes}
        if not mazes:
            continue
        lines += [f"### {table.citation}: {table.name}", ""]
        runs = list(card.runs)
        rows = []
        for name, maze in mazes.items():
            ours = [_cell(card.interval(card.measured[label].solved[maze])) for label in runs]
            rows.append([maze, *ours, *(_spread(*value) for value in table.rows[name])])
        if len(mazes) == len(table.rows):
            aggregates = card.aggregates([*mazes.values()])
            for name, published in table.aggregates.items():
                ours = [_cell(aggregates[label][name]) for label in runs]
                rows.append([_AGGREGATES[name], *ours, *(_cell(stats.Interval(*value)) for value in published)])
        lines += _table(["", *runs, *(f"published: {method}" for method in table.columns)], rows)
        lines += [_source(table), ""]
    lines += [f"{PACE.name} ({PACE.citation}): {PACE.claim}; known from the abstract only.", ""]
    return lines


def _source(table: PublishedTable) -> str:
    return (
        f"Published: {table.citation}; mean ± standard deviation over {table.seeds} seeds, and for aggregates the 95 % "
        f"interval, computed from {table.origin}. Budget: {table.budget}. Other differences: {table.differs}."
    )


# -------------------------------------------------------------------------------------------------------------- rows


def _task_rows(card: Scorecard, kind: str) -> list[list[str]]:
    columns = {label: card.scores(label, kind) for label in card.measured}
    rows = []
    for i, task in enumerate(card.tasks):
        cells = ["" if np.isnan(s[:, i]).any() else _cell(card.interval(s[:, i])) for s in columns.values()]
        if any(cells):
            rows.append([task, *cells])
    return rows


def _aggregate_rows(card: Scorecard, mazes: Sequence[str]) -> list[list[str]]:
    found = card.aggregates(mazes)
    return [
        [f"{title} of the mazes", *(_cell(found[label][name]) for label in card.measured)]
        for name, title in _AGGREGATES.items()
    ]


def _tail_rows(card: Scorecard) -> list[list[str]]:
    found = card.tails()
    return [[f"{100 * alpha:g} %", *(_cell(found[label][alpha]) for label in found)] for alpha in card.alphas]


def _cell(interval: stats.Interval) -> str:
    point, low, high = interval
    return f"{point:.2f}" if low == high == point else f"{point:.2f} [{low:.2f}, {high:.2f}]"


def _spread(mean: float, deviation: float) -> str:
    return f"{mean:.2f} ± {deviation:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + " --- |" * len(head), *map(line, rows), ""]


def _plain(values: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def _intervals(card: Scorecard, label: str, kind: str) -> list[list[float] | None]:
    return [None if np.isnan(column).any() else list(card.interval(column)) for column in card.scores(label, kind).T]


def _published_json(table: PublishedTable) -> dict[str, Any]:
    return {
        "citation": table.citation,
        "origin": table.origin,
        "budget": table.budget,
        "seeds": table.seeds,
        "differs": table.differs,
        "methods": list(table.columns),
        "rows": {name: [list(value) for value in values] for name, values in table.rows.items()},
        "aggregates": {name: [list(value) for value in values] for name, values in table.aggregates.items()},
    }


# ----------------------------------------------------------------------------------------------------------- figures


def _draw(card: Scorecard, folder: Path) -> dict[str, Path]:
    """Draw every figure that this card has numbers for; return what it shows -> file."""
    figures = {"scorecard": plots.save_figure(scorecard_figure(card), folder / "evaluation.png")}
    tail = card.tail
    if tail is not None:
        figures["cvar"] = plots.save_figure(cvar_figure(card, published=_is_full_size(card)), folder / "cvar.png")
        if card.path_bins():
            figures["path_length"] = plots.save_figure(path_length_figure(card), folder / "path-length.png")
        for label, one in card.runs.items():
            if tail.min_actions is not None:
                figures[f"levels {label}"] = _draw_tail(card, one, folder / f"levels-{_slug(label)}.png")
    histories = card.histories
    if histories:
        figures["complexity"] = plots.save_figure(complexity_figure(histories), folder / "complexity.png")
        for label in histories:
            drawn = draw_timeline(card.folders[label] / "plots", folder / f"buffer-over-training-{_slug(label)}.png")
            if drawn is not None:
                figures[f"buffer {label}"] = drawn
    if card.mazes:
        figures["mazes"] = draw_test_mazes(list(card.mazes), folder / "mazes.png", seed=card.settings["seed"])
    if card.own is not None:
        figures["own"] = _draw_own(card, folder / "own-levels.png")
    return figures


def _draw_tail(card: Scorecard, one: Measured, path: Path) -> Path:
    tail, found = card.tail, one.win_rates
    assert tail is not None
    assert tail.min_actions is not None
    assert found is not None
    return draw_hardest(tail.levels, found.ranking.mean(0), found.measured.mean(0), tail.min_actions, path)


def _draw_own(card: Scorecard, path: Path, most: int = 48) -> Path:
    """The first levels of the user's, with the solved rate of each run."""
    levels = card.own
    assert levels is not None
    n = min(most, len(levels.wall_map))
    shown = jax.tree.map(lambda x: x[:n], levels)
    rates = [one.own.mean(0) for one in card.runs.values() if one.own is not None]
    labels = [f"{i + 1}: " + " ".join(f"{100 * rate[i]:.0f} %" for rate in rates) for i in range(n)]
    return save_png(path, level_sheet(shown, labels, columns=min(8, n), tile=16))


def _is_full_size(card: Scorecard) -> bool:
    """Whether the levels of the CVaR are of the size of the published ones."""
    return card.tail is not None and getattr(card.tail.levels, "wall_map", np.zeros(0)).shape[-2:] == (13, 13)


def _slug(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label).strip("-")
