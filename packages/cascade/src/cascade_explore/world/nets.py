"""Networks of the world model, in flax linen."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cascade_explore.config import WorldModel
from cascade_explore.world.categorical import mix_uniform

__all__ = ["MLP", "RSSM", "LayerNormGRU", "apply", "dense"]


def apply(module: nn.Module, params: Any, *inputs: Array, method: Any = None) -> Any:
    """Return what a module makes of its inputs, as `module.apply` does where nothing is mutable."""
    return module.apply(params, *inputs, method=method)


def dense(width: int) -> nn.Dense:
    """Return a linear layer with the initial weights of DreamerV2's, uniform after Glorot and Bengio (2010)."""
    return nn.Dense(width, kernel_init=nn.initializers.glorot_uniform())


class MLP(nn.Module):
    """Dense layers with ELU, then a linear one unless `out` is 0."""

    out: int
    units: int
    layers: int
    norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return the output, `[..., out]`."""
        for _ in range(self.layers):
            x = dense(self.units)(x)
            x = nn.elu(nn.LayerNorm()(x) if self.norm else x)
        return dense(self.out)(x) if self.out else x


class LayerNormGRU(nn.Module):
    """The GRU of DreamerV2.

    `r, c, u = split(LayerNorm(W [x, h] + b))`, `c' = tanh(σ(r) c)`, `u' = σ(u - 1)`, `h' = u' c' + (1 - u') h`: the
    reset gate multiplies the candidate, and the bias -1 makes the state persist at first.
    """

    width: int

    @nn.compact
    def __call__(self, h: Array, x: Array) -> Array:
        """Return the next state `[..., width]`."""
        parts = nn.LayerNorm()(dense(3 * self.width)(jnp.concatenate([x, h], -1)))
        reset, candidate, update = jnp.split(parts, 3, -1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
        update = jax.nn.sigmoid(update - 1.0)
        return update * candidate + (1.0 - update) * h


class RSSM(nn.Module):
    """h' = f(h, z, a); prior p(z | h); posterior q(z | h, e). Latents are `groups` one-hot vectors of `classes`."""

    config: WorldModel

    def setup(self) -> None:
        """Make the parts."""
        c = self.config
        self.enter = MLP(0, c.hidden, 1, c.norm)
        self.cell = LayerNormGRU(c.deter)
        self.prior_net = MLP(c.groups * c.classes, c.hidden, 1, c.norm)
        self.post_net = MLP(c.groups * c.classes, c.hidden, 1, c.norm)

    def advance(self, h: Array, z: Array, action: Array) -> tuple[Array, Array]:
        """Return the next recurrent state `[..., D]` and the logits of its prior `[..., G, C]`; z is flat."""
        h = self.cell(h, self.enter(jnp.concatenate([z, action], -1)))
        return h, self._logits(self.prior_net(h))

    def posterior(self, h: Array, embedded: Array) -> Array:
        """Return the logits of the latent given an encoded observation, `[..., G, C]`."""
        return self._logits(self.post_net(jnp.concatenate([h, embedded], -1)))

    def _logits(self, flat: Array) -> Array:
        c = self.config
        return mix_uniform(flat.reshape(*flat.shape[:-1], c.groups, c.classes), c.unimix)

    def __call__(self, h: Array, z: Array, action: Array, embedded: Array) -> Array:
        """Touch every parameter, for initialisation."""
        h, _ = self.advance(h, z, action)
        return self.posterior(h, embedded)
