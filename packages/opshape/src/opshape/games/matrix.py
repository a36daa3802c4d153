"""The finitely repeated matrix game.

State and observation are one integer: what both did last, own action first (0 CC, 1 CD, 2 DC, 3 DD), or 4, START.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from opshape.games.exact import START
from opshape.games.payoffs import PAYOFFS, Payoffs

__all__ = ["IteratedMatrixGame"]


@dataclasses.dataclass(frozen=True)
class IteratedMatrixGame:
    """A 2 x 2 game that is repeated; action 0 cooperates (heads), 1 defects (tails).

    Attributes:
        payoffs: `table[a1][a2] = (r1, r2)`.
    """

    payoffs: Payoffs = PAYOFFS["ipd"]
    name: str = "matrix"
    actions: int = 2
    states: int = 5
    reset_noise: int = 0
    step_noise: int = 0
    ends: bool = False

    def reset(self, noise: Array) -> Array:
        """Return START for every game."""
        return jnp.full(noise.shape[:-1], START, jnp.int32)

    def observe(self, state: Array) -> tuple[Array, Array]:
        """Return the state from both sides: for the second player CD and DC change places."""
        mixed = (state == 1) | (state == 2)
        return state, jnp.where(mixed, 3 - state, state)

    def step(self, state: Array, actions: tuple[Array, Array], noise: Array) -> tuple[Array, tuple[Array, Array]]:
        """Return the next state and both rewards; these are bilinear in the actions."""
        first, second = actions
        a, b = first.astype(jnp.float32), second.astype(jnp.float32)
        (cc, cd), (dc, dd) = self.payoffs
        rewards = tuple(
            cc[i] + a * (dc[i] - cc[i]) + b * (cd[i] - cc[i]) + a * b * (cc[i] + dd[i] - cd[i] - dc[i]) for i in (0, 1)
        )
        return 2 * first + second, rewards  # ty: ignore[invalid-explicit-return]

    def statistics(self, state: Array, actions: tuple[Array, Array], after: Array) -> dict[str, Array]:
        """Return visits `[B, 5]` and both players' cooperations by state, each named from his own side."""
        sides = [jax.nn.one_hot(seen, 5) for seen in self.observe(state)]
        cooperated = [side * (action == 0)[..., None] for side, action in zip(sides, actions, strict=True)]
        return {
            "visits": sides[0],
            "visits_other": sides[1],
            "cooperations": cooperated[0],
            "cooperations_other": cooperated[1],
        }
