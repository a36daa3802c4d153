"""The state-conditional autoencoder: a window of states and actions to codes, and codes and a first state back.

Shapes: B windows of T steps with S state numbers and A action numbers, all normalised; T / L latent steps with C slices
of D numbers each and Q codes a slice, so that a window has T / L * C * Q codes, ordered by latent step, then slice,
then stage.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from hgap.config import AutoencoderConfig
from hgap.model.layers import AttentionBlock, ConvolutionBlock, JoinedDense, draw_parameters
from hgap.model.quantizers import Quantizer, make_quantizer

__all__ = ["Autoencoder", "Decoder", "Encoder", "Encoding", "Weights"]


class Weights(NamedTuple):
    """What an autoencoder has learned.

    Attributes:
        encoder: parameters.
        decoder: parameters.
        quantizer: state.
    """

    encoder: Any
    decoder: Any
    quantizer: Any


class Encoding(NamedTuple):
    """A batch on its way through.

    Attributes:
        features: bounded, [B, T / L, C, D].
        codes: int32 [B, T / L * C * Q].
        vectors: what the decoder is given, with the gradient passed straight through, [B, T / L, C, D].
        quantized: the codes' vectors, without a gradient, [B, T / L, C, D].
    """

    features: Array
    codes: Array
    vectors: Array
    quantized: Array


class Encoder(nn.Module):
    """A window to features.

    Attributes:
        config: sizes.
        steps: T.
        slice_size: D.
    """

    config: AutoencoderConfig
    steps: int
    slice_size: int

    @nn.compact
    def __call__(self, states: Array, actions: Array, *, learn: bool = False) -> Array:
        """Return features [B, T / L, C, D] of states [B, T, S] and actions [B, T, A]; causal in latent steps."""
        size, codes = self.config.size, self.config.codes
        x = nn.Dense(size.width)(jnp.concatenate([states, actions], -1))
        x = x + self.param("positions", nn.initializers.zeros, (self.steps, size.width))
        for _ in range(size.blocks):
            x = ConvolutionBlock(size.width)(x)
        x = AttentionBlock(size.width, size.heads, size.dropout)(x, learn=learn)
        x = nn.Dense(codes.per_step * self.slice_size)(x)
        latents = self.steps // codes.latent_step
        pooled = x.reshape(len(x), latents, codes.latent_step, -1).max(2)
        return pooled.reshape(len(x), latents, codes.per_step, self.slice_size)


class Decoder(nn.Module):
    """Vectors and a first state to a window.

    Attributes:
        config: sizes.
        state_size: S.
        action_size: A.
    """

    config: AutoencoderConfig
    state_size: int
    action_size: int

    @nn.compact
    def __call__(self, vectors: Array, first: Array, *, learn: bool = False) -> tuple[Array, Array]:
        """Return states [B, T, S] and actions [B, T, A] of vectors [B, T / L, C, D] and first states [B, S].

        The first predicted state is the given one, exactly; the others are differences from it.
        """
        size, step = self.config.size, self.config.codes.latent_step
        batch, latents = vectors.shape[:2]
        steps = latents * step
        held, known = JoinedDense(size.width, name="Dense_0")(vectors.reshape(batch, latents, -1), first)
        x = jnp.repeat(held + known[:, None], step, axis=1)  # a latent holds for L steps, the first state for all
        x = x + self.param("positions", nn.initializers.zeros, (steps, size.width))
        x = AttentionBlock(size.width, size.heads, size.dropout)(x, learn=learn)
        for _ in range(size.blocks):
            x = ConvolutionBlock(size.width)(x)
        x = nn.Dense(self.state_size + self.action_size, name="Dense_1")(nn.LayerNorm()(x))
        change = jnp.where(jnp.arange(steps)[:, None] > 0, x[..., : self.state_size], 0.0)
        return first[:, None] + change, x[..., self.state_size :]


class Autoencoder:
    """Encoder, quantiser and decoder for one shape of windows; pure functions of `Weights`.

    Args:
        config: its settings.
        steps: T.
        state_size: S.
        action_size: A.
    """

    def __init__(self, config: AutoencoderConfig, steps: int, state_size: int, action_size: int) -> None:
        self.config, self.steps, self.state_size, self.action_size = config, steps, state_size, action_size
        self.quantizer: Quantizer = make_quantizer(config.codes.quantizer)
        self.latents = steps // config.codes.latent_step
        self.tokens = self.latents * config.codes.per_step * self.quantizer.depth
        self.encoder = Encoder(config, steps, self.quantizer.size)
        self.decoder = Decoder(config, state_size, action_size)

    def init(self, keys: tuple[Array, Array, Array]) -> Weights:
        """Return weights before training."""
        states, actions = jnp.zeros((1, self.steps, self.state_size)), jnp.zeros((1, self.steps, self.action_size))
        vectors = jnp.zeros((1, self.latents, self.config.codes.per_step, self.quantizer.size))
        return Weights(
            draw_parameters(self.encoder, keys[0], states, actions),
            draw_parameters(self.decoder, keys[1], vectors, states[:, 0]),
            self.quantizer.init(keys[2]),
        )

    def encode(self, weights: Weights, states: Array, actions: Array, *, dropout: Array | None = None) -> Encoding:
        """Return the features and codes of windows; `dropout` is a key while learning."""
        rngs = None if dropout is None else {"dropout": dropout}
        z: Any = self.encoder.apply(weights.encoder, states, actions, learn=dropout is not None, rngs=rngs)
        features = self.quantizer.features(z)
        codes = self.quantizer.encode(weights.quantizer, stop_gradient(features))
        quantized = stop_gradient(self.quantizer.decode(weights.quantizer, codes))
        straight = features + stop_gradient(quantized - features)
        return Encoding(features, codes.reshape(len(codes), self.tokens), straight, quantized)

    def vectors(self, weights: Weights, codes: Array) -> Array:
        """Return vectors [B, T / L, C, D] of codes [B, tokens]."""
        shaped = codes.reshape(len(codes), self.latents, self.config.codes.per_step, self.quantizer.depth)
        return self.quantizer.decode(weights.quantizer, shaped)

    def decode(
        self, weights: Weights, vectors: Array, first: Array, *, dropout: Array | None = None
    ) -> tuple[Array, Array]:
        """Return normalised states [B, T, S] and actions [B, T, A] of vectors and first states [B, S]."""
        rngs = None if dropout is None else {"dropout": dropout}
        decoded: Any = self.decoder.apply(weights.decoder, vectors, first, learn=dropout is not None, rngs=rngs)
        return decoded
