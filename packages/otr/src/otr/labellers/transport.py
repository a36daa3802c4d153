"""OTR: rewards by optimal transport (Luo et al. 2023, arXiv 2303.13971)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from otr.config import OTRConfig
from otr.episodes.features import Scaler, check_compatible, features, fit_scaler, warn_about_zeros
from otr.labellers.common import divisor
from otr.labellers.interface import Labels
from otr.labellers.rewards import aggregate, squash
from otr.optimal_transport.costs import prepare_rows
from otr.optimal_transport.sinkhorn import make_solver, prepare_demos
from otr.optimal_transport.solvers.problem import Problem
from paperloop_data import EpisodeDataset

__all__ = ["FittedTransport", "TransportLabeller"]


class TransportLabeller:
    """See the module.

    Args:
        config: what and how.
    """

    def __init__(self, config: OTRConfig) -> None:
        self.config = config

    def fit(self, demos: EpisodeDataset, data: EpisodeDataset) -> FittedTransport:
        """See `Labeller.fit`."""
        check_compatible(data, demos, self.config.features)
        scaler = fit_scaler(data, demos, self.config.features)
        return FittedTransport(self.config, demos, scaler, data)


class FittedTransport:
    """One transport problem between each episode and each demonstration."""

    def __init__(self, config: OTRConfig, demos: EpisodeDataset, scaler: Scaler | None, data: EpisodeDataset) -> None:
        self.config = config
        self._scaler = scaler
        values = features(demos, config.features, scaler)
        if config.cost.kind == "cosine":
            warn_about_zeros(values, demos, "demonstrations")
        bounds = zip(demos.episode_starts, demos.episode_ends, strict=True)
        self._demos = prepare_demos([values[start:end] for start, end in bounds], config.cost)
        self._divisor = divisor(config.squash, data, values.shape[1])
        self._solver = make_solver(config.solver.backend)

    def problem(self, data: EpisodeDataset) -> Problem:
        """Return the transport problems of some episodes."""
        values = features(data, self.config.features, self._scaler)
        if self.config.cost.kind == "cosine":
            warn_about_zeros(values, data, "data")
        rows = prepare_rows(values, data.episode_starts, self.config.cost)
        return Problem(rows, data.episode_starts, data.lengths, self._demos, self.config.solver)

    def label(self, data: EpisodeDataset) -> Labels:
        """See `Fitted.label`. Per step: the expected cost; per episode: demonstration and marginal error."""
        solution = self._solver.solve(self.problem(data))
        rewards, chosen = aggregate(
            squash(solution.expected_costs, self.config.squash, self._divisor),
            data.episode_starts,
            self.config.aggregate,
        )
        episodes = np.arange(data.num_episodes)
        steps = {"expected_cost": solution.expected_costs[chosen[data.episode_of_row], np.arange(data.num_steps)]}
        facts = {
            "demonstration": chosen,
            "marginal_error": solution.marginal_errors[chosen, episodes],
            "iterations": solution.iterations[chosen, episodes],
        }
        return Labels(rewards, steps, facts)

    def plan(self, data: EpisodeDataset, episode: int, demonstration: int = 0) -> np.ndarray:
        """Return the transport plan (T, T') between one episode of `data` and one demonstration."""
        problem = self.problem(data.select([episode]))
        return self._solver.plan(problem._replace(demos=(problem.demos[demonstration],)))

    def describe(self) -> Mapping[str, Any]:
        """See `Fitted.describe`."""
        return {"solver": self._solver.name, "divisor": self._divisor, "demonstrations": len(self._demos)}
