from __future__ import annotations

import numpy as np
import pytest

from otr import OttConfig, SinkhornConfig, transport
from otr.optimal_transport.sinkhorn import make_solver
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


def test_missing_extras(monkeypatch):
    import otr.optimal_transport.sinkhorn as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    for name, config in (("numba", SinkhornConfig(backend="numba")), ("ott", OttConfig())):
        with pytest.raises(UserError, match=rf"install otr\[{name}\]"):
            make_solver(config)
    assert make_solver(SinkhornConfig()).name == "jax"


def test_long_episodes_are_nothing_special(rng, walk):
    # The authors' code crashes above 1000 steps.
    pytest.importorskip("numba", reason="extra numba")
    x, y = walk(rng, 1500, 3), walk(rng, 20, 3)
    got, wanted = (
        transport([x], [y], solver=SinkhornConfig(backend=name)).expected_costs for name in ("numba", "reference")
    )
    np.testing.assert_allclose(got, wanted, atol=1e-5)
