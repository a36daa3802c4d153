"""Policy heads and value heads on top of a recurrent core."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from minimax_ued.nets.products import Linear, Precision, product

__all__ = ["EnsembleHead", "Head"]

_SQRT2 = 2.0**0.5


class Head(nn.Module):
    """One tanh layer and a linear output, `[..., H]` -> `[..., outputs]`.

    Attributes:
        width: units of the hidden layer.
        outputs: width of the result.
        constant: initial value of all of the last kernel; None makes it orthogonal. A number and no initialiser, which
            would be equal to nothing but itself: modules are compared by value.
        dtype: precision of the products' factors.
    """

    width: int
    outputs: int
    constant: float | None = None
    dtype: Precision = "float32"

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Apply the head."""
        hidden_init, init = nn.initializers.orthogonal(_SQRT2), nn.initializers.orthogonal()
        if self.constant is not None:
            init = nn.initializers.constant(self.constant)
        hidden = nn.tanh(Linear(self.width, hidden_init, self.dtype, name="Dense_0")(features))
        return Linear(self.outputs, init, self.dtype, name="Dense_1")(hidden)


class EnsembleHead(nn.Module):
    """K value heads side by side, each a tanh layer and a linear output: `[..., H]` -> `[..., K]`.

    They share nothing; their hidden layers are computed as one.

    Attributes:
        width: units of each hidden layer.
        heads: K.
        dtype: precision of the products' factors.
    """

    width: int
    heads: int
    dtype: Precision = "float32"

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Apply the heads."""

        def side_by_side(key: Array, shape: tuple[int, int]) -> Array:
            init, keys = nn.initializers.orthogonal(_SQRT2), jax.random.split(key, self.heads)
            return jnp.concatenate([init(k, (shape[0], self.width)) for k in keys], axis=1)

        def outputs(key: Array, shape: tuple[int, int]) -> Array:
            init = nn.initializers.orthogonal()
            return jnp.stack([init(k, (self.width, 1))[:, 0] for k in jax.random.split(key, self.heads)])

        hidden = nn.tanh(Linear(self.heads * self.width, side_by_side, self.dtype, name="hidden")(features))
        kernel = self.param("kernel", outputs, (self.heads, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.heads,))
        # A product with the block-diagonal kernel: K times the multiplications, but few, and in one product.
        blocks = (jnp.eye(self.heads)[:, None, :] * kernel[:, :, None]).reshape(-1, self.heads)
        return product(hidden, blocks, self.dtype) + bias
