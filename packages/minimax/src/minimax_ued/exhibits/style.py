"""The look that the figures of an evaluation share."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from paperloop_lab import plots

__all__ = ["CONTROL", "FAINT", "INK", "colour", "make_figure", "thousands"]

INK, FAINT, CONTROL, _GRID = "#222222", "#777777", "#9a9a9a", "#e6e6e6"


def make_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    """Return an empty figure and its axes `[rows, columns]`."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = np.array(figure.subplots(rows, columns, squeeze=False))
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#aaaaaa")
        axes.grid(visible=True, color=_GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors=FAINT, length=0)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
    return figure, grid


def colour(number: int) -> str:
    """Return the colour of the n-th run, the same in all figures."""
    return plots.COLOURS[number % len(plots.COLOURS)]


def thousands(value: float, _: Any = None) -> str:
    """Return 2_500_000 as "2.5 M"; a formatter of matplotlib."""
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale:
            return f"{value / scale:g}{unit}"
    return f"{value:g}"
