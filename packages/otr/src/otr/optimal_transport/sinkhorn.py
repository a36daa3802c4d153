"""Transport between episodes and demonstrations: many ragged pairs at once, by a back end of choice.

    from otr.optimal_transport.sinkhorn import transport, transport_plan

    solution = transport([episode_0, episode_1], [demonstration])    # arrays (T, D) and (T', D)
    solution.expected_costs[0]                                        # Ebar of every step, episode after episode

The reward of OTR is a function of Ebar_t = T Σ_j P_tj C_tj, the cost of step t under its part of the plan, in the units
of the cost and independent of the lengths. The authors' code pads both sequences to 1000 steps, gives each real step
the weight 1/1000, and returns q_t = Ebar_t / 1000; with the weights 1/T and 1/T' used here there is nothing to pad.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from otr.optimal_transport.costs import Rows, prepare_rows
from otr.optimal_transport.solvers.problem import Problem, Solution, Solver
from otr.settings.transport import CosineCost, CostConfig, ExactConfig, OttConfig, SinkhornConfig, SolverConfig
from paperloop.errors import UserError

__all__ = ["auto_backend", "make_problem", "make_solver", "prepare_demos", "transport", "transport_plan"]

COSINE = CosineCost()
PUBLISHED = SinkhornConfig()


def make_solver(config: SolverConfig) -> Solver:
    """Return the back end that a configuration names.

    Raises:
        UserError: its extra is not installed.
    """
    if isinstance(config, ExactConfig):
        from otr.optimal_transport.solvers.exact import ExactSolver

        return ExactSolver()
    if isinstance(config, OttConfig):
        _need("ott")
        from otr.optimal_transport.solvers.ott_solver import OttSolver

        return OttSolver()
    backend = auto_backend() if config.backend == "auto" else config.backend
    if backend == "numba":
        _need("numba")
        from otr.optimal_transport.solvers.numba_solver import NumbaSolver

        return NumbaSolver()
    if backend == "jax":
        from otr.optimal_transport.solvers.jax_solver import JaxSolver

        return JaxSolver()
    from otr.optimal_transport.solvers.reference import ReferenceSolver

    return ReferenceSolver()


def auto_backend() -> Literal["jax", "numba"]:
    """Return the back end that "auto" means here; see `otr.settings.transport.SinkhornConfig`."""
    if importlib.util.find_spec("numba") is None:
        return "jax"
    if any(importlib.util.find_spec(f"jax_{name}") is not None for name in ("cuda12_plugin", "cuda13_plugin")):
        import jax  # only asked where it could say yes: importing it takes a second

        if jax.default_backend() != "cpu":
            return "jax"
    return "numba"


def _need(extra: str) -> None:
    if importlib.util.find_spec(extra) is None:
        raise UserError(f"The solver {extra!r} needs the extra of that name: install otr[{extra}], or use 'auto'.")


def transport(
    episodes: Sequence[ArrayLike],
    demonstrations: Sequence[ArrayLike],
    *,
    cost: CostConfig = COSINE,
    solver: SolverConfig = PUBLISHED,
) -> Solution:
    """Solve every episode against every demonstration.

    Args:
        episodes: E arrays (T_e, D).
        demonstrations: K arrays (T'_k, D).
        cost: of moving one vector onto another.
        solver: the definition of the paper by default.

    Returns:
        The solution. `expected_costs` is (K, N): all steps of the first episode, then those of the second, and so on.
        `np.split(solution.expected_costs, np.cumsum([len(e) for e in episodes])[:-1], axis=1)` gives each episode its
        (K, T_e). `marginal_errors` and `iterations` are (K, E).

    Raises:
        UserError: shapes do not fit, a sequence is empty, or a value is NaN or infinite; the message says where.
    """
    return make_solver(solver).solve(make_problem(episodes, demonstrations, cost, solver))


def transport_plan(
    episode: ArrayLike,
    demonstration: ArrayLike,
    *,
    cost: CostConfig = COSINE,
    solver: SolverConfig = PUBLISHED,
) -> np.ndarray:
    """Return the plan (T, T') of one pair; its rows sum to 1/T.

    Args:
        episode: (T, D).
        demonstration: (T', D).
        cost: see `transport`.
        solver: likewise.

    Raises:
        UserError: see `transport`.
    """
    return make_solver(solver).plan(make_problem([episode], [demonstration], cost, solver))


def make_problem(
    episodes: Sequence[Any], demonstrations: Sequence[Any], cost: CostConfig, solver: SolverConfig
) -> Problem:
    """Check, join and prepare sequences of vectors."""
    if not len(episodes) or not len(demonstrations):
        raise UserError("Transport needs at least one episode and one demonstration.")
    rows = [_sequence(values, f"Episode {i}") for i, values in enumerate(episodes)]
    targets = [_sequence(values, f"Demonstration {i}") for i, values in enumerate(demonstrations)]
    width = targets[0].shape[1]
    for name, group in (("Demonstration", targets), ("Episode", rows)):
        for i, values in enumerate(group):
            if values.shape[1] != width:
                raise UserError(
                    f"{name} {i} has vectors of {values.shape[1]} numbers and demonstration 0 of {width}: compare the "
                    "same features of the same environment."
                )
    lengths = np.array([len(values) for values in rows], np.int64)
    starts = np.cumsum(lengths) - lengths
    prepared = prepare_rows(np.concatenate(rows), starts, cost)
    return Problem(prepared, starts, lengths, prepare_demos(targets, cost), solver)


def prepare_demos(demonstrations: Sequence[np.ndarray], cost: CostConfig) -> tuple[Rows, ...]:
    """Prepare each demonstration as an episode of its own."""
    return tuple(prepare_rows(values, np.zeros(1, np.int64), cost) for values in demonstrations)


def _sequence(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise UserError(f"{name} is of shape {array.shape} and type {array.dtype}: give numbers of shape (T, D).")
    if not len(array):
        raise UserError(f"{name} has no steps: leave it out.")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise UserError(f"{name} holds NaN or infinity at step {int(finite.argmin())}: fix it or leave it out.")
    return array
