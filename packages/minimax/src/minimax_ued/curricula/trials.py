"""Playing levels only to count successes: many levels, nothing stored for a step.

What curators look at is how often the student succeeds on a level. A rollout would keep every observation for that;
here a batch of levels costs the memory of its environments, and batches follow one another.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.envs.autoreset import AutoReset
from minimax_ued.envs.base import Environment, success_return
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.nets.students import Student
from paperloop.errors import UserError

__all__ = ["Trials", "play_trials"]


class Trials(struct.PyTreeNode):
    """What came of N levels. Only finished episodes count, of each trial all of them or the first.

    Attributes:
        episodes: i32[N], how many were finished.
        successes: i32[N], of them, how many had a return above the environment's `success_return`.
        max_returns: f32[N], highest undiscounted return; -inf where no episode was finished.
    """

    episodes: Array
    successes: Array
    max_returns: Array

    @property
    def success_rate(self) -> Array:
        """Return p, f32[N]; 0 where no episode was finished."""
        return self.successes / jnp.maximum(self.episodes, 1).astype(jnp.float32)

    @property
    def learnability(self) -> Array:
        """Estimate p (1 - p), f32[N] (Rutherford et al. 2024, arXiv 2408.15099); 0 where no episode was finished.

        Computed from the counts, so that equal success rates, and p and 1 - p, give equal numbers to the last bit.
        """
        successes, episodes = self.successes.astype(jnp.float32), self.episodes.astype(jnp.float32)
        return successes * (episodes - successes) / jnp.maximum(episodes, 1.0) ** 2


def play_trials(
    env: Environment,
    student: Student,
    params: Any,
    key: Array,
    levels: Any,
    *,
    steps: int,
    batch: int,
    trials: int = 1,
    first_only: bool = False,
    constrain: Constraint = unconstrained,
) -> Trials:
    """Play each level, again and again from its start, for `steps` steps, and do that `trials` times.

    A trial starts with a new episode and an empty memory. The episode that is under way at its end is left out. Takes
    N x `steps` x `trials` environment steps.

    Failures are long, up to T steps, and successes short, so that a trial of a few T has room for more successes than
    the success rate says: pooled over all its episodes the rate is too high, the more the shorter the trial. The first
    episode of each trial alone gives it without bias, from fewer episodes.

    Args:
        env: the environment. An episode succeeds when its undiscounted return exceeds `env.success_return`, 0 where the
            environment does not say.
        student: the network; it samples its actions.
        params: its variables.
        key: all randomness.
        levels: leading axis N.
        steps: of each trial; at least `env.max_steps`, or long episodes are never counted.
        batch: levels played side by side; divides N.
        trials: times each level is played.
        first_only: count the first episode of each trial only.
        constrain: `constrain(tree, axis)` says how the environment axis is laid out over devices.

    Raises:
        UserError: `batch` does not divide N.
    """
    n = jax.tree.leaves(levels)[0].shape[0]
    if n % batch:
        raise UserError(f"play_trials got {n} levels in batches of {batch}: choose a divisor of {n}.")
    auto = AutoReset(env, fresh=False)
    threshold = success_return(env)

    def play(key: Array, levels: Any) -> Trials:
        reset_key, scan_key = jax.random.split(key)

        def body(loop: dict[str, Any], key: Array) -> tuple[dict[str, Any], None]:
            action_key, step_key = jax.random.split(key)
            observation = auto.observe(loop["state"])
            carry, output = student.apply(params, loop["carry"], observation, loop["resets"], method="step")
            actions = jax.random.categorical(action_key, output.logits)
            state, timestep = auto.step(step_key, loop["state"], actions)
            done, returns, seen = timestep.done, loop["returns"] + timestep.reward, loop["seen"]
            counts = done & (seen.episodes == 0) if first_only else done
            seen = Trials(
                episodes=seen.episodes + counts,
                successes=seen.successes + (counts & (returns > threshold)),
                max_returns=jnp.where(counts, jnp.maximum(seen.max_returns, returns), seen.max_returns),
            )
            returns = jnp.where(done, 0.0, returns)
            return {"state": state, "carry": carry, "resets": done, "returns": returns, "seen": seen}, None

        none = jnp.zeros(batch, jnp.int32)
        loop: dict[str, Any] = {
            "state": constrain(auto.reset(reset_key, constrain(levels, 0)), 0),
            "carry": constrain(student.initial_carry(batch), 0),
            "resets": jnp.ones(batch, bool),
            "returns": jnp.zeros(batch),
            "seen": Trials(episodes=none, successes=none, max_returns=jnp.full(batch, -jnp.inf)),
        }
        loop, _ = jax.lax.scan(body, loop, jax.random.split(scan_key, steps))
        return loop["seen"]

    batches = jax.tree.map(lambda x: x.reshape(n // batch, batch, *x.shape[1:]), levels)

    def one_batch(args: tuple[Array, Any]) -> Trials:
        keys, levels = args
        each = jax.lax.map(lambda key: play(key, levels), keys)  # [trials, batch]
        return Trials(each.episodes.sum(0), each.successes.sum(0), each.max_returns.max(0))

    result = jax.lax.map(one_batch, (jax.random.split(key, (n // batch, trials)), batches))
    return jax.tree.map(lambda x: x.reshape(n), result)
