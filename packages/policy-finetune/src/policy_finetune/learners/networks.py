"""Multi-layer perceptrons as plain pytrees; an ensemble is one network with a leading axis on every array.

A layer is `{"w": [in, out], "b": [out]}`, with `{"scale", "offset"}` where it has LayerNorm. In an ensemble of N each
has a leading axis N, so that one batched product serves all members.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Layer", "actor_mean", "init_actor", "init_layers", "layers_forward", "q_values"]

Layer = dict[str, Array]


def init_layers(
    key: Array,
    sizes: Sequence[int],
    *,
    ensemble: int = 0,
    init: Literal["torch", "orthogonal"] = "torch",
    layer_norm: bool = False,
) -> list[Layer]:
    """Return the layers of an MLP of the given sizes, input first.

    Args:
        key: of the initial weights; each member of an ensemble gets its own.
        sizes: input, hidden and output widths.
        ensemble: N, or 0 for a single network without the leading axis.
        init: "torch": weights and biases uniform in ±1/√fan_in, as torch.nn.Linear. "orthogonal": gain √2 in every
            layer and zero biases, as implicit_q_learning has it.
        layer_norm: give every hidden layer a LayerNorm.
    """
    if ensemble:
        # One by one: batched QR decompositions (orthogonal) can hang jaxlib's CPU client.
        members = [init_layers(k, sizes, init=init, layer_norm=layer_norm) for k in jax.random.split(key, ensemble)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        key, w_key, b_key = jax.random.split(key, 3)
        if init == "torch":
            bound = fan_in**-0.5
            w = jax.random.uniform(w_key, (fan_in, fan_out), minval=-bound, maxval=bound)
            b = jax.random.uniform(b_key, (fan_out,), minval=-bound, maxval=bound)
        else:
            w = jax.nn.initializers.orthogonal(2.0**0.5)(w_key, (fan_in, fan_out))
            b = jnp.zeros((fan_out,))
        layer = {"w": w, "b": b}
        if layer_norm and i < len(sizes) - 2:
            layer |= {"scale": jnp.ones((fan_out,)), "offset": jnp.zeros((fan_out,))}
        layers.append(layer)
    return layers


def _normalise(x: Array, layer: Layer) -> Array:
    """LayerNorm over the last axis, ε = 1e-6 as flax has it."""
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)
    return x * _across(layer["scale"]) + _across(layer["offset"])


def _across(b: Array) -> Array:
    """Bias [out] or [N, out], to add to activations [B, out] or [N, B, out]."""
    return b if b.ndim == 1 else b[:, None, :]


def layers_forward(
    layers: Sequence[Layer], x: Array, *, final: bool = True, dropout: float = 0.0, key: Array | None = None
) -> Array:
    """Return the network's output: [B, out], or [N, B, out] for an ensemble.

    Args:
        layers: from `init_layers`.
        x: [B, in], the same input for every member of an ensemble.
        final: the last layer is linear; False puts a ReLU after it too.
        dropout: probability of dropping a hidden unit.
        key: randomness of dropout.
    """
    for i, layer in enumerate(layers):
        w = layer["w"]
        if w.ndim == 3 and x.ndim == 2:
            # One batched product with a repeated input is faster on a CPU than an einsum that reads it once.
            x = jnp.broadcast_to(x, (w.shape[0], *x.shape))
        x = x @ w
        x = x + _across(layer["b"])
        if i < len(layers) - 1 or not final:
            if "scale" in layer:
                x = _normalise(x, layer)
            x = jax.nn.relu(x)
            if dropout and key is not None:
                key, k = jax.random.split(key)
                x = x * jax.random.bernoulli(k, 1 - dropout, x.shape) / (1 - dropout)
    return x


def init_actor(
    key: Array,
    obs_dim: int,
    act_dim: int,
    hidden: Sequence[int],
    *,
    init: Literal["torch", "orthogonal"] = "torch",
    log_std: Literal["none", "vector", "head"] = "none",
) -> dict[str, Any]:
    """Return an actor: `hidden` layers, a `mean` layer, and what its spread needs.

    Args:
        key: of the initial weights.
        obs_dim: size of an observation.
        act_dim: size of an action.
        hidden: widths of the hidden layers.
        init: see `init_layers`.
        log_std: "none" for a deterministic actor; "vector" for one log standard deviation a dimension (IQL); "head"
            for a second output layer (SAC).
    """
    trunk_key, head_key = jax.random.split(key)
    *trunk, mean = init_layers(trunk_key, [obs_dim, *hidden, act_dim], init=init)
    actor: dict[str, Any] = {"hidden": trunk, "mean": mean}
    if log_std == "vector":
        actor["log_std"] = jnp.zeros((act_dim,))
    if log_std == "head":
        actor["log_std"] = init_layers(head_key, [hidden[-1], act_dim], init=init)[0]
    return actor


def actor_features(actor: dict[str, Any], obs: Array, *, dropout: float = 0.0, key: Array | None = None) -> Array:
    """Return the last hidden layer [B, width]."""
    return layers_forward(actor["hidden"], obs, final=False, dropout=dropout, key=key)


def actor_mean(actor: dict[str, Any], obs: Array, *, dropout: float = 0.0, key: Array | None = None) -> Array:
    """Return π(s) = tanh(mean layer), [B, act], in [-1, 1]."""
    features = actor_features(actor, obs, dropout=dropout, key=key)
    return jnp.tanh(features @ actor["mean"]["w"] + actor["mean"]["b"])


def q_values(critics: Sequence[Layer], obs: Array, action: Array) -> Array:
    """Return Q_i(s, a) of every critic, [N, B]."""
    return layers_forward(critics, jnp.concatenate([obs, action], -1))[..., 0]
