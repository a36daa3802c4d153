"""CoinGame with two coins (Lu et al. 2022): a 3 x 3 torus, a red and a blue player, a red and a blue coin.

Whoever steps on a coin gets 1; the owner of the coin gets -2 when the other takes it. A taken coin comes back on a
random cell. A state is four cells 0 ... 8 (row-major): red, blue, red coin, blue coin.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax import Array

from opshape.games.base import cell_of

__all__ = ["CoinGame"]

SIDE = 3
CELLS = SIDE * SIDE


@dataclasses.dataclass(frozen=True)
class CoinGame:
    """The game as tables and integers.

    An observation is four integers `[B, 4]`: the cells of oneself, the other, one's own coin and the other's, plus 9
    times their position in this list, so that they index the 36 entries of the usual one-hot image. Red is the first
    player.

    Attributes:
        egocentric: move everything so that oneself is in the centre.
        taken: what a stolen coin costs its owner.
    """

    egocentric: bool = True
    taken: float = -2.0
    name: str = "coin_game"
    actions: int = 5
    states: int = 4 * CELLS
    reset_noise: int = 4
    step_noise: int = 2
    ends: bool = True

    def reset(self, noise: Array) -> Array:
        """Return four uniformly random cells `[B, 4]`; they may coincide."""
        return cell_of(noise, CELLS)

    def observe(self, state: Array) -> tuple[Array, Array]:
        """Return each player's four indices into the 36 entries of the one-hot image."""
        return self._seen(state), self._seen(state[..., jnp.array([1, 0, 3, 2])])

    def _seen(self, cells: Array) -> Array:
        if self.egocentric:
            # ((row - own row + 1) mod 3, the same for columns); tables would be gathers, which are slow on a CPU
            row, column = cells // SIDE, cells % SIDE
            row = (row - row[..., :1] + SIDE + 1) % SIDE
            cells = row * SIDE + (column - column[..., :1] + SIDE + 1) % SIDE
        return cells + CELLS * jnp.arange(4)

    def step(self, state: Array, actions: tuple[Array, Array], noise: Array) -> tuple[Array, tuple[Array, Array]]:
        """Move both, pay, and put taken coins on random cells."""
        red, blue = (_move(state[..., i], action) for i, action in enumerate(actions))
        red_coin, blue_coin = state[..., 2], state[..., 3]
        rr, rb, br, bb = red == red_coin, red == blue_coin, blue == red_coin, blue == blue_coin
        red_reward = 1.0 * rr + 1.0 * rb + self.taken * br
        blue_reward = 1.0 * br + 1.0 * bb + self.taken * rb
        again = cell_of(noise, CELLS)
        after = jnp.stack(
            [
                red,
                blue,
                jnp.where(rr | br, again[..., 0], red_coin),
                jnp.where(rb | bb, again[..., 1], blue_coin),
            ],
            -1,
        )
        return after, (red_reward, blue_reward)

    def statistics(self, state: Array, actions: tuple[Array, Array], after: Array) -> dict[str, Array]:
        """Return how many own and foreign coins each player takes in this step."""
        red, blue = (_move(state[..., i], action) for i, action in enumerate(actions))
        taken = {
            "own_coins": red == state[..., 2],
            "foreign_coins": red == state[..., 3],
            "own_coins_other": blue == state[..., 3],
            "foreign_coins_other": blue == state[..., 2],
        }
        return {name: value.astype(jnp.float32) for name, value in taken.items()}


def _move(cell: Array, action: Array) -> Array:
    """Return the cell that an action (right, left, down, up, stay) leads to, by integer arithmetic."""
    row = cell // SIDE + (action == 2) - (action == 3)
    column = cell % SIDE + (action == 0) - (action == 1)
    return (row + SIDE) % SIDE * SIDE + (column + SIDE) % SIDE
