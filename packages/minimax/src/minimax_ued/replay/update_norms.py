"""How far a level alone would move the student: the quantity that the score "update_norm" reads.

PACE (Yuan et al. 2026, arXiv 2605.01358) values a level by the squared L2 norm of the change of parameters that
training on it induces, to first order proportional to the improvement of the objective. Only its abstract and summaries
of it were at hand. What follows is this library's reading:

- the change is one plain gradient step on the level, -lr g_b, so that its squared norm is lr² |g_b|²; the factor lr² is
  left out, since it is the same for all levels. No momentum, and no limit of the norm, which would make all levels with
  large gradients equal;
- g_b is the gradient of the whole PPO loss, value and entropy terms included, in all variables of the student, over all
  steps of the level's rollout, unfinished episodes included;
- advantages are normalised over all levels that are scored together (training normalises over those it learns from,
  in each minibatch). Within one level they would have the same scale on
  every level, and what the level has to teach would be divided out.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.config import PPOConfig
from minimax_ued.learning.ppo import Batch
from minimax_ued.learning.rollout import log_prob
from minimax_ued.nets.students import Student

__all__ = ["update_norms"]

#: Numbers of the gradients held at once where the caller does not say: 64 MB in float32.
_GRADIENT_NUMBERS = 2**24


def update_norms(
    config: PPOConfig, student: Student, params: Any, batch: Batch, *, side_by_side: int | None = None
) -> Array:
    """Return |g_b|², f32[B]: the squared norm of the loss gradient of each level alone.

    At the parameters that played, probability ratios are 1 and neither ratio nor value is clipped. So the gradient of
    the PPO loss (`minimax_ued.learning.ppo.ppo_loss`) is that of

        L_b = mean_t [ -Â_t log pi(a_t) + c_V ½ (V_t - G_t)² - c_H H_t ]

    over the steps of level b, and the mean of g_b over all levels is the gradient of the first step of training on
    the whole batch at once. Costs about as much as one epoch of training.

    Args:
        config: the learner: c_V and c_H. Its `chunks` are not looked at.
        student: the network.
        params: the variables with which the levels were played.
        batch: the rollout `[S, B, ...]`, one whole sequence for each level.
        side_by_side: levels whose gradients are held at once, each as large as `params`. None for as many as fit into
            64 MB.
    """
    n_levels = batch.actions.shape[1]
    if side_by_side is None:
        size = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
        parts = math.ceil(n_levels * size / _GRADIENT_NUMBERS)
        side_by_side = math.ceil(n_levels / parts)  # even parts: what is left over would be compiled a second time
    advantages = (batch.advantages - batch.advantages.mean()) / (batch.advantages.std() + 1e-5)
    batch = batch.replace(advantages=advantages)

    def loss(params: Any, part: Batch) -> Array:
        _, output = student.apply(params, part.initial_carry, part.observations, part.resets)
        policy_loss = -(part.advantages * log_prob(output.logits, part.actions)).mean()
        if output.heads is None:
            value_error = (output.value - part.targets) ** 2
        else:  # every head learns on its own
            value_error = (output.heads - part.targets[..., None]) ** 2
        log_probs = jax.nn.log_softmax(output.logits)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return policy_loss + config.value_coef * 0.5 * value_error.mean() - config.entropy_coef * entropy

    def squared_norm(level: Array) -> Array:
        carry = jax.tree.map(lambda x: x[level][None], batch.initial_carry)
        part = jax.tree.map(lambda x: x[:, level][:, None], batch.replace(initial_carry=None))
        part = part.replace(initial_carry=carry)
        gradient = jax.grad(loss)(params, part)
        return sum((jnp.sum(g.astype(jnp.float32) ** 2) for g in jax.tree.leaves(gradient)), jnp.zeros(()))

    return jax.lax.map(squared_norm, jnp.arange(n_levels), batch_size=min(side_by_side, n_levels))
