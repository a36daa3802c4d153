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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from otr.config import BACKENDS, CostConfig, SolverConfig
from otr.optimal_transport.costs import Rows, prepare_rows
from otr.optimal_transport.solvers.problem import Problem, Solution, Solver
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["Problem", "Solution", "Solver", "add_solver", "make_solver", "transport", "transport_plan"]

_ADDED: dict[str, Callable[[], Solver]] = {}


def add_solver(name: str, make: Callable[[], Solver]) -> None:
    """Let `make_solver(name)` return `make()`.

    Raises:
        UserError: there is another of that name.
    """
    if name in BACKENDS or _ADDED.get(name, make) is not make:
        raise UserError(f"There is a solver named {name!r} already: choose another name.")
    _ADDED[name] = make


def make_solver(backend: str = "auto") -> Solver:
    """Return a back end by its name; see `otr.config.SolverConfig`.

    Raises:
        UserError: there is none of that name, or its extra is not installed.
    """
    if backend in _ADDED:
        return _ADDED[backend]()
    if backend not in BACKENDS:
        raise UserError(f"There is no solver {backend!r}{did_you_mean(backend, [*BACKENDS, *_ADDED])}")
    if backend == "auto":
        backend = _choose()
    if backend == "numba":
        _need("numba", "numba")
        from otr.optimal_transport.solvers.numba_solver import NumbaSolver

        return NumbaSolver()
    if backend == "jax":
        from otr.optimal_transport.solvers.jax_solver import JaxSolver

        return JaxSolver()
    if backend == "ott":
        _need("ott", "ott")
        from otr.optimal_transport.solvers.ott_solver import OttSolver

        return OttSolver()
    if backend == "exact":
        from otr.optimal_transport.solvers.exact import ExactSolver

        return ExactSolver()
    from otr.optimal_transport.solvers.reference import ReferenceSolver

    return ReferenceSolver()


def _choose() -> str:
    if importlib.util.find_spec("numba") is None:
        return "jax"
    if any(importlib.util.find_spec(f"jax_{name}") is not None for name in ("cuda12_plugin", "cuda13_plugin")):
        import jax  # only asked where it could say yes: importing it takes a second

        if jax.default_backend() != "cpu":
            return "jax"
    return "numba"


def _need(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(f"The solver {extra!r} needs the extra of that name: install otr[{extra}], or use 'auto'.")


def transport(
    episodes: Sequence[ArrayLike],
    demonstrations: Sequence[ArrayLike],
    *,
    cost: CostConfig | None = None,
    solver: SolverConfig | None = None,
    backend: Solver | None = None,
) -> Solution:
    """Solve every episode against every demonstration.

    Args:
        episodes: E arrays (T_e, D).
        demonstrations: K arrays (T'_k, D).
        cost: the cosine by default.
        solver: the definition of the paper by default.
        backend: a solver; by default what `solver.backend` names.

    Returns:
        The solution. `expected_costs` is (K, N): all steps of the first episode, then those of the second, and so on.
        `np.split(solution.expected_costs, np.cumsum([len(e) for e in episodes])[:-1], axis=1)` gives each episode its
        (K, T_e). `marginal_errors` and `iterations` are (K, E).

    Raises:
        UserError: shapes do not fit, a sequence is empty, or a value is NaN or infinite; the message says where.
    """
    problem = make_problem(episodes, demonstrations, cost or CostConfig(), solver or SolverConfig())
    return (backend or make_solver(problem.config.backend)).solve(problem)


def transport_plan(
    episode: ArrayLike,
    demonstration: ArrayLike,
    *,
    cost: CostConfig | None = None,
    solver: SolverConfig | None = None,
    backend: Solver | None = None,
) -> np.ndarray:
    """Return the plan (T, T') of one pair; its rows sum to 1/T.

    Args:
        episode: (T, D).
        demonstration: (T', D).
        cost: see `transport`, as for the next two.
        solver: likewise.
        backend: likewise.

    Raises:
        UserError: see `transport`.
    """
    problem = make_problem([episode], [demonstration], cost or CostConfig(), solver or SolverConfig())
    return (backend or make_solver(problem.config.backend)).plan(problem)


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
