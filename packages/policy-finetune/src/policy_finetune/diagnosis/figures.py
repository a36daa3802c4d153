"""One figure of a diagnosis: returns, distances to the data, and what the critics promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paperloop_lab import plots
from policy_finetune.diagnosis.rules import Diagnosis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["diagnosis_figure"]

#: Points of a scatter plot.
POINTS = 1500


def diagnosis_figure(
    diagnosis: Diagnosis,
    data_returns: np.ndarray,
    policy_returns: Sequence[np.ndarray],
    own: np.ndarray,
    visited: Sequence[np.ndarray],
    promises: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Draw what a diagnosis found, agents by colour.

    Args:
        diagnosis: the diagnosis.
        data_returns: (E,) of the data's episodes.
        policy_returns: for each agent (E',).
        own: (Q,) distances of the data's states to other episodes.
        visited: for each agent (S,) distances of visited states to the data.
        promises: for each agent the returns that came and the values promised, (S',) each, empty without critics.
    """
    from matplotlib.figure import Figure

    panels = 3 if any(len(came) for came, _ in promises) else 2
    rows = 2 + sum(1 if agent.greedy is None else 2 for agent in diagnosis.agents)
    figure = Figure(figsize=(4.4 * panels, max(3.5, 2.3 + 0.17 * rows)), layout="constrained")
    grid = figure.add_gridspec(2, panels, height_ratios=(0.17 * rows, 1.5))
    means = figure.add_subplot(grid[0, 0])
    returns = figure.add_subplot(grid[1, 0], sharex=means)
    axes = [means, returns, *(figure.add_subplot(grid[:, column]) for column in range(1, panels))]
    colours = [plots.COLOURS[i % len(plots.COLOURS)] for i in range(len(policy_returns))]
    _means(means, diagnosis, policy_returns, colours)
    _returns(returns, data_returns)
    _distances(axes[2], own, visited, colours)
    if panels == 3:
        _promises(axes[3], promises, colours)
    for each in axes:
        each.tick_params(labelsize=7)
        each.spines[["top", "right"]].set_visible(False)
    return figure


def _means(axes, diagnosis, policy_returns, colours) -> None:
    """A row for each mean with its interval; above a policy's, a mark for each of its episodes."""
    rows = [("random", diagnosis.random, plots.INK, "o"), ("data", diagnosis.data.returns, "#777777", "o")]
    for i, (agent, returns) in enumerate(zip(diagnosis.agents, policy_returns, strict=True)):
        marks = np.full(len(returns), len(rows) - 0.33)
        axes.plot(returns, marks, "|", color=colours[i], markersize=5, markeredgewidth=0.8)
        rows.append((_name(agent), agent.returns, colours[i], "o"))
        if agent.greedy is not None:
            rows.append(("its critic alone", agent.greedy, colours[i], "D"))
    for y, (_, mean, colour, shape) in enumerate(rows):
        axes.plot([mean.low, mean.high], [y, y], color=colour, linewidth=1.3)
        face = colour if shape == "o" else "white"
        axes.plot(mean.point, y, shape, color=colour, markerfacecolor=face, markersize=4)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.tick_params(labelbottom=False)
    axes.set_title("returns: mean, 95 % interval (|: an episode)", fontsize=9)


def _returns(axes, data_returns) -> None:
    low, high = data_returns.min(), data_returns.max()
    bins = np.linspace(low, high if high > low else low + 1, 31)
    axes.hist(data_returns, bins, weights=_shares(data_returns), color="#BBBBBB")
    axes.set_xlabel("return of an episode", fontsize=8)
    axes.set_ylabel("share of the\ndata's episodes", fontsize=8)


def _distances(axes, own, visited, colours) -> None:
    """Distances on a logarithmic axis: those of a policy outside the data are orders of magnitude larger."""
    floor = 1e-4
    everything = np.maximum(np.concatenate([own, *visited]), floor)
    bins = np.geomspace(everything.min() * 0.99, everything.max() * 1.01, 41)
    axes.hist(
        np.maximum(own, floor), bins, weights=np.full(len(own), 1 / len(own)), color="#BBBBBB", label="data's own"
    )
    for i, far in enumerate(visited):
        label = "visited by the policy" if i == 0 else None
        axes.hist(
            np.maximum(far, floor), bins, weights=_shares(far), histtype="step", color=colours[i],
            linewidth=1.3, label=label,
        )  # fmt: skip
    axes.axvline(np.quantile(own, 0.95), color="#777777", linestyle=":", linewidth=1.2, label="95 % of the data's own")
    axes.set_xscale("log")
    axes.set_title("distance to the nearest state of the data", fontsize=9)
    axes.set_xlabel("standard deviations, root mean square over dimensions", fontsize=8)
    axes.set_ylabel("share of states", fontsize=8)
    axes.legend(fontsize=7, frameon=False)


def _promises(axes, promises, colours) -> None:
    ends = []
    for i, (came, promised) in enumerate(promises):
        if not len(came):
            continue
        pick = np.linspace(0, len(came) - 1, min(len(came), POINTS)).astype(int)
        axes.plot(came[pick], promised[pick], ".", color=colours[i], markersize=2, alpha=0.4)
        ends += [came.min(), came.max(), promised.min(), promised.max()]
    line = [min(ends), max(ends)]
    axes.plot(line, line, color=plots.INK, linewidth=1, linestyle=":", label="as promised")
    axes.set_title("what the critics promise", fontsize=9)
    axes.set_xlabel("discounted return that came", fontsize=8)
    axes.set_ylabel("Q(s, π(s))", fontsize=8)
    axes.legend(fontsize=7, frameon=False)


def _shares(values: np.ndarray) -> np.ndarray:
    return np.full(len(values), 1 / len(values))


def _name(agent) -> str:
    return f"policy {agent.label} {agent.index}".replace("  ", " ")
