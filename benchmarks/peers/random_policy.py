"""The outer loop of the environment benchmark, the same lines for every contestant: only the step differs.

A scan of T steps over B environments under the uniform random policy. Every observation is an output of the scan, as it
is in training, so that no compiler can leave it out; the statistics returned are what shows that all contestants played
the same game.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["make_trial", "scan_steps"]

NUM_ACTIONS = 7


def scan_steps(step: Callable, batch: int, length: int) -> Callable:
    """Return a jitted function (key, carry) -> (key, carry, sums) of `length` steps.

    Args:
        step: (key, carry, actions i32[B]) -> (carry, image [B, v, v, 3], reward f32[B], done bool[B]).
        batch: B.
        length: T.
    """

    def one(state: tuple, _: None) -> tuple:
        key, carry = state
        key, key_action, key_step = jax.random.split(key, 3)
        action = jax.random.randint(key_action, (batch,), 0, NUM_ACTIONS)
        carry, image, reward, done = step(key_step, carry, action)
        return (key, carry), (image, reward, done)

    @jax.jit
    def run(key: Any, carry: Any) -> tuple:
        (key, carry), (images, rewards, dones) = jax.lax.scan(one, (key, carry), None, length)
        return key, carry, (images.mean(dtype=jnp.float32), rewards.sum(), dones.sum(), images)

    return run


def make_trial(run: Callable, key: Any, carry: Any, batch: int, length: int, scans: int) -> Callable[[], dict]:
    """Return a trial of `scans` calls of `run`, which go on where the last trial stopped. Compiles and warms up."""
    holder = [key, carry]

    def trial() -> dict:
        sums = []
        for _ in range(scans):
            holder[0], holder[1], (*numbers, images) = run(*holder)
            sums.append(numbers)
            del images
        image, reward, done = (float(sum(column)) for column in zip(*jax.device_get(sums), strict=True))
        steps = scans * batch * length
        return {"work": steps, "image_mean": image / scans, "reward_sum": reward, "episodes": done}

    for _ in range(2):  # the second call would show a second compile (weak types, changed layouts)
        holder[0], holder[1], out = run(*holder)
    jax.block_until_ready(out)
    # Past the first time-out, so that the environments are out of step with each other.
    for _ in range(-(-500 // length)):
        holder[0], holder[1], out = run(*holder)
    jax.block_until_ready((holder[1], out))
    return trial
