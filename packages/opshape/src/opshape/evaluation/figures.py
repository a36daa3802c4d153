"""Figures of evaluations and tournaments, as matplotlib figures that the caller saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from opshape.evaluation.measure import Measured

__all__ = ["matrix_figure", "trial_figure"]

COLOURS = ("#1f77b4", "#d95f02", "#2a9d5c", "#7b4fa3", "#8c6d31", "#555555")


def trial_figure(measured: Mapping[str, Measured], *, title: str = "", stop: int | None = None) -> Figure:
    """Draw reward per step over the episodes of a trial, one panel a shaper, both players in each.

    Args:
        measured: panel's title -> trials.
        title: of the whole.
        stop: the episode after which the co-player no longer learns, drawn as a line.
    """
    figure = Figure(figsize=(1.2 + 3.4 * len(measured), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, (name, trials) in zip(panels, measured.items(), strict=True):
        for label, rewards, colour in zip(("shaper", "co-player"), (trials.own, trials.other), COLOURS, strict=False):
            curves = rewards.reshape(-1, rewards.shape[-1])
            middle, error = curves.mean(0), 1.96 * curves.std(0) / np.sqrt(len(curves))
            at = np.arange(1, len(middle) + 1)
            axes.plot(at, middle, color=colour, lw=2, label=label)
            axes.fill_between(at, middle - error, middle + error, color=colour, alpha=0.2, lw=0)
        if stop is not None:
            axes.axvline(stop, color="#999999", lw=1, ls="--")
        axes.set_title(name, fontsize=10.5)
        axes.set_xlabel("episode of the trial")
        _plain(axes)
    panels[0].set_ylabel("reward per step")
    panels[-1].legend(frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11.5)
    return figure


def matrix_figure(names: Sequence[str], means: np.ndarray, halves: np.ndarray, *, title: str = "") -> Figure:
    """Draw a cross-play matrix: the row player's reward against each column, with half the interval's width.

    Args:
        names: of rows and columns.
        means: `[n, n]`.
        halves: `[n, n]`.
        title: of the figure.
    """
    n = len(names)
    figure = Figure(figsize=(2.4 + 1.05 * n, 1.5 + 0.7 * n), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = axes.imshow(means, cmap="RdYlGn", aspect="auto")
    middle = 0.5 * (means.min() + means.max())
    spread = max(float(np.ptp(means)), 1e-9)
    for i in range(n):
        for j in range(n):
            dark = abs(means[i, j] - middle) > 0.4 * spread
            axes.text(j, i, f"{means[i, j]:.3f}\n±{halves[i, j]:.3f}", ha="center", va="center", fontsize=8.5,
                      color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(n), names, rotation=30, ha="right")
    axes.set_yticks(range(n), names)
    axes.set_ylabel("reward of")
    axes.set_xlabel("against")
    figure.colorbar(shown, ax=axes, shrink=0.85)
    if title:
        axes.set_title(title, fontsize=11)
    return figure


def _plain(axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(visible=True, color="#E6E6E6", lw=0.8)
    axes.set_axisbelow(True)
