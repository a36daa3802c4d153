"""Runs longer than 2^31 updates: counters neither turn negative nor lose count, and schedules stay where they ended."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from policy_finetune.config import DropReplay, NetworkConfig, OfflineConfig, OnlineConfig, TD3Config
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.learners.base import LARGEST, cosine_rate, counted, folded, ramp
from policy_finetune.presets import LEARNERS
from policy_finetune.trainers.offline import OfflineTrainer
from policy_finetune.trainers.online import OnlineTrainer

TINY = NetworkConfig(hidden=(4,))


def i32(value):
    return jnp.asarray(value, jnp.int32)


@pytest.mark.parametrize(("count", "more", "expected"), [
    (0, True, 1), (7, False, 7), (LARGEST - 1, True, LARGEST), (LARGEST, True, LARGEST), (LARGEST, False, LARGEST),
])  # fmt: skip
def test_a_counter_stays_at_its_largest_value(count, more, expected):
    found = counted(i32(count), jnp.asarray(more))
    assert (int(found), found.dtype) == (expected, jnp.int32)


@pytest.mark.parametrize("period", [1, 7, 100, 2**29])
def test_a_folded_counter_keeps_its_place_in_the_period(period):
    count = int(folded(i32(LARGEST), i32(period)))
    assert count % period == LARGEST % period
    assert 2**30 <= count < LARGEST
    assert int(folded(i32(123), i32(period))) == 123


def test_schedules_have_ended_and_stay_so():
    assert float(cosine_rate(1e-3, i32(LARGEST), steps=jnp.asarray(1e6))) == pytest.approx(0.0, abs=1e-9)
    assert float(ramp(1.0, jnp.asarray(0.25), jnp.asarray(1e6), counted(i32(LARGEST)))) == 0.25


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("iql", "sac")]


@pytest.mark.parametrize("name", ["bc", "td3", *SLOW])
def test_learners_go_on_past_the_end_of_their_counters(name, make_dataset):
    network = dataclasses.replace(LEARNERS[name].network, hidden=TINY.hidden)
    learner = dataclasses.replace(LEARNERS[name], policy_delay=1, network=network, batch_size=8)
    trainer = OfflineTrainer(OfflineConfig(learner=learner, updates=10**10, updates_per_step=1000), make_dataset())
    state = trainer.init(0)
    inner = dataclasses.replace(
        state.learner, updates=jnp.full_like(state.learner.updates, LARGEST - 1),
        rounds=jnp.full_like(state.learner.rounds, LARGEST - 1),
    )  # fmt: skip
    state = dataclasses.replace(state, learner=inner, dispatches=jnp.full_like(state.dispatches, 5_000_000))
    assert trainer.progress(state) == {"updates": 5_000_000_000}  # 250 million steps of 20 updates each
    state, metrics = trainer.step(state)
    assert trainer.progress(state) == {"updates": 5_000_001_000}
    assert int(state.learner.updates[0]) == LARGEST
    assert int(state.learner.rounds[0]) >= 2**30
    assert all(np.isfinite(value).all() for value in metrics.values())


def test_a_long_online_run_counts_exactly_and_keeps_its_ring():
    learner = TD3Config(network=TINY, batch_size=8, policy_delay=2)
    config = OnlineConfig(
        learner=learner, env_id="Pendulum-v1", env_steps=5 * 10**9, block=10, utd=2.0,
        replay=DropReplay(capacity=70),
    )  # fmt: skip
    trainer = OnlineTrainer(config, EnvSpec.of("Pendulum-v1"))
    state = dataclasses.replace(trainer.init(0), block=4 * 10**8)
    assert trainer.progress(state) == {"env_steps": 4 * 10**9, "updates": (4 * 10**8 - 100) * 20}
    for block in (0, 3, 6, 7, 8, 4 * 10**8 + 3):
        number = trainer.replay.number(block)
        assert number.dtype == np.int32
        assert int(trainer.replay._at(jnp.asarray(number))) == block * 10 % 70
        assert int(trainer.replay.filled(jnp.asarray(number))) == min((block + 1) * 10, 70)
