"""Did labelling help? Rank correlation with the truth, the length confound, convergence, and two figures.

All rewards of OTR on locomotion are positive, so a label return grows with the length of an episode whatever happens in
it: wherever long episodes are the good ones, a constant reward correlates with the truth as well. `Diagnosis` therefore
gives the correlation of the lengths next to that of the labels, and that of the labels' mean per step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from otr.episodes.truth import ORIGINAL_REWARDS, true_rewards
from otr.labels.facts import LabelFacts, read_facts
from paperloop.errors import UserError, setting
from paperloop_data import EpisodeDataset
from paperloop_lab.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnosis", "diagnose", "effective_support", "plan_figure", "returns_figure", "spearman"]


#: The share of vanished labels from which it is said.
MANY_VANISHED = 0.01


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is known about labels. Correlations are Spearman's; NaN where one side is constant or the truth unknown.

    Attributes:
        episodes: how many.
        steps: how many.
        labeller: its name, if the dataset says.
        by_episode: labelled return against true return.
        by_step: label against true reward.
        length_with_truth: length of an episode against true return: what a constant reward achieves.
        length_with_labels: length against labelled return.
        mean_label: mean label per step of an episode against true return.
        equal_length: labelled return against true return among the episodes of the commonest length, if at least 3.
        equal_length_episodes: how many those are.
        marginal_error: (mean, largest) marginal error of the transport plans, or None.
        demonstrations: episodes that each demonstration was chosen for; empty where labels are the mean over all.
        scale_factor: what rewards were multiplied by, or None.
        vanished: the share of labels that an exponential took to next to nothing, see
            `otr.labellers.rewards.vanished`, or None.
        findings: sentences on what looks wrong.
    """

    episodes: int
    steps: int
    labeller: str | None
    by_episode: float
    by_step: float
    length_with_truth: float
    length_with_labels: float
    mean_label: float
    equal_length: float
    equal_length_episodes: int
    marginal_error: tuple[float, float] | None
    demonstrations: tuple[int, ...]
    scale_factor: float | None
    vanished: float | None
    findings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values; NaN becomes None."""
        values = dataclasses.asdict(self)
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's rank correlation with average ranks for ties; NaN where a side is constant or has one value."""
    from scipy.stats import rankdata

    if len(a) < 2:
        return math.nan
    x, y = rankdata(a), rankdata(b)
    x, y = x - x.mean(), y - y.mean()
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0 else math.nan


def diagnose(labelled: EpisodeDataset, truth: np.ndarray | None = None) -> Diagnosis:
    """Compare labels with the truth.

    Args:
        labelled: what `otr.labels.labelling.label` made, or any dataset.
        truth: (N,) true rewards; by default the extra "infos/original_rewards", if there is one and it is not all 0.

    Raises:
        UserError: `truth` has another length.
    """
    facts = read_facts(labelled)
    if truth is None:
        truth = true_rewards(labelled) if ORIGINAL_REWARDS in labelled.extras else None
        if truth is not None and not truth.any():
            truth = None  # a file without rewards was read as zeros
    elif np.shape(truth) != (labelled.num_steps,):
        raise UserError(f"{labelled.where}: true rewards of shape {np.shape(truth)} for {labelled.num_steps} steps.")
    lengths = labelled.lengths
    returns = labelled.returns()
    nan = math.nan
    by_episode = by_step = with_truth = mean_label = equal = nan
    same = np.zeros(0, np.int64)
    if truth is not None:
        true_returns = np.add.reduceat(np.asarray(truth, np.float64), labelled.episode_starts)
        by_episode = spearman(returns, true_returns)
        by_step = spearman(labelled.rewards, np.asarray(truth))
        with_truth = spearman(lengths, true_returns)
        mean_label = spearman(returns / lengths, true_returns)
        values, counts = np.unique(lengths, return_counts=True)
        same = np.flatnonzero(lengths == values[counts.argmax()])
        if len(same) >= 3:
            equal = spearman(returns[same], true_returns[same])
    errors = facts.episodes.marginal_error
    marginal = None if not errors else (float(np.mean(errors)), float(np.max(errors)))
    chosen = [] if facts.config.get("aggregate") == "mean" else facts.episodes.demonstration
    number = len(facts.demonstration_lengths)
    found = Diagnosis(
        episodes=labelled.num_episodes,
        steps=labelled.num_steps,
        labeller=facts.labeller,
        by_episode=by_episode,
        by_step=by_step,
        length_with_truth=with_truth,
        length_with_labels=spearman(lengths, returns),
        mean_label=mean_label,
        equal_length=equal,
        equal_length_episodes=len(same),
        marginal_error=marginal,
        demonstrations=tuple(np.bincount(chosen, minlength=number).tolist()) if chosen else (),
        scale_factor=facts.scale_factor,
        vanished=facts.vanished,
        findings=(),
    )
    return dataclasses.replace(found, findings=tuple(_findings(found, facts)))


def _findings(d: Diagnosis, facts: LabelFacts) -> list[str]:
    said = []
    if d.vanished is not None and d.vanished >= MANY_VANISHED:
        said.append(
            f"{d.vanished:.0%} of the labels have vanished: these steps are so far from the demonstrations that the "
            f"exponential is 0 whatever they do. {_cure(facts.config)}"
        )
    if 1 in facts.demonstration_lengths:
        said.append(
            f"{facts.demonstration_lengths.count(1)} of {len(facts.demonstration_lengths)} demonstrations have a "
            "single step, so there is nothing to compare a course with: look at where episodes end "
            f"({setting('episode_ends')}), or give other demonstrations."
        )
    if facts.scale_guarded:
        said.append("All episodes have the same labelled return, so the labels were not scaled.")
    if d.by_episode - d.length_with_truth < 0.02 and d.length_with_truth > 0.5:
        said.append(
            f"The length of an episode alone ranks the episodes as well ({d.length_with_truth:.2f}) as the labels do "
            f"({d.by_episode:.2f}): compare with a constant reward."
        )
    if d.by_episode <= -0.2:
        said.append(
            f"The labels rank the episodes against the truth (rank correlation {d.by_episode:.2f}): better episodes "
            "have lower labelled returns."
        )
    elif d.by_episode < 0.2:
        said.append(f"Labelled and true returns hardly agree (rank correlation {d.by_episode:.2f}).")
    if d.marginal_error is not None and d.marginal_error[1] > 0.1:
        said.append(
            f"The marginal error of a plan is up to {d.marginal_error[1]:.2g}, of 2 at most: half of it is the share "
            "of a demonstration's mass that is misplaced. The published definition stops there; the preset "
            "otr-converged iterates until it fits."
        )
    return said


def _cure(config: Mapping[str, Any]) -> str:
    """What brings vanished labels back."""
    features = config.get("features")
    if isinstance(features, Mapping) and features.get("scaling") == "none":
        return f"Bring all features to one size with {setting('features.scaling', 'standard')}."
    rate = "squash.beta" if "squash" in config else "beta"
    return f"Take a smaller rate ({setting(rate)})."


def effective_support(plan: np.ndarray) -> np.ndarray:
    """Return (T,) how many demonstration steps each step is spread over: exp of the entropy of its row, 1 to T'."""
    rows = plan / plan.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(rows > 0, rows * np.log(rows), 0.0).sum(axis=1)
    return np.exp(entropy)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # no pyplot, so nothing global changes
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=9, length=0)
    return figure, axes


def plan_figure(plan: np.ndarray, *, title: str = "transport plan") -> Figure:
    """Draw a plan (T, T'): where each step of the episode finds its match (`paperloop_lab.plots.save_figure` saves it).

    Each row is divided by its largest entry, so that sharp and blurred rows are both seen.
    """
    figure, axes = _axes(4.8, 4.4)
    rows = plan / np.maximum(plan.max(axis=1, keepdims=True), 1e-30)
    image = axes.imshow(rows, origin="lower", aspect="auto", cmap="magma_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlabel("step of the demonstration", fontsize=10)
    axes.set_ylabel("step of the episode", fontsize=10)
    axes.set_title(title, loc="left", fontsize=11.5)
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("mass, each row divided by its own largest", fontsize=9)
    bar.outline.set_visible(False)
    support = float(np.median(effective_support(plan)))
    figure.supxlabel(
        f"a step is spread over {support:.1f} demonstration steps (median)", fontsize=8, x=0.99, ha="right"
    )
    return figure


def returns_figure(labelled: EpisodeDataset, truth: np.ndarray | None = None, *, title: str | None = None) -> Figure:
    """Draw labelled against true return, a point for each episode, coloured by its length.

    Raises:
        UserError: the truth is not known.
    """
    if truth is None and ORIGINAL_REWARDS in labelled.extras:
        truth = true_rewards(labelled)
    if truth is None:
        raise UserError(f"{labelled.where}: the true rewards are not known; give them as truth.")
    true_returns = np.add.reduceat(np.asarray(truth, np.float64), labelled.episode_starts)
    returns = labelled.returns()
    figure, axes = _axes(5.2, 4.0)
    if labelled.lengths.min() == labelled.lengths.max():
        axes.scatter(true_returns, returns, s=14, color=COLOURS[0], alpha=0.8, linewidths=0)
    else:
        points = axes.scatter(true_returns, returns, s=14, c=labelled.lengths, cmap="viridis", alpha=0.85, linewidths=0)
        bar = figure.colorbar(points, ax=axes, shrink=0.8)
        bar.set_label("steps", fontsize=9)
        bar.outline.set_visible(False)
    axes.grid(visible=True, color="#E6E6E6", lw=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("true return", fontsize=10)
    axes.set_ylabel("labelled return", fontsize=10)
    name = read_facts(labelled).labeller or "labels"
    axes.set_title(title or f"{name}: labelled against true return", loc="left", fontsize=11.5)
    of_labels, of_lengths = (spearman(values, true_returns) for values in (returns, labelled.lengths))
    known = [f"rank correlation {of_labels:.3f}"] if not math.isnan(of_labels) else []
    known += [f"of the length {of_lengths:.3f}"] if not math.isnan(of_lengths) else []
    figure.supxlabel("; ".join(known) or "no rank correlation: all returns are equal", fontsize=8, x=0.99, ha="right")
    return figure
