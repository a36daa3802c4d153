"""Criteria as scores of levels: the adapter gives what minimax-ued's own scores give."""

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("minimax_ued")

from generalized_exploration import criterion
from generalized_exploration.levels import as_score
from paperloop.errors import UserError


def rollout(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    shape = (12, 5)
    dones = rng.random(shape) < 0.3
    dones[-1, 0] = True
    return {
        "rewards": jnp.asarray(np.where(dones, rng.random(shape) < 0.5, 0.0), jnp.float32),
        "dones": jnp.asarray(dones),
        "values": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "advantages": jnp.asarray(rng.normal(size=shape), jnp.float32),
        "max_returns": jnp.full(5, -jnp.inf),
    }


def test_learnability_is_that_of_minimax():
    from minimax_ued.replay.scores import get_score

    name = as_score(criterion("learnability"))
    assert name == "learnability_criterion"
    found, _ = get_score(name)(**rollout())
    p = np.asarray(get_score("learnability")(**rollout())[0])
    np.testing.assert_allclose(found, p, rtol=1e-6)


def test_a_step_counts_if_its_episode_ends():
    from minimax_ued.replay.scores import get_score

    name = as_score(criterion("l1_value_loss"))
    arrays = rollout()
    found, _ = get_score(name)(**arrays)
    dones, advantages = np.asarray(arrays["dones"]), np.abs(np.asarray(arrays["advantages"]))
    expected = []
    for level in range(5):
        ends = np.flatnonzero(dones[:, level])
        expected.append(advantages[: ends[-1] + 1, level].mean() if ends.size else -np.inf)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_reference_is_the_optimum():
    from minimax_ued.replay.scores import get_score

    name = as_score(criterion("relative_regret"))
    with pytest.raises(UserError, match="needs optimal_returns"):
        get_score(name)(**rollout())
    found, _ = get_score(name)(**rollout(), optimal_returns=jnp.ones(5))
    assert (np.asarray(found)[np.isfinite(found)] >= 0).all()


def test_what_no_rollout_has_is_refused():
    with pytest.raises(UserError, match=r"needs loss and reference_loss"):
        as_score(criterion("reducible_loss"))
