"""What batches hold under each replay policy, on the real sampling code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paperloop.errors import CheckpointError, UserError
from policy_finetune.agents.programs import stack_weights
from policy_finetune.agents.structure import weights_of
from policy_finetune.config import (
    AppendReplay,
    BalancedReplay,
    DecayReplay,
    DropReplay,
    OnlineAgent,
    OnlineConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.replay.buffers import Replay
from policy_finetune.replay.packing import OfflineData

B = 16
REPLAYS = {
    "append": AppendReplay, "drop": DropReplay, "symmetric": SymmetricReplay, "decay": DecayReplay,
    "balanced": BalancedReplay,
}  # fmt: skip


def build(make_dataset, *replays, env_steps=200, data=True, datasets=None):
    """Return a replay for one agent a policy, and the offline rows."""
    learner = TD3Config(batch_size=B)
    agents = tuple(
        OnlineAgent(learner=learner, replay=r, switch=SwitchConfig(warmup_env_steps=20), seed=i)
        for i, r in enumerate(replays)
    )
    config = OnlineConfig(block=10, env_steps=env_steps, agents=agents)
    packed = OfflineData.pack([make_dataset(0), make_dataset(1, episodes=3)]) if data else None
    layout = OfflineData.pack([make_dataset(0)]).layout
    replay = Replay(config, agents, layout, packed, datasets or [0] * len(agents))
    weights = stack_weights([weights_of(learner, a.replay, a.switch, act_dim=1) for a in agents])
    return replay, {"weights": weights, **replay.own}


def draws(replay, own, block, updates=0, batches=400, agent=0):
    """Return rows [batches, B, width]: online rows are marked by their ring index + 1000 in the first column."""
    ring = jnp.zeros((replay.capacity, replay.layout.width)).at[:, 0].set(1000 + jnp.arange(replay.capacity))
    data = jax.tree.map(lambda x: x[agent], own) | {"block": jnp.int32(block)}
    rows, state, share = replay.sample(
        None, lambda at: ring[at], replay.offline_rows, jax.random.key(block), (batches, B), data, jnp.int32(updates)
    )
    assert state is None
    rows = np.asarray(rows)
    np.testing.assert_allclose(share, (rows[..., 0] < 500).mean(), rtol=1e-5)
    return rows


def offline(rows):
    return rows[..., 0] < 500


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 1.0])
def test_symmetric_has_exactly_its_share_in_every_batch(make_dataset, rho):
    replay, own = build(make_dataset, SymmetricReplay(rho=rho))
    rows = draws(replay, own, block=3)
    np.testing.assert_array_equal(offline(rows).sum(1), int(np.floor(rho * B + 1e-9)))
    online = rows[~offline(rows)][:, 0] - 1000
    if rho < 1:
        assert set(online) == set(range(40))  # four blocks are filled


def test_append_draws_uniformly_from_both(make_dataset):
    replay, own = build(make_dataset, AppendReplay())
    for block in (0, 9):
        found = offline(draws(replay, own, block)).mean()
        expected = 60 / (60 + (block + 1) * 10)
        assert abs(found - expected) < 3 * (expected * (1 - expected) / (400 * B)) ** 0.5


def test_drop_is_online_only_and_decay_falls(make_dataset):
    decay = DecayReplay(rho=0.75, rho_final=0.25, decay_steps=100)
    replay, own = build(make_dataset, DropReplay(), decay)
    assert not offline(draws(replay, own, 2)).any()
    for updates, expected in ((0, 12), (50, 8), (100, 4), (5000, 4)):
        np.testing.assert_array_equal(offline(draws(replay, own, 2, updates, agent=1)).sum(1), expected)


def test_the_best_episodes_of_the_agents_own_dataset(make_dataset):
    best, every = SymmetricReplay(rho=1.0, top_fraction=0.3), SymmetricReplay(rho=1.0)
    replay, own = build(make_dataset, best, every, datasets=[0, 1])
    lookup = {row.tobytes(): i for i, row in enumerate(np.asarray(replay.offline_rows))}
    for agent, expected in ((0, range(20)), (1, range(60, 90))):  # the best 2 of 6 episodes; all 3 of the other file
        drawn = {lookup[row.tobytes()] for row in draws(replay, own, 0, agent=agent).reshape(-1, replay.layout.width)}
        assert drawn == set(expected)


def test_the_ring_overwrites_its_oldest_block(make_dataset):
    replay, _ = build(make_dataset, AppendReplay(capacity=25))
    assert replay.capacity == 30  # whole blocks
    rings = jnp.zeros((1, 30, replay.layout.width))
    insert = jax.jit(replay.insert)
    for block in range(5):
        rings = insert(rings, jnp.full((1, 10, replay.layout.width), float(block)), jnp.int32(block))
        assert int(replay.filled(block)) == min(30, 10 * (block + 1))
    np.testing.assert_array_equal(rings[0, ::10, 0], [3, 4, 2])


def test_a_ring_no_longer_than_the_run(make_dataset):
    replay, _ = build(make_dataset, AppendReplay(), env_steps=45)
    assert replay.capacity == 50


def test_a_longer_run_takes_over_a_shorter_ones_ring(make_dataset):
    for kind in ("append", "balanced"):
        short, _ = build(make_dataset, REPLAYS[kind](), env_steps=40)
        longer, _ = build(make_dataset, REPLAYS[kind](), env_steps=100)
        state = short.init([jax.random.key(0)])
        marked = type(state)(state.rows + 1.0, state.balanced)
        grown = longer.resize(marked, 40)
        like = longer.init([jax.random.key(0)])
        assert jax.tree.map(jnp.shape, grown) == jax.tree.map(jnp.shape, like)
        np.testing.assert_array_equal(grown.rows[0, :, 0], np.arange(100) < 40)
        back = short.resize(grown, 40)
        np.testing.assert_array_equal(back.rows, marked.rows)
        with pytest.raises(CheckpointError, match="holds 60 rows in a ring of 100; this run's ring has 40"):
            short.resize(grown, 60)


def test_what_cannot_be_drawn_is_refused(make_dataset):
    with pytest.raises(UserError, match="Replay 'symmetric' needs offline data and none is given"):
        build(make_dataset, SymmetricReplay(), data=False)
    with pytest.raises(UserError, match="Balanced replay is a program of its own"):
        build(make_dataset, BalancedReplay(), AppendReplay())
    with pytest.raises(UserError, match="same rho, temperature and ratio_lr"):
        build(make_dataset, BalancedReplay(rho=0.1), BalancedReplay())
    with pytest.raises(UserError, match=r"the same replay\.capacity"):
        build(make_dataset, AppendReplay(capacity=100), AppendReplay())
    with pytest.raises(UserError, match="needs dataset 5, but there are 2"):
        build(make_dataset, AppendReplay(), datasets=[5])
    learner = TD3Config(batch_size=64)
    config = OnlineConfig(block=10, learner=learner, switch=SwitchConfig(warmup_env_steps=20))
    with pytest.raises(UserError, match="first batch of 64 would be drawn from 30 online transitions alone"):
        Replay(config, (OnlineAgent(learner=learner),), OfflineData.pack([make_dataset(0)]).layout, None, [0])
