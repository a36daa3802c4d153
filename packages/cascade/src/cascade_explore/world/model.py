"""The world model as functions of explicit parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.config import WorldModel
from cascade_explore.envs.spec import Actions, Observed, Pixels
from cascade_explore.world import losses
from cascade_explore.world.categorical import balanced_kl, sample
from cascade_explore.world.nets import MLP, RSSM, ImageDecoder, ImageEncoder, apply

__all__ = ["Batch", "Latents", "World", "features"]


class Batch(NamedTuple):
    """Sequences, time first. Row t holds the action that led to it.

    Attributes:
        observation: `[T, N, ...]`.
        action: `[T, N, A]`, one-hot or in [-1, 1]; meaningless in first rows.
        first: whether an episode begins here, `[T, N]`.
        terminal: whether one ended here for good, `[T, N]`.
    """

    observation: Array
    action: Array
    first: Array
    terminal: Array


class Latents(NamedTuple):
    """States of the model.

    Attributes:
        h: recurrent part, `[..., D]`.
        z: one-hot part, flat, `[..., G C]`.
    """

    h: Array
    z: Array


def features(state: Latents) -> Array:
    """Return what heads and policies see, `[..., G C + D]`."""
    return jnp.concatenate([state.z, state.h], -1)


class World:
    """The modules of a configuration; parameters are arguments.

    Args:
        config: sizes and weights.
        observation: what is observed.
        actions: what can be done.
    """

    def __init__(self, config: WorldModel, observation: Observed, actions: Actions) -> None:
        c = self.config = config
        self.observation, self.actions = observation, actions
        self.latent = c.groups * c.classes
        self.width = c.deter + self.latent
        self.rssm = RSSM(c)
        sizes = (c.units, c.layers, c.norm, c.precision)
        if isinstance(observation, Pixels):
            self.encoder = ImageEncoder(observation.channels, c.depth, c.units, c.precision)
            self.decoder = ImageDecoder(observation.channels, c.depth, c.precision)
        else:
            self.encoder, self.decoder = MLP(0, *sizes), MLP(observation.width, *sizes)
        self.ender, self.head = MLP(1, *sizes), MLP(self.latent, *sizes)

    def init(self, key: Array) -> dict[str, Any]:
        """Return the parameters of encoder, RSSM, decoder and continue head."""
        keys = jax.random.split(key, 4)
        c, act = self.config, jnp.zeros(self.actions.size)
        state = self.start(())
        return {
            "encoder": self.encoder.init(keys[0], jnp.zeros(self.observation.width)),
            "rssm": self.rssm.init(keys[1], state.h, state.z, act, jnp.zeros(c.units)),
            "decoder": self.decoder.init(keys[2], features(state)),
            "ender": self.ender.init(keys[3], features(state)),
        }

    def init_ensemble(self, key: Array) -> Any:
        """Return the stacked parameters of the heads, each from a key of its own."""
        x = jnp.zeros(self.width + self.actions.size)
        return jax.vmap(lambda k: self.head.init(k, x))(jax.random.split(key, self.config.heads))

    def start(self, shape: tuple[int, ...]) -> Latents:
        """Return the state before anything was seen."""
        return Latents(jnp.zeros((*shape, self.config.deter)), jnp.zeros((*shape, self.latent)))

    def encode(self, params: Any, observation: Array) -> Array:
        """Return encoded observations `[..., units]`."""
        return apply(self.encoder, params["encoder"], losses.as_input(observation, self.observation))

    def advance(self, params: Any, state: Latents, action: Array) -> tuple[Array, Array]:
        """Return the next recurrent state and the logits of its prior."""
        return apply(self.rssm, params["rssm"], state.h, state.z, action, method=RSSM.advance)

    def imagine(self, params: Any, state: Latents, action: Array, key: Array) -> Latents:
        """Return a state that the model expects after an action."""
        h, prior = self.advance(params, state, action)
        return Latents(h, _flat(sample(prior, key)))

    def observe(
        self, params: Any, state: Latents, action: Array, first: Array, embedded: Array, key: Array
    ) -> tuple[Latents, Array, Array]:
        """Return the state after an observation, and the logits of its posterior and prior.

        Where an episode begins, the state before and the action are forgotten.
        """
        keep = 1.0 - first.astype(jnp.float32)[..., None]
        h, prior = self.advance(params, Latents(state.h * keep, state.z * keep), action * keep)
        post = apply(self.rssm, params["rssm"], h, embedded, method=RSSM.posterior)
        return Latents(h, _flat(sample(post, key))), post, prior

    def follow(self, params: Any, batch: Batch, key: Array) -> tuple[Latents, Array, Array]:
        """Return states, posteriors and priors along sequences, time first. Each sequence starts from nothing."""
        embedded = self.encode(params, batch.observation)
        first = batch.first.at[0].set(True)

        def step(state: Latents, row: Any) -> tuple[Latents, tuple[Latents, Array, Array]]:
            e, a, f, k = row
            state, post, prior = self.observe(params, state, a, f, e, k)
            return state, (state, post, prior)

        keys = jax.random.split(key, len(embedded))
        return jax.lax.scan(step, self.start(embedded.shape[1:-1]), (embedded, batch.action, first, keys))[1]

    def loss(self, params: Any, batch: Batch, key: Array) -> tuple[Array, tuple[Latents, dict[str, Array]]]:
        """Return -log p of observations and continuation plus the balanced KL; with the states and metrics.

        Rewards do not occur: labels cannot shape the model.
        """
        c = self.config
        states, post, prior = self.follow(params, batch, key)
        feat = features(states)
        target = losses.as_input(batch.observation, self.observation)
        output = apply(self.decoder, params["decoder"], feat)
        decoding = losses.decoder_loss(output, target, self.observation).mean()
        ends = losses.continue_loss(self.continues(params, feat), batch.terminal.astype(jnp.float32)).mean()
        kl, plain = balanced_kl(post, prior, balance=c.kl_balance, free=c.free_nats)
        metrics = {"decoder_loss": decoding, "continue_loss": ends, "kl": plain}
        return decoding + ends + c.kl_scale * kl, (states, metrics)

    def continues(self, params: Any, feat: Array) -> Array:
        """Return the logit that an episode has not ended at a state, `[...]`."""
        return apply(self.ender, params["ender"], feat)[..., 0]

    def predict(self, ensemble: Any, feat: Array, action: Array) -> Array:
        """Return each head's prediction of the next latent, `[K, ..., G C]`, from a state and the action taken."""
        x = jnp.concatenate([feat, action], -1)
        return jax.vmap(lambda head: apply(self.head, head, x))(ensemble)

    def ensemble_loss(self, ensemble: Any, states: Latents, batch: Batch) -> Array:
        """Return the heads' loss on the transitions of sequences; those across a border between episodes do not count.

        Row t + 1 holds the action taken in state t, so that a head sees the action which causes what it predicts.
        """
        feat = jax.lax.stop_gradient(features(states))
        predicted = self.predict(ensemble, feat[:-1], batch.action[1:])
        loss = losses.ensemble_loss(predicted, states.z[1:])
        return losses.weighted_mean(loss, 1.0 - batch.first[1:].astype(jnp.float32))


def _flat(z: Array) -> Array:
    return z.reshape(*z.shape[:-2], -1)
