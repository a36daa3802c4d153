import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from minimax_ued.config import BufferConfig, LSTMConfig, MazeConfig, PPOConfig, ReplayConfig, StudentConfig, TrainConfig
from minimax_ued.cycle.totals import finish_metrics
from minimax_ued.trainer import UEDTrainer

TINY = TrainConfig(
    env=MazeConfig(height=4, width=4, n_walls=2, max_steps=6),
    student=StudentConfig(core=LSTMConfig(features=4), head_width=4, conv_filters=2),
    ppo=PPOConfig(lr=1e-2, epochs=1),
    n_envs=4,
    rollout_steps=12,
    levels_ahead=2,
    cycles_per_step=1,
)


BUFFER = BufferConfig(capacity=12, min_fill=0.5, replay_prob=1.0)


def cycles(config, n):
    """The states after 0, 1, ..., n cycles, and the metrics of each."""
    trainer = UEDTrainer(config)
    run = jax.jit(trainer._cycle)
    states, metrics = [trainer.init(0)], []
    for _ in range(n):
        state, totals = run(states[-1])
        states.append(state)
        metrics.append(finish_metrics(jax.tree.map(lambda x: x[None], totals)))
    return states, jax.device_get(metrics)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.slow
def test_domain_randomisation_learns_in_every_cycle_and_keeps_nothing():
    states, metrics = cycles(TINY, 3)
    for i, (before, after) in enumerate(itertools.pairwise(states)):
        assert not same(before.params, after.params)
        assert [int(x[0]) for x in (after.cycles, after.updates, after.rollouts)] == [i + 1] * 3
    assert states[-1].buffer is None
    assert set(metrics[0]) == set(metrics[-1])
    assert all(np.isfinite(v).all() for m in metrics for v in m.values())
    assert all(m["episodes"] >= 8 for m in metrics)  # 12 steps of 4 environments, at most 6 steps an episode


@pytest.fixture(scope="module")
def robust():
    return cycles(dataclasses.replace(TINY, method=ReplayConfig(buffer=BUFFER)), 5)


@pytest.mark.slow
def test_robust_replay_learns_from_replayed_levels_only(robust):
    states, metrics = robust
    replayed = [bool(m["replay"][0]) for m in metrics]
    assert replayed[0] is False  # an empty buffer
    assert replayed[-1] is True  # replay_prob is 1
    for before, after, replay in zip(states, states[1:], replayed, strict=False):
        assert same((before.params, before.opt_state), (after.params, after.opt_state)) is not replay
    assert states[-1].updates[0] == sum(replayed)
    assert states[-1].rollouts[0] == len(replayed)


@pytest.mark.slow
def test_the_buffer_holds_what_was_played(robust):
    states, metrics = robust
    first = states[1].buffer
    filled = int(first.filled.sum())
    assert 1 <= filled <= TINY.n_envs
    assert np.isfinite(first.scores[first.filled]).all()
    # max_mc of a level: highest return minus mean value, and values start near zero.
    assert (first.max_returns[first.filled] >= 0).all()
    for before, after, m in zip(states, states[1:], metrics, strict=False):
        grew = int(after.buffer.filled.sum()) - int(before.buffer.filled.sum())
        assert grew == 0 if m["replay"][0] else 0 < grew <= TINY.n_envs
        if m["replay"][0]:  # the maximum over all visits never falls
            assert (after.buffer.max_returns >= before.buffer.max_returns).all()
    assert all(np.isfinite(v).all() for m in metrics for v in m.values())
    assert metrics[0]["loss"] == 0  # no update, no loss


@pytest.mark.slow
def test_plain_replay_learns_in_every_cycle():
    states, metrics = cycles(dataclasses.replace(TINY, method=ReplayConfig(learns_from="all", buffer=BUFFER)), 4)
    assert {bool(m["replay"][0]) for m in metrics} == {True, False}
    assert all(not same(a.params, b.params) for a, b in itertools.pairwise(states))


@pytest.mark.slow
def test_seeds_share_a_program_but_nothing_else(robust):
    alone, _ = robust
    config = dataclasses.replace(TINY, method=ReplayConfig(buffer=BUFFER), seeds=2)
    states, metrics = cycles(config, 5)
    assert metrics[0]["return"].shape == (2,)
    first = jax.tree.map(lambda x: x[:1], states[-1])
    np.testing.assert_array_equal(first.cycles, alone[-1].cycles)
    np.testing.assert_array_equal(first.updates, alone[-1].updates)
    np.testing.assert_array_equal(jax.random.key_data(first.key), jax.random.key_data(alone[-1].key))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (first.params, first.buffer),
        (alone[-1].params, alone[-1].buffer),
    )
    second = jax.tree.map(lambda x: x[1], states[-1].params)
    assert not same(jax.tree.map(lambda x: x[0], states[-1].params), second)


@pytest.mark.slow
def test_a_seed_that_does_not_learn_keeps_its_weights():
    """With replay_prob .5 there are cycles in which one of several seeds replays and another does not."""
    config = dataclasses.replace(TINY, method=ReplayConfig(buffer=BufferConfig(capacity=12, min_fill=0.1)), seeds=3)
    states, metrics = cycles(config, 6)
    mixed = 0
    for before, after, m in zip(states, states[1:], metrics, strict=False):
        mixed += 0 < m["replay"].sum() < 3
        for i, replay in enumerate(m["replay"]):
            a, b = (jax.tree.map(lambda x: x[i], (s.params, s.opt_state)) for s in (before, after))  # noqa: B023
            assert same(a, b) is not bool(replay)
    assert mixed > 0


@pytest.mark.slow
def test_annealing_ends_at_zero():
    config = dataclasses.replace(
        TINY, ppo=dataclasses.replace(TINY.ppo, anneal_lr=True), total_env_steps=2 * TINY.steps_per_rollout
    )
    assert config.total_cycles == 2
    states, _ = cycles(config, 4)
    flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(s.params)]) for s in states]
    steps = [np.abs(b - a).max() for a, b in itertools.pairwise(flat)]
    assert steps[0] == pytest.approx(1e-2, rel=0.01)  # Adam's first step is the step size
    assert 0 < steps[1] < 0.8e-2
    assert steps[2] == 0
    assert steps[3] == 0  # and stays there, instead of turning round


def test_metrics_are_means_over_what_occurred():
    totals = {"a": (jnp.array([[3.0], [0.0]]), jnp.array([[2.0], [0.0]])), "b": (jnp.zeros((2, 1)), jnp.zeros((2, 1)))}
    metrics = finish_metrics(totals)
    assert metrics["a"] == 1.5
    assert metrics["b"] == 0.0


@pytest.mark.slow
def test_a_fresh_level_that_the_buffer_knows_is_scored_with_its_highest_return():
    """In a corridor of two cells there are eight levels: fresh ones are soon old acquaintances."""
    config = dataclasses.replace(
        TINY,
        env=MazeConfig(height=1, width=2, n_walls=0, max_steps=6),
        method=ReplayConfig(learns_from="all", buffer=BufferConfig(capacity=12, replay_prob=0.0)),
    )
    trainer = UEDTrainer(config)
    cycle = jax.jit(lambda state: trainer._cycle(state)[0])
    state = trainer.init(0)
    for _ in range(4):
        state = cycle(state)
    known = state.buffer.filled
    best = jnp.where(known, 5.0, -jnp.inf)  # more than any episode gives
    after = cycle(state.replace(buffer=state.buffer.replace(max_returns=best))).buffer
    met = known & (after.ages == 0)
    assert met.sum() >= 2
    assert (after.max_returns[met] == 5).all()
    assert (after.scores[met] > 3).all()  # the highest return minus the mean value, which is near zero
