"""Layers as pure functions of plain dictionaries of arrays.

`B` is the number of games. The GRU is Haiku's, which the reference uses; flax and torch have another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

__all__ = ["Params", "constant", "dense", "gru", "init_dense", "init_gru", "orthogonal", "pick", "product"]

Params = Mapping[str, Any]


def orthogonal(key: Array, shape: tuple[int, int], scale: float = 1.0) -> Array:
    """Return a random matrix with orthonormal rows or columns, times `scale`.

    The polar factor of a Gaussian matrix has the same distribution as the Q of its QR decomposition. Newton's iteration
    for it needs matrix products only, so that it may run inside any `vmap`; batched QR can hang JAX's CPU client.
    """
    wide = shape[0] < shape[1]
    x = jax.random.normal(key, shape[::-1] if wide else shape)
    x = x / jnp.linalg.norm(x)

    def sharpen(_: int, x: Array) -> Array:
        return 1.5 * x - 0.5 * x @ (x.T @ x)

    x = jax.lax.fori_loop(0, 40, sharpen, x)
    return scale * (x.T if wide else x)


def constant(shape: tuple[int, int], value: float) -> Array:
    """Return a matrix of one value."""
    return jnp.full(shape, value, jnp.float32)


def init_dense(key: Array, inputs: int, outputs: int, scale: float = 1.0, *, bias: bool = True) -> dict[str, Array]:
    """Return the parameters of `dense`: an orthogonal matrix `w` and, unless told otherwise, a zero bias `b`."""
    weights = {"w": orthogonal(key, (inputs, outputs), scale)}
    return weights | {"b": jnp.zeros(outputs)} if bias else weights


def dense(params: Params, x: Array, *, unrolled: bool = False) -> Array:
    """Return x W + b, `[B, inputs]` to `[B, outputs]`."""
    y = product(x, params["w"], unrolled=unrolled)
    return y + params["b"] if "b" in params else y


def product(x: Array, w: Array, *, unrolled: bool) -> Array:
    """Return x W, `[B, n]` by `[n, m]`.

    Args:
        x: left factor.
        w: right factor.
        unrolled: as n scaled rows of W. Where every candidate has weights of its own and few games, these fuse into one
            loop, and many tiny matrix products would cost more than their arithmetic.
    """
    if not unrolled:
        return x @ w
    terms = [x[..., i : i + 1] * w[i] for i in range(len(w))]
    while len(terms) > 1:  # a tree: sums that do not wait for one another
        pairs = zip(terms[::2], terms[1::2], strict=False)
        terms = [a + b for a, b in pairs] + terms[len(terms) // 2 * 2 :]
    return terms[0]


def pick(table: Array, index: Array) -> Array:
    """Return `table[index]` for a table with few rows, by comparison: gathers are slow on a CPU.

    Args:
        table: `[n, ...]`.
        index: integers that broadcast against one row.
    """
    found = table[-1]
    for i in range(len(table) - 1):
        found = jnp.where(index == i, table[i], found)
    return found


def init_gru(key: Array, inputs: int, width: int, scale: float = 1.0) -> dict[str, Array]:
    """Return the parameters of `gru`: `w_i` [inputs, 3 width], `w_h` [width, 3 width], one bias `b`."""
    first, second = jax.random.split(key)
    return {
        "w_i": orthogonal(first, (inputs, 3 * width), scale),
        "w_h": orthogonal(second, (width, 3 * width), scale),
        "b": jnp.zeros(3 * width),
    }


def gru(params: Params, x: Array, h: Array, *, unrolled: bool = False) -> Array:
    """Return the next hidden state `[B, width]` (Cho et al. 2014, in Haiku's form).

        z, r = sigmoid(x W_i + h W_h + b);  a = tanh(x W_i + (r h) W_h + b);  h' = (1 - z) h + z a

    The reset gate acts before the recurrent product, and z weighs the new value, not the old.

    Args:
        params: of `init_gru`.
        x: the input's part x W_i + b, `[B, 3 width]`.
        h: `[B, width]`.
        unrolled: see `product`.
    """
    width, w_h = h.shape[-1], params["w_h"]
    gates = jax.nn.sigmoid(x[..., : 2 * width] + product(h, w_h[:, : 2 * width], unrolled=unrolled))
    z, r = gates[..., :width], gates[..., width:]
    a = jnp.tanh(x[..., 2 * width :] + product(r * h, w_h[:, 2 * width :], unrolled=unrolled))
    return h + z * (a - h)
