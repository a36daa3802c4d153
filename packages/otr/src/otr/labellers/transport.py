"""OTR: rewards by optimal transport (Luo et al. 2023, arXiv 2303.13971)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from otr.config import MinimumDistanceConfig, OTRConfig, SegmentMatchingConfig
from otr.episodes.features import Features, warn_about_zeros
from otr.labellers.interface import Labels
from otr.labellers.rewards import aggregate, divisor, squash
from otr.optimal_transport.costs import Rows, prepare_rows
from otr.optimal_transport.sinkhorn import make_solver, prepare_demos
from otr.optimal_transport.solvers.problem import Problem
from otr.settings.transport import CosineCost
from paperloop_data import EpisodeDataset

__all__ = ["Compared", "FittedTransport"]


class Compared:
    """Features, demonstrations and divisor of the labellers that compare episodes by a cost.

    Attributes:
        config: its settings.
        demos: each demonstration, prepared for the cost.
        divisor: D of the squashing.
    """

    def __init__(
        self, config: OTRConfig | MinimumDistanceConfig | SegmentMatchingConfig, demos: EpisodeDataset,
        data: EpisodeDataset,
    ) -> None:  # fmt: skip
        self.config = config
        self._features = Features(config.features, demos, data)
        values = self._values(demos, "demonstrations")
        bounds = zip(demos.episode_starts, demos.episode_ends, strict=True)
        self.demos = prepare_demos([values[start:end] for start, end in bounds], config.cost)
        self.divisor = divisor(config.squash, data, values.shape[1])

    def rows(self, data: EpisodeDataset) -> Rows:
        """Return the steps of some episodes, prepared for the cost."""
        return prepare_rows(self._values(data, "data"), data.episode_starts, self.config.cost)

    def _values(self, data: EpisodeDataset, name: str) -> np.ndarray:
        values = self._features(data)
        if isinstance(self.config.cost, CosineCost):
            warn_about_zeros(values, data, name)
        return values

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"divisor": self.divisor, "demonstrations": len(self.demos)}


class FittedTransport(Compared):
    """One transport problem between each episode and each demonstration."""

    config: OTRConfig

    def __init__(self, config: OTRConfig, demos: EpisodeDataset, data: EpisodeDataset) -> None:
        super().__init__(config, demos, data)
        self._solver = make_solver(config.solver)

    def problem(self, data: EpisodeDataset) -> Problem:
        """Return the transport problems of some episodes."""
        return Problem(self.rows(data), data.episode_starts, data.lengths, self.demos, self.config.solver)

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per episode: demonstration, marginal error, iterations."""
        solution = self._solver.solve(self.problem(data))
        rewards = squash(solution.expected_costs, self.config.squash, self.divisor)
        rewards, chosen = aggregate(rewards, data.episode_starts, self.config.aggregate)
        episodes = np.arange(data.num_episodes)
        facts = {
            "demonstration": chosen,
            "marginal_error": solution.marginal_errors[chosen, episodes],
            "iterations": solution.iterations[chosen, episodes],
        }
        return Labels(rewards, facts)

    def plan(self, data: EpisodeDataset, episode: int, demonstration: int = 0) -> np.ndarray:
        """Return the transport plan (T, T') between one episode of `data` and one demonstration."""
        problem = self.problem(data.select([episode]))
        return self._solver.plan(problem._replace(demos=(problem.demos[demonstration],)))

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"solver": self._solver.name, **super().describe()}
