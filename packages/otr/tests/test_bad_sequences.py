from __future__ import annotations

import numpy as np
import pytest

from otr import SolverConfig, transport
from otr.optimal_transport.sinkhorn import add_solver, make_solver
from otr.optimal_transport.solvers.reference import ReferenceSolver
from paperloop.errors import UserError


@pytest.mark.parametrize(
    ("episodes", "demos", "message"),
    [
        ([], [np.ones((2, 3))], "at least one episode and one demonstration"),
        ([np.ones((2, 3))], [np.ones((2, 4))], "Episode 0 has vectors of 3 numbers and demonstration 0 of 4"),
        ([np.ones((2, 3)), np.ones(3)], [np.ones((2, 3))], r"Episode 1 is of shape \(3,\)"),
        ([np.ones((0, 3))], [np.ones((2, 3))], "Episode 0 has no steps"),
        ([np.ones((2, 3))], [np.array([[1, np.nan, 0]])], "Demonstration 0 holds NaN or infinity at step 0"),
        ([np.array([["a"]], object)], [np.ones((2, 1))], "type object"),
    ],
)
def test_messages(episodes, demos, message):
    with pytest.raises(UserError, match=message):
        transport(episodes, demos)


def test_solvers_by_name():
    with pytest.raises(UserError, match="no solver 'nunba'; did you mean \"numba\""):
        make_solver("nunba")
    add_solver("mine", ReferenceSolver)
    assert isinstance(make_solver("mine"), ReferenceSolver)
    with pytest.raises(UserError, match="a solver named 'numba' already"):
        add_solver("numba", ReferenceSolver)


def test_missing_extras(monkeypatch):
    import otr.optimal_transport.sinkhorn as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    for name in ("numba", "ott"):
        with pytest.raises(UserError, match=rf"install otr\[{name}\]"):
            make_solver(name)
    assert make_solver("auto").name == "jax"


def test_long_episodes_are_nothing_special(rng, walk):
    # The authors' code crashes above 1000 steps.
    pytest.importorskip("numba", reason="extra numba")
    x, y = walk(rng, 1500, 3), walk(rng, 20, 3)
    got, wanted = (
        transport([x], [y], solver=SolverConfig(backend=name)).expected_costs for name in ("numba", "reference")
    )
    np.testing.assert_allclose(got, wanted, atol=1e-5)
