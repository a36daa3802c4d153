"""Traces of a peer for the parity checks: `python opshape_traces.py coin_game|in_the_matrix|pax OUT.npz STEPS`.

Runs in the peer's environment. Every array has the steps as leading axis.
"""

from __future__ import annotations

import collections
import sys
from typing import Any

import numpy as np


def coin_game(steps: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    from jaxmarl.environments.coin_game.coin_game import CoinGame

    env = CoinGame(num_inner_steps=16, num_outer_steps=1_000_000 // 16, cnn=True, egocentric=True)

    def step(carry: Any, key: Any) -> Any:
        state = carry
        act, draw = jax.random.split(key)
        actions = jax.random.randint(act, (2,), 0, 5)
        seen, after, rewards, _, info = env.step_env(draw, state, {"0": actions[0], "1": actions[1]})

        def places(s: Any) -> Any:
            return jnp.stack([s.red_pos, s.blue_pos, s.red_coin_pos, s.blue_coin_pos])

        out = {
            "before": places(state), "after": places(after), "actions": actions, "first": seen["0"],
            "second": seen["1"], "rewards": jnp.stack([rewards["0"], rewards["1"]]),
            "end": info["inner_episode_done"],
        }  # fmt: skip
        return after, out

    state = env.reset(jax.random.key(0))[1]
    return jax.jit(lambda s, k: jax.lax.scan(step, s, k))(state, jax.random.split(jax.random.key(1), steps))[1]


def in_the_matrix(steps: int) -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    from jaxmarl.environments.storm.storm_2p import InTheGrid_2p

    env = InTheGrid_2p(num_inner_steps=152, num_outer_steps=1_000_000, fixed_coin_location=False)
    weights = jnp.log(jnp.array([0.1, 0.1, 0.5, 0.2, 0.1]))

    def describe(s: Any) -> dict[str, Any]:
        return {
            "place": jnp.stack([s.red_pos, s.blue_pos]), "grid": s.grid, "freeze": s.freeze, "step": s.step,
            "inventory": jnp.stack([s.red_inventory, s.blue_inventory]), "blue_coins": s.blue_coins,
        }  # fmt: skip

    def step(state: Any, key: Any) -> Any:
        act, draw = jax.random.split(key)
        actions = jax.random.categorical(act, weights, shape=(2,))
        seen, after, rewards, _, _ = env.step_env(draw, state, (actions[0], actions[1]))
        out = {f"before_{n}": v for n, v in describe(state).items()} | {
            f"after_{n}": v for n, v in describe(after).items()
        }
        out |= {
            "actions": actions, "red_keeps": jax.random.choice(draw, jnp.array([0, 1])), "rewards": jnp.stack(rewards),
            "view_first": seen[0]["observation"], "view_second": seen[1]["observation"],
            "inventory_first": seen[0]["inventory"], "inventory_second": seen[1]["inventory"],
        }  # fmt: skip
        return after, out

    state = env.reset(jax.random.key(0))[1]
    return jax.jit(lambda s, k: jax.lax.scan(step, s, k))(state, jax.random.split(jax.random.key(1), steps))[1]


def pax(updates: int) -> dict[str, Any]:
    """Updates of pax's tabular PPO on random trajectories, one after the other, and its GRU on random numbers."""
    import haiku as hk
    import jax
    import jax.numpy as jnp
    import optax
    from pax.agents.ppo.networks import make_ipd_network
    from pax.agents.ppo.ppo import PPO
    from pax.utils import MemoryState

    steps, games, epochs, parts = 20, 4, 2, 4
    network = make_ipd_network(2, True, 16)
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.scale_by_adam(eps=1e-5), optax.scale(-1.0))
    agent = PPO(
        network=network, optimizer=optimiser, random_key=jax.random.PRNGKey(0), obs_spec=(5,), num_envs=games,
        num_minibatches=parts, num_epochs=epochs, clip_value=True, value_coeff=0.5, anneal_entropy=False,
        entropy_coeff_start=0.02, ppo_clipping_epsilon=0.2, gamma=0.96, gae_lambda=0.95, tabular=True,
    )  # fmt: skip

    rng = np.random.default_rng(0)
    state, found = agent._state, []
    Batch = collections.namedtuple(
        "Batch", "observations actions rewards behavior_log_probs behavior_values dones hiddens"
    )
    for number in range(updates):
        seen = rng.integers(0, 5, (steps + 1, games))
        onehot = jax.nn.one_hot(seen, 5)
        distribution, values = network.apply(state.params, onehot.reshape(-1, 5))
        actions = rng.integers(0, 2, (steps, games))
        logits = distribution.logits.reshape(steps + 1, games, 2)
        padded = jnp.pad(jnp.asarray(actions), ((0, 1), (0, 0)))[..., None]
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), padded, -1)
        rewards = rng.normal(size=(steps, games))
        ends = np.zeros((steps, games), bool)
        ends[-1] = number % 2 == 1
        batch = Batch(
            onehot[:-1], jnp.asarray(actions), jnp.asarray(rewards, jnp.float32), log_probs[:-1, :, 0],
            values.reshape(steps + 1, games)[:-1], jnp.asarray(ends), jnp.zeros((steps, games, 1)),
        )  # fmt: skip
        memory = MemoryState(jnp.zeros((games, 1)), {"values": jnp.zeros(games), "log_probs": jnp.zeros(games)})
        key = state.random_key  # the update takes its permutations from it
        orders = []
        for _ in range(epochs):
            key, sub = jax.random.split(key)
            orders.append(jax.random.permutation(sub, steps * games))
        state, _, _ = agent.update(batch, onehot[-1], state, memory)
        weights = {"/".join(k): v for k, v in _leaves(state.params)}
        found.append({"seen": seen, "actions": actions, "rewards": rewards, "last": ends[-1, 0],
                      "orders": np.stack(orders), **weights})  # fmt: skip

    cell = hk.without_apply_rng(hk.transform(lambda x, h: hk.GRU(6)(x, h)[1]))
    x, h = rng.normal(size=(3, 4)).astype("f"), rng.normal(size=(3, 6)).astype("f")
    params = cell.init(jax.random.PRNGKey(1), x, h)
    params = jax.tree_util.tree_map(lambda w: jnp.asarray(rng.normal(size=w.shape), jnp.float32), params)
    after = cell.apply(params, x, h)
    gru = {f"gru_{k[-1]}": v for k, v in _leaves(params)} | {"gru_x": x, "gru_h": h, "gru_after": after}
    stacked = {k: np.stack([np.asarray(f[k]) for f in found]) for k in found[0]}
    return {**stacked, **gru}


def _leaves(params: Any) -> list[tuple[tuple[str, ...], Any]]:
    return [((module, name), value) for module, inner in params.items() for name, value in inner.items()]


if __name__ == "__main__":
    kind, path, count = sys.argv[1:]
    traces = {"coin_game": coin_game, "in_the_matrix": in_the_matrix, "pax": pax}[kind](int(count))
    np.savez(path, **{name: np.asarray(value) for name, value in traces.items()})
