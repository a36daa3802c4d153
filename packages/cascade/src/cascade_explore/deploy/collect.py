"""Collecting a deployment in environments on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.deploy.acting import Memory, act, start
from cascade_explore.deploy.replay import Rows
from cascade_explore.envs.grid import Grid, GridState
from cascade_explore.explore.imagination import Policies
from cascade_explore.world.model import World

__all__ = ["Collected", "collect"]


class Collected(NamedTuple):
    """What a deployment brought.

    Attributes:
        rows: `[T, B E, ...]`.
        visits: of cells by each agent in each layout, int32 `[B, L, W, H]`.
        episodes: that ended and were followed by another.
        reward: of the environment, summed over all.
    """

    rows: Rows
    visits: Array
    episodes: Array
    reward: Array


class _Carry(NamedTuple):
    env: GridState
    memory: Memory
    reward: Array
    first: Array
    terminal: Array
    cut: Array
    visits: Array


def collect(
    grid: Grid,
    world: World,
    policies: Policies | None,
    params: Any,
    actors: Any,
    key: Array,
    *,
    agents: int,
    envs: int,
    steps: int,
    uniform: Array,
    greedy: bool = False,
) -> Collected:
    """Let every agent act for `steps` rows in each of its environments, from fresh episodes and an empty memory.

    The parameters are arguments and no result: nothing can change a policy while it is deployed. After the last row of
    an episode comes the first row of the next; that reset takes the place of a step.

    Args:
        grid: the environment.
        world: the model through which agents see.
        policies: the agents' networks; None: uniform actions.
        params: the model's parameters.
        actors: the agents' parameters.
        key: of everything random.
        agents: B.
        envs: E, of each agent.
        steps: T.
        uniform: act uniformly instead of by the policies.
        greedy: take the most probable action.
    """
    shape, count = (agents, envs), agents * envs
    reset_key, key = jax.random.split(key)

    def fresh(key: Array) -> GridState:
        return jax.vmap(grid.reset)(jax.random.split(key, count))

    def many(flat: Array) -> Array:
        return flat.reshape(*shape, *flat.shape[1:])

    def step(carry: _Carry, key: Array) -> tuple[_Carry, Rows]:
        one, two = jax.random.split(key)
        seen = jax.vmap(grid.observe)(carry.env)
        memory = act(
            world, policies, params, actors, carry.memory, many(seen), many(carry.first), one,
            uniform=uniform, greedy=greedy,
        )  # fmt: skip
        came = carry.memory.action.reshape(count, -1)
        rows = Rows(
            seen, came.argmax(-1).astype(jnp.uint8), carry.reward, carry.first, carry.terminal
        )  # fmt: skip
        place, layout = many(carry.env.place), many(carry.env.layout)
        agent = jnp.arange(agents)[:, None]
        visits = carry.visits.at[agent, layout, place[..., 0], place[..., 1]].add(1)
        over = carry.terminal | carry.cut
        index = memory.action.reshape(count, -1).argmax(-1)
        env, reward, terminal, cut = jax.vmap(grid.step)(carry.env, index)
        env = jax.tree.map(lambda a, b: jnp.where(over.reshape(-1, *[1] * (a.ndim - 1)), a, b), fresh(two), env)
        after = _Carry(env, memory, jnp.where(over, 0.0, reward), over, terminal & ~over, cut & ~over, visits)
        return after, rows

    none, zero = jnp.zeros(count, bool), jnp.zeros(count)
    visits = jnp.zeros((agents, *grid.reachable.shape), jnp.int32)
    begin = _Carry(fresh(reset_key), start(world, agents, envs), zero, ~none, none, none, visits)
    end, rows = jax.lax.scan(step, begin, jax.random.split(key, steps))
    episodes = rows.first[1:].sum()
    return Collected(rows, end.visits, episodes, rows.reward.sum())
