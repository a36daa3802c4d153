"""What autoencoder and prior learn: losses as pure functions, one update of each, optimisers."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from hgap.config import AutoencoderConfig, Optimiser
from hgap.model.autoencoder import Autoencoder, Weights
from hgap.model.prior import Prior
from hgap.model.quantizers import perplexity, usage

__all__ = [
    "Learned", "autoencoder_loss", "autoencoder_update", "make_optimizer", "prior_loss", "prior_update",
    "reconstruction",
]  # fmt: skip


class Learned(NamedTuple):
    """Something that is being learned.

    Attributes:
        weights: what.
        optimizer: the optimiser's state.
    """

    weights: Any
    optimizer: Any


def make_optimizer(settings: Optimiser, updates: int) -> optax.GradientTransformation:
    """Return AdamW with the paper's betas, its gradient clipped by norm, its weight decay on matrices only."""
    warmup = max(1, round(settings.warmup * updates))
    if settings.decay:
        schedule = optax.warmup_cosine_decay_schedule(
            settings.lr / warmup, settings.lr, warmup, max(updates, warmup + 1), settings.lr / 10
        )
    else:
        schedule = optax.linear_schedule(settings.lr / warmup, settings.lr, warmup)

    def matrices(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    return optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(schedule, b1=0.9, b2=0.95, weight_decay=settings.weight_decay, mask=matrices),
    )


def reconstruction(
    predicted: tuple[Array, Array], true: tuple[Array, Array], *, action_weight: float
) -> tuple[Array, Array, Array]:
    """Return the weighted mean squared error over all dimensions, and those of states and of actions alone."""
    state, action = (jnp.square(p - t) for p, t in zip(predicted, true, strict=True))
    dims = state.shape[-1] + action.shape[-1]
    weighted = (state.sum(-1) + action_weight * action.sum(-1)).mean() / dims
    return weighted, state.mean(), action.mean()


def autoencoder_loss(
    weights: Weights, model: Autoencoder, states: Array, actions: Array, *, config: AutoencoderConfig, dropout: Array
) -> tuple[Array, tuple[Array, dict[str, Array]]]:
    """Return reconstruction + commitment, and the features [M, D] with the metrics.

    The commitment is |z - sg(e)|^2 for a learned codebook. Rounded scalars have none: their features are bounded, and
    the distance to the next level carries no information that the reconstruction lacks.
    """
    encoding = model.encode(weights, states, actions, dropout=dropout)
    predicted = model.decode(weights, encoding.vectors, states[:, 0], dropout=jax.random.fold_in(dropout, 1))
    error, state, action = reconstruction(predicted, (states, actions), action_weight=config.action_weight)
    commitment = jnp.square(encoding.features - encoding.quantized).mean()
    learned = bool(jax.tree.leaves(weights.quantizer))
    loss = error + config.commitment * commitment * learned
    metrics = {
        "loss": loss,
        "state_error": state,
        "action_error": action,
        "commitment": commitment,
        "perplexity": perplexity(encoding.codes, model.quantizer.vocabulary),
        "usage": usage(encoding.codes, model.quantizer.vocabulary),
    }
    return loss, (encoding.features.reshape(-1, model.quantizer.size), metrics)


def autoencoder_update(
    learned: Learned, model: Autoencoder, optimizer: Any, states: Array, actions: Array, key: Array
) -> tuple[Learned, dict[str, Array]]:
    """Return what is learned after one batch, and the metrics.

    The gradient moves encoder and decoder; the codebook then moves once, on the features before the gradient's step.
    (The reference moves it twice an update, once before its own commitment loss.)
    """
    weights = learned.weights
    draw, drop = jax.random.split(key)

    def loss(networks: tuple[Any, Any]) -> Any:
        return autoencoder_loss(
            Weights(*networks, weights.quantizer), model, states, actions, config=model.config, dropout=drop
        )

    networks = (weights.encoder, weights.decoder)
    (_, (features, metrics)), gradient = jax.value_and_grad(loss, has_aux=True)(networks)
    step, state = optimizer.update(gradient, learned.optimizer, networks)
    networks: Any = optax.apply_updates(networks, step)
    quantizer = model.quantizer.update(weights.quantizer, features, draw)
    return Learned(Weights(*networks, quantizer), state), metrics


def prior_loss(params: Any, prior: Prior, codes: Array, first: Array, *, dropout: Array | None) -> tuple[Array, Array]:
    """Return the mean cross-entropy of codes [B, n] given first states, and the share of codes predicted best."""
    rngs = None if dropout is None else {"dropout": dropout}
    logits: Any = prior.apply(params, codes, first, learn=dropout is not None, rngs=rngs)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, codes).mean()
    return loss, (logits.argmax(-1) == codes).mean()


def prior_update(
    learned: Learned, prior: Prior, optimizer: Any, codes: Array, first: Array, key: Array
) -> tuple[Learned, dict[str, Array]]:
    """Return what is learned after one batch, and the metrics."""

    def loss(params: Any) -> Any:
        return prior_loss(params, prior, codes, first, dropout=key)

    (value, correct), gradient = jax.value_and_grad(loss, has_aux=True)(learned.weights)
    step, state = optimizer.update(gradient, learned.optimizer, learned.weights)
    return Learned(optax.apply_updates(learned.weights, step), state), {"loss": value, "accuracy": correct}
