"""Learning curves of runs, in the style of all packages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperloop_lab import plots
from paperloop_lab.stats import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["run_figure"]

#: Metrics of training that are worth a panel: the first of them that vary are drawn, with what their axis says.
TRAINING = {
    "q": "mean Q (scaled rewards)",
    "distance_over_epsilon": "distance / ε",
    "lambda": "multiplier λ",
    "bc_distance": "squared distance to the data's actions",
    "offline_share": "offline share of a batch",
    "critic_loss": "critic loss (scaled rewards)",
}


def run_figure(
    steps: np.ndarray, returns: np.ndarray, labels: Sequence[str], training: Sequence[Mapping[str, Any]],
    per_step: int, *, x: str, random_return: float | None = None,
) -> Figure:  # fmt: skip
    """Draw the return of each arm over steps, and next to it what training says: at most two of `TRAINING`.

    A line is the median over the arm's agents, shaded from the lowest to the highest.

    Args:
        steps: (T,) of the evaluations.
        returns: (T, A).
        labels: (A,) the agents' arms.
        training: rows of metrics, from before the first update too.
        per_step: steps that one step of the metrics file takes.
        x: what a step is.
        random_return: drawn as a reference, where it is known.
    """
    # Before the first update these are 0 because there is nothing to measure, which would look like a cliff.
    training = [row for row in training if np.any(np.asarray(row.get("learning", 1.0)) > 0)]
    known = [name for name in TRAINING if training and name in training[-1]]
    shown = [name for name in known if np.ptp([row[name] for row in training]) > 0][:2]
    figure, grid = plots.new_figure(4.4 + 3.6 * len(shown), 3.4, 1, 1 + len(shown))
    panels = np.ravel(grid)
    _arms(panels[0], steps, returns, labels)
    if random_return is not None:
        panels[0].axhline(random_return, color=plots.FAINT, lw=1, ls=":", label="random policy", zorder=1)
    panels[0].set_title("evaluation", loc="left")
    panels[0].set_ylabel("return of the deterministic policy")
    plots.legend(panels[0])
    at = np.array([row["step"] * per_step for row in training], float)
    for axes, name in zip(panels[1:], shown, strict=True):
        _arms(axes, at, np.array([row[name] for row in training], float), labels)
        axes.set_title("training", loc="left")
        axes.set_ylabel(TRAINING[name])
    for axes in panels:
        axes.set_xlabel(x)
        _thousands(axes, steps)
    if len(set(labels)) < len(labels):
        text = "median over the agents of an arm; shaded: lowest to highest"
        figure.supxlabel(text, fontsize=8, color=plots.FAINT, x=0.99, ha="right")
    return figure


def _arms(axes: Any, x: np.ndarray, values: np.ndarray, labels: Sequence[str]) -> None:
    for number, label in enumerate(dict.fromkeys(labels)):
        own = values[:, [i for i, other in enumerate(labels) if other == label]]
        middle = Interval(np.median(own, axis=1), own.min(axis=1), own.max(axis=1))
        plots.band(axes, x, middle, number, label)


def _thousands(axes: Any, steps: np.ndarray) -> None:
    if len(steps) and steps[-1] >= 10_000:
        from matplotlib.ticker import EngFormatter

        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
