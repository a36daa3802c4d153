"""Figures of labels: a transport plan, and labelled against true return."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from otr.diagnosis.diagnose import spearman
from otr.episodes.truth import known_truth
from otr.labels.facts import read_facts
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset
from paperloop_lab import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_returns", "effective_support", "plan_figure", "returns_figure"]


def effective_support(plan: np.ndarray) -> np.ndarray:
    """Return (T,) how many demonstration steps each step is spread over: exp of the entropy of its row, 1 to T'."""
    from scipy.stats import entropy

    return np.exp(entropy(plan, axis=1))


def plan_figure(plan: np.ndarray, *, title: str = "transport plan") -> Figure:
    """Draw a plan (T, T'): where each step of the episode finds its match.

    Each row is divided by its largest entry, so that sharp and blurred rows are both seen.
    """
    figure, axes = plots.new_figure(4.8, 4.4)
    rows = plan / np.maximum(plan.max(axis=1, keepdims=True), 1e-30)
    image = axes.imshow(rows, origin="lower", aspect="auto", cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xlabel("step of the demonstration")
    axes.set_ylabel("step of the episode")
    axes.set_title(title, loc="left")
    figure.colorbar(image, ax=axes, shrink=0.8, label="mass, each row divided by its own largest").outline.set_visible(
        False
    )
    support = float(np.median(effective_support(plan)))
    _note(figure, f"a step is spread over {support:.1f} demonstration steps (median)")
    return figure


def returns_figure(labelled: EpisodeDataset, truth: np.ndarray | None = None, *, title: str | None = None) -> Figure:
    """Draw labelled against true return, a point for each episode, coloured by its length.

    Raises:
        UserError: the truth is not known.
    """
    figure, axes = plots.new_figure(5.2, 4.0)
    true_returns, points = draw_returns(axes, labelled, truth)
    if np.ptp(labelled.lengths):
        figure.colorbar(points, ax=axes, shrink=0.8, label="steps").outline.set_visible(False)
    axes.set_xlabel("true return")
    axes.set_ylabel("labelled return")
    name = read_facts(labelled).labeller or "labels"
    axes.set_title(title or f"{name}: labelled against true return", loc="left")
    ranks = {"rank correlation": labelled.returns(), "of the length": labelled.lengths}
    known = {text: spearman(values, true_returns) for text, values in ranks.items()}
    said = [f"{text} {value:.3f}" for text, value in known.items() if not math.isnan(value)]
    _note(figure, "; ".join(said) or "no rank correlation: all returns are equal")
    return figure


def draw_returns(axes: Any, labelled: EpisodeDataset, truth: np.ndarray | None = None) -> tuple[np.ndarray, Any]:
    """Draw the points of `returns_figure`; return the true returns (E,), and the points.

    Raises:
        UserError: the truth is not known.
    """
    truth = known_truth(labelled) if truth is None else truth
    if truth is None:
        raise UserError(f"{labelled.where}: the true rewards are not known; give them as truth.")
    true_returns = np.add.reduceat(np.asarray(truth, np.float64), labelled.episode_starts)
    varied = bool(np.ptp(labelled.lengths))
    colours: dict[str, Any] = {"c": labelled.lengths, "cmap": "viridis"} if varied else {"color": plots.COLOURS[0]}
    return true_returns, axes.scatter(true_returns, labelled.returns(), s=14, alpha=0.8, linewidths=0, **colours)


def _note(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=8, color=plots.FAINT, x=0.99, ha="right")
