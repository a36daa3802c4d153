"""Networks that act: what a shaper or a learning co-player is made of.

A policy maps (parameters, memory, observation) to (memory, logits, value). All arrays have the games `B` as leading
axis; mixing over `B` is the only thing that ties them together.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from opshape.agents.encoders import Encoder
from opshape.agents.nets import Params, constant, dense, gru, init_dense, init_gru, product

__all__ = ["Feedforward", "Mix", "Mixer", "Policy", "Recurrent", "Tabular"]

Mix = Literal["none", "avg", "att"]
Memory = Any


class Policy(Protocol):
    """What every network here offers."""

    def init(self, key: Array) -> Params:
        """Return parameters."""
        ...

    def start(self, params: Params, games: int) -> Memory:
        """Return the memory at the start of a trial."""
        ...

    def apply(self, params: Params, memory: Memory, observation: Any) -> tuple[Memory, Array, Array]:
        """Return the next memory, logits `[B, actions]` and values `[B]`."""
        ...

    def turn(self, params: Params, memory: Memory) -> Memory:
        """Return the memory with which the next episode of the same trial begins."""
        ...


@dataclasses.dataclass(frozen=True)
class Mixer:
    """Mixes the hidden states of the `B` games that one co-player learns from.

    "none" leaves them alone. "avg" is h_b <- (h_b + mean_b' h_b') / 2 before every step of the recurrent network; with
    one game it is the identity. "att" is self-attention over the games with 8 heads and no skip connection.
    """

    kind: Mix
    width: int
    heads: int = 8

    def init(self, key: Array) -> Params:
        """Return parameters."""
        if self.kind != "att":
            return {}
        keys = jax.random.split(key, 4)
        return {n: init_dense(k, self.width, self.width) for n, k in zip("qkvo", keys, strict=True)}

    def apply(self, params: Params, h: Array) -> Array:
        """Return the mixed hidden states, `[B, width]` to `[B, width]`."""
        if self.kind == "none":
            return h
        if self.kind == "avg":
            return 0.5 * h + 0.5 * h.mean(-2, keepdims=True)
        q, k, v = (self._split(dense(params[name], h)) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("...bhd,...chd->...hbc", q, k) / q.shape[-1] ** 0.5)
        mixed = jnp.einsum("...hbc,...chd->...bhd", weights, v)
        return dense(params["o"], mixed.reshape(*h.shape))

    def _split(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


def init_heads(key: Array, width: int, actions: int, *, flat: bool) -> Params:
    """Return a logit and a value head without biases; `flat` has all weights 0.5, as the reference in matrix games."""
    if flat:
        return {"logits": {"w": constant((width, actions), 0.5)}, "value": {"w": constant((width, 1), 0.5)}}
    first, second = jax.random.split(key)
    return {
        "logits": init_dense(first, width, actions, 0.01, bias=False),
        "value": init_dense(second, width, 1, 1.0, bias=False),
    }


def read_heads(params: Params, x: Array, *, unrolled: bool) -> tuple[Array, Array]:
    """Return logits `[B, actions]` and values `[B]` of `init_heads`."""
    # One product for both, so that the gradient of x is one product, too, and is not computed again by all who use it.
    both = product(x, jnp.concatenate([params["logits"]["w"], params["value"]["w"]], -1), unrolled=unrolled)
    return both[..., :-1], both[..., -1]


@dataclasses.dataclass(frozen=True)
class Tabular:
    """Logits and a value for each of `states` observations, from 0.5 everywhere."""

    states: int
    actions: int

    def init(self, key: Array) -> Params:
        """Return parameters."""
        return {"logits": constant((self.states, self.actions), 0.5), "value": jnp.full(self.states, 0.5)}

    def start(self, params: Params, games: int) -> tuple[()]:
        """Return the memory at the start of a trial."""
        return ()

    def apply(self, params: Params, memory: Memory, observation: Array) -> tuple[Memory, Array, Array]:
        """Return the next memory, logits and values."""
        seen = jax.nn.one_hot(observation, self.states)
        return memory, seen @ params["logits"], seen @ params["value"]

    def turn(self, params: Params, memory: Memory) -> Memory:
        """Return the memory with which the next episode begins."""
        return memory


@dataclasses.dataclass(frozen=True)
class Feedforward:
    """Without memory: encoder, tanh layers, heads. Meta-trained, it is the Good Shepherd (Balaguer et al. 2022)."""

    encoder: Encoder
    actions: int
    layers: tuple[int, ...] = (16, 16)
    flat: bool = True
    unrolled: bool = False

    def init(self, key: Array) -> Params:
        """Return parameters."""
        encoder, heads, *keys = jax.random.split(key, 2 + len(self.layers))
        widths = (self.encoder.width, *self.layers)
        return {
            "encoder": self.encoder.init(encoder),
            "layers": [init_dense(k, n, m, 2.0**0.5) for k, n, m in zip(keys, widths, widths[1:], strict=False)],
            "heads": init_heads(heads, widths[-1], self.actions, flat=self.flat),
        }

    def start(self, params: Params, games: int) -> tuple[()]:
        """Return the memory at the start of a trial."""
        return ()

    def apply(self, params: Params, memory: Memory, observation: Any) -> tuple[Memory, Array, Array]:
        """Return the next memory, logits and values."""
        x = self.encoder.apply(params["encoder"], observation)
        for layer in params["layers"]:
            x = jnp.tanh(dense(layer, x, unrolled=self.unrolled))
        return memory, *read_heads(params["heads"], x, unrolled=self.unrolled)

    def turn(self, params: Params, memory: Memory) -> Memory:
        """Return the memory with which the next episode begins."""
        return memory


class Hidden(NamedTuple):
    """Memory of `Recurrent`: the running state `[B, width]`; without `history` also that at the episode's start."""

    now: Array
    began: Array | None


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """Shaper (Khan et al. 2024): one GRU whose hidden state lasts over the episodes of a trial.

    Attributes:
        encoder: of observations.
        actions: of the game.
        width: of the GRU.
        context: keep the hidden state over episodes; False starts each episode from zero.
        history: use what happened in this episode; False acts from the hidden state that the episode began with and
            the current observation alone (the running state still learns of everything, for the next episode).
        mix: how the hidden states of the games of one co-player are mixed before each step.
        flat: heads start from 0.5 everywhere, as the reference's do in matrix games.
        unrolled: for candidates with few games, see `nets.product`.
    """

    encoder: Encoder
    actions: int
    width: int = 16
    context: bool = True
    history: bool = True
    mix: Mix = "none"
    flat: bool = True
    unrolled: bool = False

    @property
    def mixer(self) -> Mixer:
        """What mixes the hidden states of the games."""
        return Mixer(self.mix, self.width)

    def init(self, key: Array) -> Params:
        """Return parameters."""
        encoder, core, mixer, heads = jax.random.split(key, 4)
        return {
            "encoder": self.encoder.init(encoder),
            "gru": init_gru(core, self.encoder.width, self.width, 2.0**0.5),
            "mixer": self.mixer.init(mixer),
            "heads": init_heads(heads, self.width, self.actions, flat=self.flat),
        }

    def start(self, params: Params, games: int) -> Hidden:
        """Return the memory at the start of a trial."""
        zero = jnp.zeros((games, self.width))
        return Hidden(zero, None if self.history else zero)

    def apply(self, params: Params, memory: Hidden, observation: Any) -> tuple[Hidden, Array, Array]:
        """Return the next memory, logits and values."""
        core = params["gru"]
        x = self.encoder.layer(params["encoder"], observation, core["w_i"], core["b"])

        def advance(h: Array) -> Array:
            return gru(core, x, self.mixer.apply(params["mixer"], h), unrolled=self.unrolled)

        now = advance(memory.now)
        shown = now if memory.began is None else advance(memory.began)
        return Hidden(now, memory.began), *read_heads(params["heads"], shown, unrolled=self.unrolled)

    def turn(self, params: Params, memory: Hidden) -> Hidden:
        """Return the memory with which the next episode begins."""
        now = memory.now if self.context else jnp.zeros_like(memory.now)
        return Hidden(now, None if self.history else now)
