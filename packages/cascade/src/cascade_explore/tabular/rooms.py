"""Exploration of rooms by planning in a table: where the cascade's conditioning can be seen without any network.

States are (x, y, direction), actions left, right and forward. The model of an untried state-action is "no walls", of a
tried one the truth. The bonus of a state-action is 1 / (1 + n + c): n counts real tries, c imagined ones. A policy is
made by imagining an episode in the model and planning anew at each of its steps, with its own imagined tries counted;
the table of greedy actions of each time step is what is then carried out in the real rooms.

- `cascade`: c carries over from one policy of the population to the next, so that policy i maximises what it can learn
  given the imagined episodes of policies 1 .. i-1.
- `population`: c starts at 0 for each policy, which breaks ties its own way (population Plan2Explore).
- `identical`: the same without the noise that breaks ties.
- `random`: uniform actions.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cascade_explore.envs.layouts import DIRECTIONS, WALL, Layout

__all__ = ["METHODS", "Explored", "Rooms", "explore", "make_rooms", "plan"]

Method = Literal["cascade", "population", "identical", "random"]
METHODS: tuple[Method, ...] = ("cascade", "population", "identical", "random")


class Rooms(NamedTuple):
    """A deterministic table of a layout.

    Attributes:
        true: next state, int32 `[S, 3]`.
        prior: next state if there were no walls within the grid, int32 `[S, 3]`.
        reachable: state-actions that can ever be tried, bool `[S, 3]`.
        start: the first state.
        shape: width and height of the grid; state (x, y, d) is number (x * height + y) * 4 + d.
    """

    true: Array
    prior: Array
    reachable: Array
    start: Array
    shape: Array


class Explored(NamedTuple):
    """What a series of deployments found.

    Attributes:
        coverage: share of reachable state-actions tried after each deployment, `[K]`.
        success: share of goals reached by planning in the learned model, after each deployment, `[K]`.
        visits: visits of states by each policy in all deployments, `[B, S]`.
    """

    coverage: Array
    success: Array
    visits: Array


def make_rooms(layout: Layout) -> Rooms:
    """Return the table of a layout. Doors stand open, and goals end nothing."""
    solid = layout.cells[..., 0] == WALL
    width, height = solid.shape
    x, y, d = np.meshgrid(np.arange(width), np.arange(height), np.arange(4), indexing="ij")
    ahead_x, ahead_y = x + DIRECTIONS[d, 0], y + DIRECTIONS[d, 1]
    inside = (ahead_x >= 0) & (ahead_x < width) & (ahead_y >= 0) & (ahead_y < height)
    ahead_x, ahead_y = np.where(inside, ahead_x, x), np.where(inside, ahead_y, y)
    blocked = solid[ahead_x, ahead_y]

    def number(x: np.ndarray, y: np.ndarray, d: np.ndarray) -> np.ndarray:
        return ((x * height + y) * 4 + d).ravel()

    left, right, stay = number(x, y, (d + 3) % 4), number(x, y, (d + 1) % 4), number(x, y, d)
    ahead = number(ahead_x, ahead_y, d)
    prior = np.stack([left, right, ahead], -1)
    true = np.stack([left, right, np.where(blocked.ravel(), stay, ahead)], -1)
    start = (layout.start[0] * height + layout.start[1]) * 4 + layout.direction
    found, edge = np.zeros(len(true), bool), np.array([start])
    while edge.size:
        found[edge] = True
        edge = np.unique(true[edge])
        edge = edge[~found[edge]]
    return Rooms(
        jnp.array(true, jnp.int32), jnp.array(prior, jnp.int32), jnp.array(np.repeat(found[:, None], 3, 1)),
        jnp.int32(start), jnp.array([width, height]),
    )  # fmt: skip


def plan(model: Array, reward: Array, *, horizon: int, gamma: float) -> Array:
    """Return Q `[S, 3]` of `horizon` steps: `Q_h(s, a) = r(s, a) + γ max_b Q_{h-1}(model(s, a), b)`, `Q_0 = 0`."""
    value = jnp.zeros(reward.shape[0])
    value = jax.lax.fori_loop(0, horizon - 1, lambda _, v: (reward + gamma * v[model]).max(-1), value)
    return reward + gamma * value[model]


@partial(jax.jit, static_argnames=("method", "agents", "deployments", "steps", "horizon", "goals"))
def explore(
    rooms: Rooms,
    key: Array,
    *,
    method: Method,
    agents: int,
    deployments: int,
    steps: int = 100,
    horizon: int = 15,
    gamma: float = 0.99,
    noise: float = 1e-4,
    goals: int = 0,
) -> Explored:
    """Explore by deployments of `agents` policies with one episode each; the first deployment is random for all.

    Args:
        rooms: the table.
        key: breaks ties, chooses random actions and goals.
        method: how the policies of a deployment are made.
        agents: B.
        deployments: K.
        steps: of an episode, imagined or real.
        horizon: of planning.
        gamma: discount of planning.
        noise: by which policies of `population` break ties.
        goals: states to reach in the end, drawn from the reachable ones; 0 measures no success.
    """
    size = rooms.true.shape[0]
    goal_key, key = jax.random.split(key)
    wanted = jax.random.choice(goal_key, size, (max(goals, 1),), p=rooms.reachable[:, 0] / rooms.reachable[:, 0].sum())

    def imagine(model: Array, counts: Array, claimed: Array, jitter: Array) -> tuple[Array, Array]:
        """Return the greedy actions `[steps, S]` of one policy, and the tries claimed after its imagined episode."""

        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            state, c = carry
            bonus = 1.0 / (1.0 + counts + c) + jitter
            action = plan(model, bonus, horizon=horizon, gamma=gamma).argmax(-1).astype(jnp.int8)
            a = action[state]
            return (model[state, a], c.at[state, a].add(1.0)), action

        (_, claimed), actions = jax.lax.scan(step, (rooms.start, claimed), length=steps)
        return actions, claimed

    def policies(counts: Array, key: Array) -> Array:
        """Return the greedy actions of the whole population, `[B, steps, S]`."""
        model = jnp.where(counts > 0, rooms.true, rooms.prior)
        none = jnp.zeros_like(counts)
        if method == "identical":
            actions, _ = imagine(model, counts, none, none)
            return jnp.broadcast_to(actions, (agents, *actions.shape))
        jitter = noise * jax.random.uniform(key, (agents, *counts.shape))
        if method == "population":
            return jax.vmap(lambda j: imagine(model, counts, none, j)[0])(jitter)

        def next_policy(claimed: Array, j: Array) -> tuple[Array, Array]:
            actions, claimed = imagine(model, counts, claimed, j)
            return claimed, actions

        return jax.lax.scan(next_policy, none, jitter)[1]

    def real(actions: Array) -> tuple[Array, Array]:
        """Return states and actions of one real episode, given the actions of each time step and state."""

        def step(state: Array, table: Array) -> tuple[Array, tuple[Array, Array]]:
            a = table[state]
            return rooms.true[state, a], (state, a)

        return jax.lax.scan(step, rooms.start, actions)[1]

    def deploy(carry: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        counts, visits = carry
        one, two = jax.random.split(jax.random.fold_in(key, index))
        chance = jax.random.randint(two, (agents, steps, size), 0, 3, jnp.int8)
        made = chance if method == "random" else jax.lax.cond(
            index == 0, lambda: chance, lambda: policies(counts, one)
        )  # fmt: skip
        states, tried = jax.vmap(real)(made)
        counts = counts.at[states, tried].add(1.0)
        visits = visits.at[jnp.arange(agents)[:, None], states].add(1.0)
        share = ((counts > 0) & rooms.reachable).sum() / rooms.reachable.sum()
        return (counts, visits), (share, _success(rooms, counts, wanted, steps) if goals else jnp.zeros(()))

    begin = (jnp.zeros((size, 3)), jnp.zeros((agents, size)))
    (_, visits), (coverage, success) = jax.lax.scan(deploy, begin, jnp.arange(deployments))
    return Explored(coverage, success, visits)


def _success(rooms: Rooms, counts: Array, goals: Array, steps: int) -> Array:
    """Return the share of goal cells that a plan in the learned model reaches in the real rooms, replanning nothing."""
    model = jnp.where(counts > 0, rooms.true, rooms.prior)

    def reaches(goal: Array) -> Array:
        at_goal = jnp.arange(model.shape[0]) // 4 == goal // 4
        reward = at_goal[model].astype(jnp.float32)

        def sweep(_: int, value: Array) -> Array:
            return (jnp.where(at_goal[model], 1.0, 0.99 * value[model])).max(-1)

        value = jax.lax.fori_loop(0, steps, sweep, jnp.zeros(model.shape[0]))
        action = (reward + jnp.where(at_goal[model], 0.0, 0.99 * value[model])).argmax(-1)

        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            state, done = carry
            state = jnp.where(done, state, rooms.true[state, action[state]])
            return (state, done | at_goal[state]), None

        return jax.lax.scan(step, (rooms.start, at_goal[rooms.start]), length=steps)[0][1]

    return jax.lax.map(reaches, goals).mean()
