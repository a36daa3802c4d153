"""Proximal policy optimisation of a recurrent student on one rollout."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from minimax_ued.config import PPOConfig
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.learning.rollout import Trajectory, log_prob
from minimax_ued.nets.students import Student

__all__ = [
    "PPO_METRICS", "Batch", "clipped_surrogate", "entropy", "make_optimizer", "ppo_loss", "ppo_update", "value_error",
]  # fmt: skip

#: Keys of the metrics that `ppo_update` returns.
PPO_METRICS = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")


class Batch(struct.PyTreeNode):
    """What the loss needs of a rollout: n sequences of T steps, time axis first.

    A sequence is a chunk of what one environment did: with K chunks, T = S / K and n = B K.

    Attributes:
        initial_carry: the student's memory before the first step, `[n, ...]`.
        observations: `[T, n, ...]`.
        resets: bool `[T, n]`, forget the memory before this step.
        actions: i32 `[T, n]`.
        log_probs: f32 `[T, n]` at collection time.
        values: f32 `[T, n]` at collection time.
        advantages: A, f32 `[T, n]`.
        targets: G, f32 `[T, n]`.
    """

    initial_carry: Any
    observations: Any
    resets: Array
    actions: Array
    log_probs: Array
    values: Array
    advantages: Array
    targets: Array

    @classmethod
    def from_trajectory(cls, trajectory: Trajectory, advantages: Array, targets: Array) -> Batch:
        """Put a rollout and its advantages together, the chunks of an environment side by side."""
        fields = ("observations", "resets", "actions", "log_probs", "values")
        steps = {name: getattr(trajectory, name) for name in fields} | {"advantages": advantages, "targets": targets}
        chunks = jax.tree.leaves(trajectory.carries)[0].shape[0]

        def join(x: Array) -> Array:  # [K, B, ...] -> [B K, ...]
            return jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])

        def cut(x: Array) -> Array:  # [S, B, ...] -> [S / K, B K, ...]
            x = jnp.moveaxis(x.reshape(chunks, -1, *x.shape[1:]), 0, 2)
            return x.reshape(x.shape[0], -1, *x.shape[3:])

        if chunks == 1:
            return cls(initial_carry=jax.tree.map(lambda x: x[0], trajectory.carries), **steps)
        return cls(initial_carry=jax.tree.map(join, trajectory.carries), **jax.tree.map(cut, steps))


def make_optimizer(config: PPOConfig) -> optax.GradientTransformation:
    """Return Adam on gradients of limited global norm, without the step size: `ppo_update` multiplies by that."""
    return optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps))


def clipped_surrogate(ratio: Array, advantages: Array, *, clip: float) -> Array:
    """Return -E min(ρ A, clip(ρ, 1 ± ε) A), f32[] (Schulman et al. 2017, equation 7).

    Args:
        ratio: ρ, the probability of each action now over that when it was chosen.
        advantages: A, of the same shape.
        clip: ε.
    """
    clipped_ratio = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -jnp.minimum(ratio * advantages, clipped_ratio * advantages).mean()


def value_error(values: Array, old_values: Array, targets: Array, *, clip: float | None) -> Array:
    """Return ½ E max((V - G)², (V_old + clip(V - V_old, ± ε) - G)²), f32[]; ½ E (V - G)² where `clip` is None.

    Args:
        values: V.
        old_values: V_old, the values when the actions were chosen.
        targets: G.
        clip: ε.
    """
    error = (values - targets) ** 2
    if clip is not None:
        clipped = old_values + jnp.clip(values - old_values, -clip, clip)
        error = jnp.maximum(error, (clipped - targets) ** 2)
    return 0.5 * error.mean()


def entropy(logits: Array) -> Array:
    """Return the mean entropy of the policies that `logits [..., A]` describe, f32[]."""
    log_probs = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_probs) * log_probs).sum(-1).mean()


def ppo_loss(config: PPOConfig, student: Student, params: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """Return the loss and its parts, means over all steps of `batch` (Schulman et al. 2017, equation 9).

        L = clipped_surrogate(ρ, Â) + c_V value_error(V) - c_H H,    Â = (A - mean) / (std + 1e-5) over the batch

    The network runs over whole sequences from the stored memory.
    """
    _, output = student.apply(params, batch.initial_carry, batch.observations, batch.resets)
    log_ratio = log_prob(output.logits, batch.actions) - batch.log_probs
    ratio = jnp.exp(log_ratio)
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-5)
    policy_loss = clipped_surrogate(ratio, advantages, clip=config.clip)
    value_clip = config.clip if config.clip_value else None
    value_loss = value_error(output.value, batch.values, batch.targets, clip=value_clip)
    bonus = entropy(output.logits)
    loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * bonus
    return loss, {
        "loss": loss,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": bonus,
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": (jnp.abs(ratio - 1) > config.clip).mean(dtype=jnp.float32),
    }


def ppo_update(
    config: PPOConfig,
    student: Student,
    params: Any,
    opt_state: Any,
    batch: Batch,
    key: Array,
    *,
    lr: Array | float,
    constrain: Constraint = unconstrained,
) -> tuple[Any, Any, dict[str, Array]]:
    """Make `epochs` x `minibatches` gradient steps on one rollout.

    Minibatches are disjoint sets of whole sequences, redrawn in each epoch.

    Args:
        config: the hyper-parameters.
        student: the network.
        params: its variables.
        opt_state: state of `make_optimizer(config)`.
        batch: the rollout, `[T, n, ...]`; `minibatches` divides n.
        key: randomness of the minibatches.
        lr: step size.
        constrain: `constrain(tree, axis)` says how the axis of sequences is laid out over devices.

    Returns:
        Variables, optimiser state, and metrics (`PPO_METRICS`), means over the gradient steps.
    """
    optimizer = make_optimizer(config)
    n_sequences = batch.actions.shape[1]

    def gradient_step(learner: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], dict[str, Array]]:
        params, opt_state = learner
        gradients, metrics = jax.grad(lambda p: ppo_loss(config, student, p, part), has_aux=True)(params)
        metrics["grad_norm"] = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients)))
        updates, opt_state = optimizer.update(gradients, opt_state)
        params = optax.apply_updates(params, jax.tree.map(lambda u: -lr * u, updates))
        return (params, opt_state), metrics

    def epoch(learner: tuple[Any, Any], key: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        if config.minibatches == 1:  # nothing to shuffle: every mean is over the same sequences
            return gradient_step(learner, batch)

        def minibatch(learner: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
            part = _take_sequences(batch, chosen)
            carry = constrain(part.initial_carry, 0)
            rest = constrain(part.replace(initial_carry=None), 1)
            return gradient_step(learner, rest.replace(initial_carry=carry))

        order = jax.random.permutation(key, n_sequences).reshape(config.minibatches, -1)
        return jax.lax.scan(minibatch, learner, order)

    (params, opt_state), metrics = jax.lax.scan(epoch, (params, opt_state), jax.random.split(key, config.epochs))
    return params, opt_state, jax.tree.map(jnp.mean, metrics)


def _take_sequences(batch: Batch, chosen: Array) -> Batch:
    carry = jax.tree.map(lambda x: x[chosen], batch.initial_carry)
    rest = jax.tree.map(lambda x: x[:, chosen], batch.replace(initial_carry=None))
    return rest.replace(initial_carry=carry)
