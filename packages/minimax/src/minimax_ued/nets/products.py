"""Matrix products of a network: the precision of their factors, and gradients laid out for speed."""

from __future__ import annotations

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

__all__ = ["Linear", "Precision", "contract", "dot", "product"]

Precision = Literal["float32", "bfloat16"]


def dot(x: Array, y: Array, dtype: Precision) -> Array:
    """Return `x @ y` in float32, with the factors rounded to `dtype` and sums in float32."""
    if dtype == "float32":
        return jnp.matmul(x, y)
    return jnp.matmul(x.astype(dtype), y.astype(dtype), preferred_element_type=jnp.float32)


def contract(x: Array, y: Array, dtype: Precision) -> Array:
    """Sum the outer products of the last axes over all others: `[..., D]`, `[..., N]` -> f32 `[D, N]`.

    XLA's CPU client is 1.6 times as fast where the others are merged into one axis. Elsewhere they stay apart: merging
    time with a batch that is split over devices would have every device fetch the whole of it.
    """

    def merged() -> Array:
        return dot(x.reshape(-1, x.shape[-1]).T, y.reshape(-1, y.shape[-1]), dtype)

    return jax.lax.platform_dependent(cpu=merged, default=lambda: _contract_apart(x, y, dtype))


def _contract_apart(x: Array, y: Array, dtype: Precision) -> Array:
    axes = tuple(range(x.ndim - 1))
    return jax.lax.dot_general(
        x.astype(dtype), y.astype(dtype), ((axes, axes), ((), ())), preferred_element_type=jnp.float32
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: Array, kernel: Array, dtype: Precision = "float32") -> Array:
    """Return `x @ kernel`; both products of the gradient round their factors to `dtype` as well.

    Automatic differentiation would multiply a float32 gradient by a bfloat16 factor instead, a product that no matrix
    unit knows.

    Args:
        x: f32 `[..., D]`.
        kernel: f32 `[D, N]`.
        dtype: precision of the factors; sums are float32.

    Returns:
        f32 `[..., N]`.
    """
    return dot(x, kernel, dtype)


def _product_forward(x: Array, kernel: Array, dtype: Precision) -> tuple[Array, tuple[Array, Array]]:
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    return dot(x, kernel, dtype), (x, kernel)


def _product_backward(dtype: Precision, factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = factors
    return dot(gradient, kernel.T, dtype), contract(x, gradient, dtype)


product.defvjp(_product_forward, _product_backward)


class Linear(nn.Module):
    """An affine map, `[..., D]` -> `[..., outputs]`, bias zero at first.

    Attributes:
        outputs: width of the result.
        kernel_init: initialiser of the kernel.
        dtype: precision of the product's factors.
    """

    outputs: int
    kernel_init: nn.initializers.Initializer
    dtype: Precision = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map `x`."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.outputs))
        return product(x, kernel, self.dtype) + self.param("bias", nn.initializers.zeros, (self.outputs,))
