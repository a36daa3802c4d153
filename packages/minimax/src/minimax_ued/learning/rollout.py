"""Rolling a student out: one scan over S steps of B environments that restart themselves."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.envs.autoreset import AutoReset
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.nets.students import Student, StudentOutput

__all__ = ["Trajectory", "log_prob", "rollout"]


class Trajectory(struct.PyTreeNode):
    """S steps of B environments.

    Attributes:
        carries: the student's memory before the first step of each of K chunks of S / K steps, `[K, B, ...]`.
        observations: what each action was chosen on, `[S, B, ...]`.
        resets: bool `[S, B]`, the observation is the first of an episode, so that the memory before it is void.
        actions: i32 `[S, B]`.
        log_probs: f32 `[S, B]`, log-probability of each action when it was chosen.
        values: f32 `[S, B]`, V when each action was chosen.
        rewards: f32 `[S, B]`.
        terminated: bool `[S, B]`, the episode ended with this step.
        truncated: bool `[S, B]`, the episode was cut off after this step.
        last_value: f32 `[B]`, V of the observation after the last step.
        truncation_values: f32 `[S, B]`, V of the observation that followed a step after which the episode was cut off,
            elsewhere arbitrary; None where they were not asked for.
    """

    carries: Any
    observations: Any
    resets: Array
    actions: Array
    log_probs: Array
    values: Array
    rewards: Array
    terminated: Array
    truncated: Array
    last_value: Array
    truncation_values: Array | None

    @property
    def dones(self) -> Array:
        """Bool `[S, B]`, the episode is over after this step for either reason."""
        return self.terminated | self.truncated


def log_prob(logits: Array, actions: Array) -> Array:
    """Return the log-probability `[...]` of `actions [...]` under `logits [..., A]`."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), actions[..., None], axis=-1)[..., 0]


def rollout(
    auto: AutoReset,
    student: Student,
    variables: Any,
    key: Array,
    levels: Any,
    *,
    steps: int,
    chunks: int = 1,
    truncation_values: bool = False,
    constrain: Constraint = unconstrained,
) -> Trajectory:
    """Roll the student out from the start of an episode in each environment.

    Args:
        auto: the environment and what follows an episode: one on a fresh level, or one on the same level again.
        student: the network.
        variables: its variables.
        key: all randomness: later levels, resets, environment steps, actions.
        levels: the levels of the first episodes, leading axis B.
        steps: S.
        chunks: K, a divisor of S.
        truncation_values: evaluate the observation that follows each cut-off, for bootstrapping. An environment is cut
            off at most S // T times in S steps from a reset, so these observations and memories are put by and
            evaluated together after the scan.
        constrain: `constrain(tree, axis)` says how the environment axis is laid out over devices.
    """
    n_envs = jax.tree.leaves(levels)[0].shape[0]
    n_cut_offs = steps // auto.env.max_steps if truncation_values else 0

    def act(carry: Any, observation: Any, resets: Array) -> tuple[Any, StudentOutput]:
        return student.apply(variables, carry, observation, resets, method="step")

    def body(loop: dict[str, Any], key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
        action_key, step_key = jax.random.split(key)
        observation = auto.observe(loop["state"])
        carry, output = act(loop["carry"], observation, loop["resets"])
        actions = jax.random.categorical(action_key, output.logits)
        state, timestep, last = auto.step_and_last(step_key, loop["state"], actions)
        record = {
            "observations": observation,
            "resets": loop["resets"],
            "actions": actions,
            "log_probs": log_prob(output.logits, actions),
            "values": output.value,
            "rewards": timestep.reward,
            "terminated": timestep.terminated,
            "truncated": timestep.truncated,
        }
        later = {"state": state, "carry": carry, "resets": timestep.done}
        if n_cut_offs:
            cut_offs = loop["cut_offs"]
            write = timestep.truncated & (cut_offs == jnp.arange(n_cut_offs)[:, None])  # [n_cut_offs, B]
            later["put_by"] = _where(write, (carry, auto.observe(last)), loop["put_by"])
            later["cut_offs"] = cut_offs + timestep.truncated
            record["cut_offs"] = cut_offs
        return later, record

    reset_key, scan_key = jax.random.split(key)
    initial_carry = constrain(student.initial_carry(n_envs), 0)
    state = constrain(auto.reset(reset_key, constrain(levels, 0)), 0)
    loop: dict[str, Any] = {"state": state, "carry": initial_carry, "resets": jnp.ones(n_envs, bool)}
    if n_cut_offs:
        put_by = (initial_carry, auto.observe(state))
        loop["put_by"] = jax.tree.map(lambda x: jnp.broadcast_to(x, (n_cut_offs, *x.shape)), put_by)
        loop["cut_offs"] = jnp.zeros(n_envs, jnp.int32)

    def chunk(loop: dict[str, Any], keys: Array) -> tuple[dict[str, Any], Any]:
        later, record = jax.lax.scan(body, loop, keys)
        return later, (loop["carry"], record)

    keys = jax.random.split(scan_key, (chunks, steps // chunks))
    loop, (carries, record) = jax.lax.scan(chunk, loop, keys)
    record = constrain(jax.tree.map(lambda x: x.reshape(steps, *x.shape[2:]), record), 1)

    _, output = act(loop["carry"], auto.observe(loop["state"]), loop["resets"])
    later_values = None
    if truncation_values:
        later_values = jnp.zeros((steps, n_envs))
    if n_cut_offs:
        never = jnp.zeros(n_envs, bool)
        values = jax.vmap(lambda carry, observation: act(carry, observation, never)[1].value)(*loop["put_by"])
        which = jnp.minimum(record.pop("cut_offs"), n_cut_offs - 1)
        later_values = jnp.take_along_axis(values, which, axis=0)  # [n_cut_offs, B] read at [S, B]
    return Trajectory(carries=carries, last_value=output.value, truncation_values=later_values, **record)


def _where(mask: Array, new: Any, old: Any) -> Any:
    """Choose whole entries along the leading axes that `mask` has; `new` is broadcast against `old`."""

    def choose(x: Array, y: Array) -> Array:
        return jnp.where(mask.reshape(mask.shape + (1,) * (y.ndim - mask.ndim)), x, y)

    return jax.tree.map(choose, new, old)
