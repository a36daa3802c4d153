"""Figures of an evaluation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from minimax_ued.evaluation.cvar import ALPHAS
from minimax_ued.exhibits.gallery import draw_hardest, draw_test_mazes
from minimax_ued.exhibits.history import complexity_figure
from minimax_ued.exhibits.pictures import level_sheet, save_png
from minimax_ued.exhibits.snapshots import draw_timeline
from minimax_ued.report.scorecard import Scorecard
from paperloop_lab import plots, stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["cvar_figure", "draw", "path_length_figure", "scorecard_figure"]

_CONTROL = "#9a9a9a"


def draw(card: Scorecard, folder: Path) -> dict[str, Path]:
    """Draw every figure that this card has numbers for; return what it shows -> file."""
    figures = {"scorecard": plots.save_figure(scorecard_figure(card), folder / "evaluation.png")}
    tail = card.tail
    if tail is not None:
        figures["cvar"] = plots.save_figure(cvar_figure(card), folder / "cvar.png")
        if card.path_bins():
            figures["path_length"] = plots.save_figure(path_length_figure(card), folder / "path-length.png")
        for label, one in card.runs.items():
            if tail.min_actions is not None and one.win_rates is not None:
                rates = one.win_rates.ranking.mean(0), one.win_rates.measured.mean(0)
                path = folder / f"levels-{_slug(label)}.png"
                figures[f"levels {label}"] = draw_hardest(tail.levels, *rates, tail.min_actions, path)
    if card.histories:
        figures["complexity"] = plots.save_figure(complexity_figure(card.histories), folder / "complexity.png")
    for label in card.histories:
        run = card.folders[label]
        budget = next(one.budget for one in card.runs.values() if one.source == label)
        path = folder / f"buffer-over-training-{_slug(label)}.png"
        drawn = draw_timeline(run / "plots", path, steps_each=budget.get("env_steps_per_dispatch"))
        if drawn is not None:
            figures[f"buffer {label}"] = drawn
    if card.mazes:
        figures["mazes"] = draw_test_mazes(list(card.mazes), folder / "mazes.png", seed=card.settings["seed"])
    if card.own is not None:
        figures["own"] = _draw_own(card, folder / "own-levels.png")
    return figures


def scorecard_figure(card: Scorecard) -> Figure:
    """Draw one line per task: a dot per run or control, at the solved rate, with its interval."""
    count = len(card.measured)
    figure, axes = plots.new_figure(7.2, 1.2 + len(card.tasks) * (0.16 + 0.11 * count))
    spread = np.linspace(-0.3, 0.3, count) if count > 1 else [0.0]
    for number, (label, one) in enumerate(card.measured.items()):
        point, low, high = np.array([tuple(card.interval(column)) for column in card.scores(label).T]).T
        rows = np.arange(len(card.tasks)) + spread[number]
        shade = _CONTROL if one.control else plots.style(number)["color"]
        axes.hlines(rows, low, high, color=shade, lw=2.5, alpha=0.5)
        marker = "x" if label == "random policy" else "o"
        axes.plot(point, rows, marker, color=shade, ms=5, label=plots.plain(label), clip_on=False, zorder=3)
    axes.set_yticks(range(len(card.tasks)), card.tasks)
    axes.set_ylim(len(card.tasks) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"solved rate: mean over seeds ({card.spread})")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    return figure


def cvar_figure(card: Scorecard) -> Figure:
    """Draw the mean win rate on the worst alpha of the levels over alpha."""
    assert card.tail is not None
    percent = 100 * np.array(ALPHAS)
    rates = {label: list(found.values()) for label, found in card.tails().items()}
    figure, axes = _rates(card, 100 * np.array(card.alphas), rates)
    axes.set_xscale("log")
    axes.set_xticks(percent, [f"{value:g} %" for value in percent])
    axes.minorticks_off()
    axes.set_xlabel(f"worst part of {card.tail.described}, chosen by an independent round")
    return figure


def path_length_figure(card: Scorecard) -> Figure:
    """Draw the win rate over the length of the shortest path, with the number of levels of each length."""
    bins = card.path_bins()
    table = next(iter(bins.values()))
    rates = {label: [card.interval(one.rates) for one in found] for label, found in bins.items()}
    figure, axes = _rates(card, np.arange(len(table)), rates)
    names = [str(one.low) if one.low == one.high else f"{one.low}-{one.high}" for one in table]
    axes.set_xticks(range(len(table)), [f"{name}\n({one.n})" for name, one in zip(names, table, strict=True)])
    axes.set_xlabel("shortest path from the agent to the goal, in moves (number of levels)")
    return figure


def _rates(card: Scorecard, at: np.ndarray, rates: dict[str, list[stats.Interval]]) -> tuple[Figure, Axes]:
    """Return a figure of win rates at some points, a line and a band for each run."""
    figure, axes = plots.new_figure(7.2, 4.4)
    for number, (label, found) in enumerate(rates.items()):
        plots.band(axes, at, stats.Interval(*np.array([tuple(one) for one in found]).T), number, label)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("mean win rate")
    plots.legend(axes)
    several = any(one.seeds > 1 for one in card.runs.values())
    text = f"shaded: {card.spread}" if several else card.spread
    figure.supxlabel(text, fontsize=8, color=plots.FAINT, x=0.99, ha="right")
    return figure, axes


def _draw_own(card: Scorecard, path: Path, most: int = 48) -> Path:
    """Draw the first levels of the user's, with the solved rate of each run."""
    levels = card.own
    assert levels is not None
    n = min(most, len(levels.wall_map))
    rates = [one.own.mean(0) for one in card.runs.values() if one.own is not None]
    labels = [f"{i + 1}: " + " ".join(f"{100 * rate[i]:.0f} %" for rate in rates) for i in range(n)]
    return save_png(path, level_sheet(jax.tree.map(lambda x: x[:n], levels), labels, columns=min(8, n), tile=16))


def _slug(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label).strip("-")
