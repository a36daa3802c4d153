"""M-FOS (Lu et al. 2022): a meta-network conditions an actor and a critic once per episode."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.encoders import Encoder
from opshape.agents.nets import Params, dense, gru, init_dense, init_gru, product
from opshape.agents.policies import Mix, Mixer

__all__ = ["MFOS", "MetaMemory"]

PARTS = ("meta", "actor", "critic")


class MetaMemory(NamedTuple):
    """What M-FOS remembers.

    Attributes:
        theta: the conditioning vector of this episode, `[B, width]`; ones in the first.
        hidden: the states of the three GRUs within this episode, `[B, 3, width]`.
    """

    theta: Array
    hidden: Array


@dataclasses.dataclass(frozen=True)
class MFOS:
    """Three GRUs (meta, actor, critic), all restarted in every episode; only theta passes from one to the next.

    Logits are W (theta * actor), values W (theta * critic), and the next theta is sigmoid(W meta).

    Attributes:
        encoder: of observations; each part has one of its own, followed by a linear layer.
        actions: of the game.
        width: of all layers.
        context: False keeps theta at ones.
        history: False restarts the three GRUs at every step instead of every episode.
        mix: how the hidden states of the games of one co-player are mixed before each step. The meta-network of the
            original averages over the games at the end of an episode; "avg" is the reference's version of it.
        unrolled: for candidates with few games, see `nets.product`.
    """

    encoder: Encoder
    actions: int
    width: int = 16
    context: bool = True
    history: bool = True
    mix: Mix = "none"
    unrolled: bool = False

    @property
    def mixer(self) -> Mixer:
        """What mixes the hidden states of the games."""
        return Mixer(self.mix, self.width)

    def init(self, key: Array) -> Params:
        """Return parameters."""
        logits, value, theta, *keys = jax.random.split(key, 3 + 4 * len(PARTS))
        params: dict[str, Any] = {
            "theta": init_dense(theta, self.width, self.width),
            "logits": init_dense(logits, self.width, self.actions, 0.01, bias=False),
            "value": init_dense(value, self.width, 1, bias=False),
        }
        for part, (a, b, c, d) in zip(PARTS, zip(*[iter(keys)] * 4, strict=True), strict=True):
            params[part] = {
                "encoder": self.encoder.init(a),
                "linear": init_dense(b, self.encoder.width, self.width),
                "gru": init_gru(c, self.width, self.width),
                "mixer": self.mixer.init(d),
            }
        return params

    def start(self, params: Params, games: int) -> MetaMemory:
        """Return theta of ones and empty hidden states."""
        return MetaMemory(jnp.ones((games, self.width)), jnp.zeros((games, len(PARTS), self.width)))

    def apply(self, params: Params, memory: MetaMemory, observation: Any) -> tuple[MetaMemory, Array, Array]:
        """Return the next memory, logits and values."""
        before = zip(PARTS, jnp.moveaxis(memory.hidden, -2, 0), strict=True)
        meta, actor, critic = (self._core(params[part], h, observation) for part, h in before)
        logits = dense(params["logits"], memory.theta * actor, unrolled=self.unrolled)
        value = dense(params["value"], memory.theta * critic, unrolled=self.unrolled)[..., 0]
        return MetaMemory(memory.theta, jnp.stack([meta, actor, critic], -2)), logits, value

    def _core(self, params: Params, h: Array, observation: Any) -> Array:
        linear, core = params["linear"], params["gru"]
        x = self.encoder.layer(params["encoder"], observation, linear["w"], linear["b"])
        x = product(x, core["w_i"], unrolled=self.unrolled) + core["b"]
        h = h if self.history else jnp.zeros_like(h)
        return gru(core, x, self.mixer.apply(params["mixer"], h), unrolled=self.unrolled)

    def turn(self, params: Params, memory: MetaMemory) -> MetaMemory:
        """Return the next theta, with empty hidden states."""
        theta = jax.nn.sigmoid(dense(params["theta"], memory.hidden[..., 0, :])) if self.context else memory.theta
        return MetaMemory(theta, jnp.zeros_like(memory.hidden))
