"""Did labelling help? Rank correlation with the truth, the length confound, convergence.

All rewards of OTR on locomotion are positive, so a label return grows with the length of an episode whatever happens in
it: wherever long episodes are the good ones, a constant reward correlates with the truth as well. `Diagnosis` therefore
gives the correlation of the lengths next to that of the labels, and that of the labels' mean per step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from otr.episodes.truth import known_truth
from otr.labels.facts import LabelFacts, read_facts
from paperloop.errors import UserError, setting
from paperloop_data import EpisodeDataset

__all__ = ["Diagnosis", "diagnose", "spearman"]

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
    from scipy.stats import spearmanr

    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(spearmanr(a, b).statistic)


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
        truth = known_truth(labelled)
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
