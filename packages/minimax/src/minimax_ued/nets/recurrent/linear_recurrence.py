"""Linear recurrences with a diagonal complex matrix and resets, differentiated by hand.

    x_t = k_t a x_{t-1} + d_t           k_t = 0 where the sequence restarts at t, else 1

Complex numbers are two real ones on an axis of length two, so that all arithmetic is real and vectorises. The gradient
with respect to x obeys the same recurrence with conj(a), backwards in time; differentiating through a scan would find
that recurrence too, but would keep, or compute again, what the scan needed on its way.

Two orders of evaluation agree up to rounding. "sequential" takes T dependent steps and the least arithmetic: the
choice on a CPU. "associative" takes a multiple of log2(T) dependent steps and several times the arithmetic (Blelloch
1990): the choice where dependent steps are what costs. A reset needs no flag there: k_t a = 0 cuts by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.nets.recurrent.gates import keep_mask

__all__ = ["Order", "linear_recurrence", "rotate"]

Order = Literal["auto", "sequential", "associative"]


def rotate(a: Array, x: Array) -> Array:
    """Return the complex product a x: `a` f32 `[2, P]`, `x` f32 `[..., 2, P]`, real and imaginary parts."""
    return a[0] * x + jnp.stack([-a[1], a[1]]) * x[..., ::-1, :]


def _conjugate(a: Array) -> Array:
    return jnp.stack([a[0], -a[1]])


def _sequential(a: Array, carry: Array, drive: Array, keep: Array) -> Array:
    def body(x: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        d, keep = step
        x = keep * rotate(a, x) + d
        return x, x

    return jax.lax.scan(body, carry, (drive, keep))[1]


def _sequential_adjoint(a: Array, final: Array, gradients: Array, keep: Array) -> Array:
    def body(later: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        gradient, keep = step
        adjoint = gradient + later
        return keep * rotate(a, adjoint), adjoint

    return jax.lax.scan(body, final, (gradients, keep), reverse=True)[1]


def _associative(a: Array, drive: Array, keep: Array, *, reverse: bool = False) -> Array:
    """Return x_t = keep_t a x_{t-1} + drive_t from x = 0; with `reverse`, t + 1 in the place of t - 1."""

    def combine(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return _times(second[0], first[0]), _times(second[0], first[1]) + second[1]

    return jax.lax.associative_scan(combine, (keep * a, drive), reverse=reverse)[1]


def _times(x: Array, y: Array) -> Array:
    """The complex product of `x` and `y`, both `[..., 2, P]`."""
    (xr, xi), (yr, yi) = ((z[..., 0, :], z[..., 1, :]) for z in (x, y))
    return jnp.stack([xr * yr - xi * yi, xr * yi + xi * yr], axis=-2)


def _states(a: Array, carry: Array, drive: Array, keep: Array, order: Order) -> Array:
    def sequential() -> Array:
        return _sequential(a, carry, drive, keep)

    def associative() -> Array:
        return _associative(a, drive.at[0].add(keep[0] * rotate(a, carry)), keep)

    return _choose(order, sequential, associative)


def _adjoints(a: Array, final: Array, gradients: Array, keep: Array, order: Order) -> Array:
    conjugate = _conjugate(a)

    def sequential() -> Array:
        return _sequential_adjoint(conjugate, final, gradients, keep)

    def associative() -> Array:
        # What reaches step t comes from t + 1, and is cut by the reset at t + 1.
        later = jnp.concatenate([keep[1:], jnp.zeros_like(keep[:1])])
        return _associative(conjugate, gradients.at[-1].add(final), later, reverse=True)

    return _choose(order, sequential, associative)


def _choose(order: Order, sequential: Callable[[], Array], associative: Callable[[], Array]) -> Array:
    if order == "auto":
        return jax.lax.platform_dependent(cpu=sequential, default=associative)
    return {"sequential": sequential, "associative": associative}[order]()


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def linear_recurrence(
    a: Array, carry: Array, drive: Array, resets: Array, order: Order = "auto"
) -> tuple[Array, Array]:
    """Run the recurrence over a sequence.

    Reverse-mode differentiable once, with respect to everything but `resets`. The axis of length two holds real and
    imaginary parts.

    Args:
        a: the diagonal of the matrix, f32 `[2, P]`.
        carry: x_0, the state before the first step, f32 `[B, 2, P]`.
        drive: d, f32 `[T, B, 2, P]`.
        resets: bool `[T, B]`; True at t forgets the state before step t.
        order: order of evaluation; "auto" takes "sequential" on CPUs and "associative" elsewhere.

    Returns:
        The last state, `[B, 2, P]`, and all states x_1 .. x_T, `[T, B, 2, P]`.
    """
    states = _states(a, carry, drive, _keep(resets, drive), order)
    return states[-1], states


def _keep(resets: Array, like: Array) -> Array:
    return keep_mask(resets, like)[..., None]


def _forward(a: Array, carry: Array, drive: Array, resets: Array, order: Order):
    states = _states(a, carry, drive, _keep(resets, drive), order)
    return (states[-1], states), (a, carry, resets, states)


def _backward(order, residuals, gradients):
    a, carry, resets, states = residuals
    final_gradient, states_gradient = gradients
    keep = _keep(resets, states)
    adjoints = _adjoints(a, final_gradient, states_gradient, keep, order)

    def correlate(adjoint: Array, before: Array) -> Array:
        """Sum conj(before) adjoint over all axes but the last two."""
        axes = tuple(range(adjoint.ndim - 2))
        real = (adjoint * before).sum(axes)
        imaginary = (adjoint * before[..., ::-1, :]).sum(axes)
        return jnp.stack([real[0] + real[1], imaginary[1] - imaginary[0]])

    first = keep[0] * adjoints[0]
    a_gradient = correlate(keep[1:] * adjoints[1:], states[:-1]) + correlate(first, carry)
    return a_gradient, rotate(_conjugate(a), first), adjoints, None


linear_recurrence.defvjp(_forward, _backward)
