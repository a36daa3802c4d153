"""Matrix products of a network, with gradients laid out for speed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

__all__ = ["Linear", "contract", "product"]


def contract(x: Array, y: Array) -> Array:
    """Sum the outer products of the last axes over all others: `[..., D]`, `[..., N]` -> f32 `[D, N]`.

    XLA's CPU client is 1.6 times as fast where the others are merged into one axis. Elsewhere they stay apart: merging
    time with a batch that is split over devices would have every device fetch the whole of it.
    """

    def merged() -> Array:
        return jnp.matmul(x.reshape(-1, x.shape[-1]).T, y.reshape(-1, y.shape[-1]))

    def apart() -> Array:
        axes = tuple(range(x.ndim - 1))
        return jax.lax.dot_general(x, y, ((axes, axes), ((), ())), preferred_element_type=jnp.float32)

    return jax.lax.platform_dependent(cpu=merged, default=apart)


@jax.custom_vjp
def product(x: Array, kernel: Array) -> Array:
    """Return `x @ kernel`, f32 `[..., D]` and `[D, N]`; its gradient takes `contract`."""
    return jnp.matmul(x, kernel)


def _product_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return jnp.matmul(x, kernel), (x, kernel)


def _product_backward(factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = factors
    return jnp.matmul(gradient, kernel.T), contract(x, gradient)


product.defvjp(_product_forward, _product_backward)


class Linear(nn.Module):
    """An affine map, `[..., D]` -> `[..., outputs]`, bias zero at first.

    Attributes:
        outputs: width of the result.
        kernel_init: initialiser of the kernel.
    """

    outputs: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map `x`."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.outputs))
        return product(x, kernel) + self.param("bias", nn.initializers.zeros, (self.outputs,))
