"""Playing many episodes of many students as one program: slots that take the next episode when theirs is over.

Episodes are of very unequal length: a student that knows its way needs twenty steps where a lost one takes all T.
Played side by side to the end of the longest, most of the work would be spent on episodes that are over. Here a fixed
number of slots works off a queue of attempts, so that the cost is the number of steps that were really taken, and the
memory does not grow with the number of levels.

The random numbers of an attempt come from its place in the queue, not from the slot that happens to play it: results do
not depend on the number of slots.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.envs.base import Environment, success_return
from minimax_ued.nets.students import Student
from paperloop.errors import UserError

__all__ = ["Episodes", "Policy", "check_policy", "play_attempts"]

#: How actions are chosen: sampled from the student's policy, its most likely action, or uniformly (a control).
Policy = Literal["sampled", "greedy", "random"]


class Episodes(NamedTuple):
    """First episodes.

    Attributes:
        returns: f32[...], undiscounted.
        lengths: i32[...], in steps.
        solved: bool[...], the return exceeds the environment's `success_return`.
    """

    returns: Array
    lengths: Array
    solved: Array


def check_policy(policy: str) -> None:
    """Refuse what is not a `Policy`.

    Raises:
        UserError: the message names what there is.
    """
    if policy not in get_args(Policy):
        raise UserError(f"policy is {policy!r}, but must be one of {', '.join(map(repr, get_args(Policy)))}.")


def play_attempts(
    env: Environment,
    student: Student,
    params: Any,
    keys: Array,
    levels: Any,
    *,
    attempts: int = 1,
    policy: Policy = "sampled",
    limits: Array | None = None,
    slots: int | None = None,
) -> Episodes:
    """Play every level several times, by several students of one architecture, each from an empty memory.

    Args:
        env: the environment.
        student: the network.
        params: its variables, with a leading axis over students (seeds), `[S, ...]`.
        keys: typed keys `[S]`, all randomness.
        levels: leading axis L, the same for all students.
        attempts: episodes on each level, K.
        policy: how actions are chosen.
        limits: i32 `[L]`, steps after which the episode on each level is cut off, where that is before
            `env.max_steps`. The environment's rewards do not know of it.
        slots: episodes in progress at a time, for each student; None for what fits a core's caches or fills a GPU.

    Returns:
        Episodes, `[S, L, K]`.

    Raises:
        UserError: there is no such policy, or an argument is out of range.
    """
    check_policy(policy)
    for name, value in (("attempts", attempts), ("slots", slots)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}, but must be at least 1.")
    n = jax.tree.leaves(levels)[0].shape[0]
    if limits is None:
        limits = jnp.full(n, env.max_steps, jnp.int32)
    if slots is None:
        slots = 256 if jax.default_backend() == "cpu" else 16_384
    slots, scale = min(n * attempts, slots), jnp.float32(policy != "random")
    return _play_attempts(env, student, policy == "greedy", attempts, slots, params, keys, levels, limits, scale)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _play_attempts(
    env: Environment,
    student: Student,
    greedy: bool,
    attempts: int,
    slots: int,
    params: Any,
    keys: Array,
    levels: Any,
    limits: Array,
    scale: Array,
) -> Episodes:
    """One program for all evaluators with an equal environment and student.

    The logits are multiplied by `scale`: the random policy is the sampled one at 0, and the same program.
    """
    queue = attempts * limits.shape[0]
    prepared = jax.vmap(env.prepare)(levels)

    def look_up(job: Array) -> tuple[Array, Any]:
        """The level of each slot's attempt; of the last one for slots that are out of work."""
        index = jnp.minimum(job, queue - 1) // attempts
        return index, jax.tree.map(lambda x: x[index], prepared)

    def random_keys(key: Array, job: Array, draw: Array) -> Array:
        return jax.vmap(lambda j, i: jax.random.fold_in(jax.random.fold_in(key, j), i))(job, draw)

    def begin(key: Array) -> dict[str, Any]:
        job = jnp.arange(slots)
        _, level = look_up(job)
        return {
            "job": job,
            "next": jnp.int32(slots),
            "time": jnp.zeros(slots, jnp.int32),
            "total": jnp.zeros(slots),
            "state": jax.vmap(env.reset)(random_keys(key, job, jnp.zeros(slots, jnp.int32)), level),
            "carry": student.initial_carry(slots),
            "returns": jnp.zeros(queue),
            "lengths": jnp.zeros(queue, jnp.int32),
        }

    def step(params: Any, key: Array, loop: dict[str, Any]) -> dict[str, Any]:
        job, time = loop["job"], loop["time"]
        index, level = look_up(job)
        starts = time == 0
        fresh = jax.vmap(env.reset)(random_keys(key, job, jnp.zeros_like(time)), level)
        state = _select(starts, fresh, loop["state"])
        observation = jax.vmap(env.observe)(level, state)
        carry, output = student.apply(params, loop["carry"], observation, starts, method="step")
        if greedy:
            actions = output.logits.argmax(-1)
        else:
            action_keys = random_keys(key, job, 2 * time + 1)
            actions = jax.vmap(jax.random.categorical)(action_keys, output.logits * scale)
        state, timestep = jax.vmap(env.step)(random_keys(key, job, 2 * time + 2), level, state, actions)
        total, time = loop["total"] + timestep.reward, time + 1

        working = job < queue
        over = working & (timestep.done | (time >= limits[index]))
        place = jnp.where(over, job, queue)  # beyond the end: nothing is written
        taken = loop["next"] + jnp.cumsum(over) - 1
        return {
            "job": jnp.where(over, jnp.minimum(taken, queue), job),
            "next": loop["next"] + over.sum(),
            "time": jnp.where(over | ~working, 0, time),
            "total": jnp.where(over, 0.0, total),
            "state": state,
            "carry": carry,
            "returns": loop["returns"].at[place].set(total, mode="drop"),
            "lengths": loop["lengths"].at[place].set(time, mode="drop"),
        }

    # The loop is outside of the vmap over students, so that its condition is one for all, and the results are written
    # in place instead of being chosen again at every step.
    loop = jax.lax.while_loop(
        lambda loop: (loop["job"] < queue).any(),
        lambda loop: jax.vmap(step)(params, keys, loop),
        jax.vmap(begin)(keys),
    )
    shape = (keys.shape[0], -1, attempts)
    returns, lengths = loop["returns"].reshape(shape), loop["lengths"].reshape(shape)
    return Episodes(returns, lengths, returns > success_return(env))


def _select(mask: Array, then: Any, otherwise: Any) -> Any:
    """`jnp.where` over trees, the mask belonging to the first axis."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (jnp.ndim(a) - 1)), a, b)

    return jax.tree.map(choose, then, otherwise)
