"""Groups of categorical variables: samples with a straight-through gradient, and the balanced KL divergence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["balanced_kl", "categorical_kl", "mix_uniform", "sample"]


def mix_uniform(logits: Array, share: float) -> Array:
    """Return the logits of (1 - share) softmax(logits) + share / C (DreamerV3, Hafner et al. 2023); logits if 0."""
    if share == 0:
        return jax.nn.log_softmax(logits)
    return jnp.log((1.0 - share) * jax.nn.softmax(logits) + share / logits.shape[-1])


def sample(logits: Array, key: Array) -> Array:
    """Return one-hot samples whose gradient is that of the probabilities (straight-through, Hafner et al. 2021).

    Args:
        logits: `[..., G, C]`.
        key: of the draw.
    """
    p = jax.nn.softmax(logits)
    drawn = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1], dtype=p.dtype)
    return drawn + p - jax.lax.stop_gradient(p)


def categorical_kl(p_logits: Array, q_logits: Array) -> Array:
    """Return KL(p || q), summed over the groups of `[..., G, C]`."""
    p, q = jax.nn.log_softmax(p_logits), jax.nn.log_softmax(q_logits)
    return (jnp.exp(p) * (p - q)).sum((-2, -1))


def balanced_kl(post: Array, prior: Array, *, balance: float, free: float) -> tuple[Array, Array]:
    """Return the loss and the plain mean KL(post || prior).

    `balance · max(mean KL(sg post || prior), free) + (1 - balance) · max(mean KL(post || sg prior), free)`: with a
    balance of .8 the prior learns four times as fast as the posterior (Hafner et al. 2021). Free nats apply to the
    mean over the batch.
    """
    sg = jax.lax.stop_gradient
    towards_post, towards_prior = categorical_kl(sg(post), prior).mean(), categorical_kl(post, sg(prior)).mean()
    loss = balance * jnp.maximum(towards_post, free) + (1.0 - balance) * jnp.maximum(towards_prior, free)
    return loss, towards_post
