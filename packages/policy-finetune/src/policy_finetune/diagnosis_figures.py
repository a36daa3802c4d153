"""One figure of a diagnosis: returns, distances to the data, and what the critics promise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from outerloop import plots
from policy_finetune.diagnosis_rules import Diagnosis

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
    figure = Figure(figsize=(4.4 * panels, 3.5), layout="constrained")
    axes = figure.subplots(1, panels)
    colours = [plots.COLOURS[i % len(plots.COLOURS)] for i in range(len(policy_returns))]
    _returns(axes[0], diagnosis, data_returns, policy_returns, colours)
    _distances(axes[1], own, visited, colours)
    if panels == 3:
        _promises(axes[2], promises, colours)
    for each in axes:
        each.tick_params(labelsize=7)
        each.spines[["top", "right"]].set_visible(False)
    return figure


def _returns(axes, diagnosis, data_returns, policy_returns, colours) -> None:
    everything = np.concatenate([data_returns, *policy_returns, [diagnosis.random.point]])
    low, high = everything.min(), everything.max()
    bins = np.linspace(low, high if high > low else low + 1, 41)
    axes.hist(
        data_returns, bins, weights=np.full(len(data_returns), 1 / len(data_returns)), color="#BBBBBB", label="data"
    )
    mean = diagnosis.data.returns
    axes.axvspan(mean.low, mean.high, color="#777777", alpha=0.3, linewidth=0)
    axes.axvline(mean.point, color="#777777", linewidth=1.5, label="data, mean")
    axes.axvline(diagnosis.random.point, color=plots.INK, linestyle=":", linewidth=1.2, label="random")
    for i, (agent, returns) in enumerate(zip(diagnosis.agents, policy_returns, strict=True)):
        axes.axvspan(agent.returns.low, agent.returns.high, color=colours[i], alpha=0.2, linewidth=0)
        axes.axvline(agent.returns.point, color=colours[i], linewidth=1.5, label=_name(agent))
        axes.plot(returns, np.full(len(returns), -0.02), "|", color=colours[i], markersize=6, clip_on=False)
        if agent.greedy is not None:
            label = "its critic alone" if i == 0 else None
            axes.axvline(agent.greedy.point, color=colours[i], linewidth=1.2, linestyle="--", label=label)
    axes.set_ylim(bottom=-0.04)
    axes.set_title("returns", fontsize=9)
    axes.set_xlabel("return of an episode", fontsize=8)
    axes.set_ylabel("share of the data's episodes", fontsize=8)
    axes.legend(fontsize=7, frameon=False)


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
