"""Figures of an evaluation."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from minimax_ued.evaluation.cvar import ALPHAS
from minimax_ued.exhibits.style import CONTROL, FAINT, INK, colour, make_figure
from minimax_ued.report.published import CVAR_SFL
from minimax_ued.report.scorecard import Scorecard

__all__ = ["cvar_figure", "path_length_figure", "scorecard_figure"]

#: Of the published rows, those drawn: the others lie between them and would hide one another.
_DRAWN = ("SFL", "DR", "ACCEL-MaxMC", "PLR-MaxMC", "robust ACCEL", "robust PLR")


def scorecard_figure(card: Scorecard) -> Figure:
    """Draw one line per task: a dot per run or control, at the solved rate, with its interval."""
    count = len(card.measured)
    height = 1.2 + len(card.tasks) * (0.16 + 0.11 * count)
    figure, grid = make_figure(7.2, height)
    axes = grid[0, 0]
    spread = np.linspace(-0.3, 0.3, count) if count > 1 else [0.0]
    for number, (label, one) in enumerate(card.measured.items()):
        scores = card.scores(label)
        point, low, high = np.array([tuple(card.interval(column)) for column in scores.T]).T
        rows = np.arange(len(card.tasks)) + spread[number]
        shade = CONTROL if one.control else colour(number)
        marker = "x" if label == "random policy" else "o"
        axes.hlines(rows, low, high, color=shade, lw=2.5, alpha=0.5)
        axes.plot(point, rows, marker, color=shade, ms=5, label=label, clip_on=False, zorder=3)
    axes.set_yticks(range(len(card.tasks)), card.tasks)
    axes.set_ylim(len(card.tasks) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"solved rate: mean over seeds ({card.spread})", fontsize=9.5)
    axes.grid(visible=False, axis="y")
    axes.spines[["left"]].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9.5)
    return figure


def cvar_figure(card: Scorecard, *, published: bool = True) -> Figure:
    """Draw the mean win rate on the worst alpha of the levels over alpha.

    Args:
        card: with `tail`.
        published: draw the rows of Rutherford et al. 2024 behind ours, faint.
    """
    assert card.tail is not None
    figure, grid = make_figure(7.2, 4.4)
    axes = grid[0, 0]
    percent = 100 * np.array(ALPHAS)
    if published:
        rows = {method: CVAR_SFL.column(method) for method in _DRAWN}
        names = [f"{alpha:g}" for alpha in percent]
        for number, (method, values) in enumerate(rows.items()):
            line = [values[name][0] for name in names]
            axes.plot(percent, line, color="#b4b4b4", lw=1.0, zorder=1)
            # At 5 % the lines are farthest apart; each upper one of a pair is named above, each lower one below.
            side = -1 if number % 2 == 0 else 1
            axes.annotate(
                method, (percent[3], line[3]), xytext=(5 * side, -2 * side), textcoords="offset points", fontsize=7.5,
                color=FAINT, ha="right" if side < 0 else "left", va="bottom" if side < 0 else "top", zorder=1,
            )  # fmt: skip
    for number, (label, found) in enumerate(card.tails().items()):
        point, low, high = np.array([tuple(interval) for interval in found.values()]).T
        ours = 100 * np.array(card.alphas)
        axes.plot(ours, point, "o-", color=colour(number), lw=1.8, ms=4, label=label, zorder=3)
        axes.fill_between(ours, low, high, color=colour(number), alpha=0.17, lw=0, zorder=2)
    axes.set_xscale("log")
    axes.set_xticks(percent, [f"{value:g} %" for value in percent])
    axes.minorticks_off()
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"worst part of {card.tail.described}, chosen by an independent round", fontsize=9.5)
    axes.set_ylabel("mean win rate", fontsize=9.5)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9.5)
    caption = f"shaded: {card.spread}"
    if published:
        caption += "; grey: published, 13 x 13 mazes after 3e8 steps, 10 seeds (Rutherford et al. 2024)"
    figure.supxlabel(caption, fontsize=7.5, color=FAINT, x=0.99, ha="right")
    return figure


def path_length_figure(card: Scorecard) -> Figure:
    """Draw the win rate over the length of the shortest path, above the number of levels of each length."""
    assert card.tail is not None
    figure, grid = make_figure(7.2, 4.4)
    axes = grid[0, 0]
    bins = card.path_bins()
    for number, (label, table) in enumerate(bins.items()):
        at = np.arange(len(table))
        point, low, high = np.array([tuple(card.interval(one.rates)) for one in table]).T
        axes.plot(at, point, "o-", color=colour(number), lw=1.8, ms=4, label=label, zorder=3)
        axes.fill_between(at, low, high, color=colour(number), alpha=0.17, lw=0, zorder=2)
    table = next(iter(bins.values()))
    share = np.array([one.n for one in table]) / max(one.n for one in table)
    axes.bar(np.arange(len(table)), 0.15 * share, 0.7, color="#dddddd", zorder=1)
    axes.set_xticks(range(len(table)), [f"{_span(one.low, one.high)}\n({one.n})" for one in table])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("shortest path from the agent to the goal, in moves (number of levels)", fontsize=9.5)
    axes.set_ylabel("mean win rate", fontsize=9.5)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9.5)
    caption = f"shaded: {card.spread}; bars: number of levels"
    figure.supxlabel(caption, fontsize=7.5, color=FAINT, x=0.99, ha="right")
    return figure


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"
