"""Meta-gradients: credit by hand, and where M-FOS gets one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from opshape.agents.encoders import OneHot
from opshape.agents.mfos import MFOS
from opshape.agents.policies import Recurrent
from opshape.agents.tabular import TabularLearner
from opshape.games.matrix import IteratedMatrixGame
from opshape.games.payoffs import PAYOFFS
from opshape.meta.gradient import Gradient, coala_advantages, trial_advantages
from opshape.play.arena import Arena
from opshape.play.trial import Trial

TRIAL = Trial(IteratedMatrixGame(PAYOFFS["ipd"]), steps=4, episodes=3, games=2, records=True)
TERMS = {"lr": 1e-2, "epochs": 1, "gamma": 0.9, "lam": 1.0, "clip": 0.2, "value_weight": 0.5, "entropy": 0.0}


def make(objective, *, unroll=True):
    return Gradient(objective=objective, unroll=unroll, max_norm=1.0, **TERMS)


def test_credit_crosses_episodes_only_when_asked():
    rewards = jnp.zeros((2, 2, 1)).at[1, 1, 0].set(1.0)  # one reward, at the very end
    values = jnp.zeros((2, 2, 1))
    across = trial_advantages(rewards, values, gamma=0.5, lam=1.0, across=True)
    np.testing.assert_allclose(across[..., 0], [[0.125, 0.25], [0.5, 1]])
    apart = trial_advantages(rewards, values, gamma=0.5, lam=1.0, across=False)
    np.testing.assert_allclose(apart[..., 0], [[0, 0], [0.5, 1]])


def test_coala_by_hand():
    # two episodes of one step, two games; undiscounted: own reward of this episode / B, and the mean of later ones
    rewards = jnp.array([[[1.0, 3.0]], [[10.0, 20.0]]])
    values = jnp.zeros_like(rewards)
    found = coala_advantages(rewards, values, gamma=1.0, lam=1.0, norm=2.0)
    np.testing.assert_allclose(found[:, 0], [[0.5 + 15, 1.5 + 15], [5, 10]])
    mfos = coala_advantages(rewards, values, gamma=1.0, lam=1.0, norm=1.0)
    np.testing.assert_allclose(mfos[:, 0], [[1 + 15, 3 + 15], [10, 20]])


MEMORY = Recurrent(OneHot(5), 2, 4, mix="avg")
META = MFOS(OneHot(5), 2, 4)


@functools.cache
def recorded(policy):
    """Return an arena, a parameter vector that is not at its start, and a recorded trial of it with its rewards."""
    where = Arena(TRIAL, policy, TabularLearner(), co_players=2)
    vector = jax.jit(where.init)(jax.random.key(0)) + 0.1
    return where, vector, jax.jit(where.play)(vector, jax.random.key(1)).record


@pytest.mark.parametrize("unroll", [True, False], ids=["correct", "as in the reference"])
def test_the_meta_network_of_mfos_gets_a_gradient_only_when_trials_are_unrolled(unroll):
    (where, vector, record), optimiser = recorded(META), make("trial", unroll=unroll)
    batch = optimiser.batch(*record)
    gradient = where.unravel(jax.jit(lambda v: jax.grad(optimiser.loss)(v, where, batch))(vector))
    largest = {part: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient[part])) for part in gradient}
    assert largest["actor"] > 1e-6
    assert largest["critic"] > 1e-6
    assert (largest["meta"] > 1e-7) == unroll
    assert (largest["theta"] > 1e-7) == unroll


@pytest.mark.parametrize("policy", [MEMORY, META], ids=["shaper", "mfos"])
def test_replaying_a_trial_repeats_what_was_acted(policy):
    (where, vector, (step, _)), optimiser = recorded(policy), make("coala")
    logits, value = jax.jit(lambda v: optimiser.replay(v, where, step))(vector)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), step.action[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, step.log_prob, atol=1e-5)
    np.testing.assert_allclose(value, step.value, atol=1e-5)


def test_the_gradient_is_that_of_the_objective_when_the_policy_has_not_moved():
    """At ratio 1 the surrogate's gradient is sum of A grad log pi, whatever the clip."""
    where, vector, record = recorded(MEMORY)

    def gradient(vector, clip):
        optimiser = Gradient(objective="trial", unroll=True, max_norm=1.0, **(TERMS | {"clip": clip}))
        return jax.grad(lambda v: optimiser.loss(v, where, optimiser.batch(*record)))(vector)

    narrow, wide = (jax.jit(gradient)(vector, clip) for clip in (0.2, 10.0))
    np.testing.assert_allclose(narrow, wide, atol=1e-5)
    assert np.abs(narrow).max() > 1e-4
