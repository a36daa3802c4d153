"""InTheMatrix (Vezhnevets et al. 2020; STORM): an 8 x 8 room in which two players collect coins and then interact.

Red coins stand for cooperation, blue ones for defection. Who meets the other with the beam, when both hold coins, makes
both play a matrix game with the shares of their coins as mixed strategies. Both then stand still for some steps, see
each other's inventory, and start anew.

The board is kept as a few integers: coins only ever lie on twelve cells, and the marks of a beam follow from where its
owner stands.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from opshape.games.base import cell_of
from opshape.games.payoffs import Payoffs

__all__ = ["DECODE", "ROOM_PAYOFFS", "InTheMatrix", "Room"]

SIDE = 8
VIEW = 5
LEFT, RIGHT, FORWARD, INTERACT, STAY = range(5)

#: The usual payoffs: the dilemma with positive rewards, and matching pennies.
ROOM_PAYOFFS: dict[str, Payoffs] = {
    "ipd": (((3.0, 3.0), (0.0, 5.0)), ((5.0, 0.0), (1.0, 1.0))),
    "imp": (((1.0, -1.0), (-1.0, 1.0)), ((-1.0, 1.0), (1.0, -1.0))),
}

_STEP = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]])  # rows and columns, by direction
_CORNER = [(1, 1), (1, 2), (2, 1), (1, 6), (2, 6), (1, 5), (6, 2), (5, 1), (6, 1), (6, 6), (6, 5), (5, 6)]
#: The cells of the coins.
COINS = np.array([r * SIDE + c for r, c in _CORNER])
_EDGE = [
    *[(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (0, 7), (0, 6), (0, 5), (1, 7)],
    *[(7, 0), (7, 1), (7, 2), (6, 0), (7, 7), (7, 6), (7, 5), (6, 7), (6, 5)],
]
#: Pairs of starting cells `[18, 2]`, mirrored through the centre.
SPAWNS = np.array([[c * SIDE + r, (7 - c) * SIDE + 7 - r] for r, c in _EDGE])

#: What a cell of a view can show: nothing (-1), oneself, the other by its direction relative to one's own, a red or a
#: blue coin, a wall, the mark of a beam.
OWN, OTHER, RED, BLUE, WALL, MARK = 0, 1, 5, 6, 7, 8
#: `DECODE[code]`: the ten channels of the usual image, six kinds of things and four relative directions.
DECODE = np.zeros((9, 10), np.float32)
for _code, _channels in enumerate([(0,), (1, 6), (1, 7), (1, 8), (1, 9), (2,), (3,), (4,), (5,)]):
    DECODE[_code, list(_channels)] = 1


def _view_cells() -> np.ndarray:
    """`[cell and direction, 25]`: the cells of a view, 64 outside; one stands in its left column and looks right."""
    table = np.full((SIDE, SIDE, 4, VIEW, VIEW), SIDE * SIDE, np.int32)
    for place in np.ndindex(table.shape):
        r, c, d, i, j = place
        row, column = np.array([r, c]) + _STEP[d] * j + _STEP[(d + 1) % 4] * (i - VIEW // 2)
        if 0 <= row < SIDE and 0 <= column < SIDE:
            table[place] = row * SIDE + column
    return table.reshape(-1, VIEW * VIEW)


_VIEW_CELLS = _view_cells()


def _beam_cells() -> np.ndarray:
    """`[cell, direction]`: four cells: one and two ahead, and one ahead to the right and left."""
    table = np.zeros((SIDE * SIDE, 4, 4), int)
    for r in range(SIDE):
        for c in range(SIDE):
            for d, step in enumerate(_STEP):
                at = np.array([r, c])
                ahead, far = np.clip(at + step, 0, SIDE - 1), np.clip(at + 2 * step, 0, SIDE - 1)
                sides = [at + step + _STEP[(d + turn) % 4] for turn in (1, -1)]
                sides = [s if s.min() >= 0 and s.max() < SIDE else ahead for s in sides]
                table[r * SIDE + c, d] = [cell @ np.array([SIDE, 1]) for cell in (ahead, far, *sides)]
    return table


_BEAM = _beam_cells()


def _bits(cells: np.ndarray) -> np.ndarray:
    """Sets of cells `[..., n]` as two words of 32 bits, `[..., 2]`."""
    held = (cells[..., None] == np.arange(SIDE * SIDE)).any(-2).reshape(*cells.shape[:-1], 2, 32)
    return (held << np.arange(32, dtype=np.uint64)).sum(-1).astype(np.uint32)


_BEAM_BITS, _COIN_BITS = _bits(_BEAM.reshape(-1, 4)), _bits(COINS[:, None])


def _holds(words: Array, cells: Array) -> Array:
    """Return whether sets of cells `[..., 2]` hold cells `[..., n]`, none of which is 64 or more."""
    word = jnp.where(cells < 32, words[..., :1], words[..., 1:])
    return (word >> (cells % 32).astype(jnp.uint32)) & 1 == 1


def _coin_set(chosen: Array) -> Array:
    """Return the cells of the coins that are marked, `[B, 12]`, as a set."""
    words = jnp.where(chosen[..., None], _COIN_BITS, np.uint32(0))
    found = words[..., 0, :]
    for i in range(1, len(COINS)):  # no reduction, which would not be vectorised
        found = found | words[..., i, :]
    return found


class Room(NamedTuple):
    """The state of `B` games; the second axis of the first four is the player.

    Attributes:
        place: cells `[B, 2]`.
        facing: directions `[B, 2]`: right, down, left, up.
        inventory: red and blue coins held, `[B, 2, 2]`.
        zapped: who used the beam in the last step, `[B, 2]`.
        colours: of the twelve coins, 0 red and 1 blue, `[B, 12]`; drawn once an episode.
        present: which of them lie on the board, `[B, 12]`.
        freeze: steps that both still stand still; 0 or less while they may move `[B]`.
    """

    place: Array
    facing: Array
    inventory: Array
    zapped: Array
    colours: Array
    present: Array
    freeze: Array


@dataclasses.dataclass(frozen=True)
class InTheMatrix:
    """The game.

    An observation is {"view": what each of 5 x 5 cells shows `[B, 25]`, "inventory": own red and blue coins, whether
    oneself and the other hold any, and while both stand still the other's coins `[B, 6]`}.

    Attributes:
        payoffs: `table[own][other] = (own reward, the other's)`; red is the first action.
        fixed_coins: red and blue alternate; otherwise their cells are drawn in every episode.
        penalty: steps of standing still after an interaction.
        directions: how many of the four directions players may start in; the reference draws from three by mistake.
    """

    payoffs: Payoffs = ROOM_PAYOFFS["ipd"]
    fixed_coins: bool = True
    penalty: int = 5
    directions: int = 4
    name: str = "in_the_matrix"
    actions: int = 5
    reset_noise: int = 15
    step_noise: int = 4
    ends: bool = True

    def reset(self, noise: Array) -> Room:
        """Return the start of an episode: twelve uniforms place the coins, three the players."""
        if self.fixed_coins:
            colours = jnp.broadcast_to((jnp.arange(12) + 1) % 2, (*noise.shape[:-1], 12))
        else:
            draw = noise[..., :12]
            colours = ((draw[..., None, :] < draw[..., :, None]).sum(-1) >= 6).astype(jnp.int32)
        return self._spawn(colours, noise[..., 12:], hide=True)

    def _spawn(self, colours: Array, noise: Array, *, hide: bool) -> Room:
        """Return a fresh room. A player may start on a coin's cell: the coin hides it (`hide`) or is gone."""
        spawn = cell_of(noise[..., 0], len(SPAWNS))
        place = jnp.asarray(SPAWNS)[spawn]
        present = jnp.ones(colours.shape, bool)
        if not hide:
            present &= (place[..., None] != COINS).all(-2)
        zero = jnp.zeros(place.shape, jnp.int32)
        return Room(
            place=place,
            facing=cell_of(noise[..., 1:3], self.directions),
            inventory=jnp.stack([zero, zero], -1),
            zapped=zero.astype(bool),
            colours=colours,
            present=present,
            freeze=jnp.full(spawn.shape, -1, jnp.int32),
        )

    def step(self, state: Room, actions: tuple[Array, Array], noise: Array) -> tuple[Room, tuple[Array, Array]]:
        """Turn or move, settle collisions by a fair coin, collect, fire, pay, and start anew after a freeze."""
        action = jnp.where(state.freeze[..., None] > 0, STAY, jnp.stack(actions, -1))
        facing = (state.facing + (action == LEFT) - (action == RIGHT)) % 4
        place = self._move(state, action, noise[..., 0])

        on = place[..., None] == COINS  # [B, 2, 12]
        taken = on & state.present[..., None, :]
        blue = (taken & (state.colours == 1)[..., None, :]).sum(-1)
        inventory = state.inventory + jnp.stack([taken.sum(-1) - blue, blue], -1)
        # A coin that hid a player goes when he does.
        left = (state.place[..., None] == COINS).any(-2)
        present = state.present & ~on.any(-2) & ~left

        zapped = action == INTERACT
        beam = jnp.asarray(_BEAM)[place, facing]  # [B, 2, 4]
        hits = (beam == place[..., ::-1, None]).any(-1) & zapped
        met = hits.any(-1) & (inventory.sum(-1) > 0).all(-1)
        after = Room(place, facing, inventory, zapped, state.colours, present, state.freeze)
        rewards = tuple(jnp.where(met, r, 0.0) for r in self._pay(inventory))

        waiting = jnp.where(state.freeze > 0, state.freeze - 1, state.freeze)
        again = (waiting == 0) & ~met
        after = after._replace(freeze=jnp.where(met, self.penalty, waiting))
        fresh = self._spawn(state.colours, noise[..., 1:], hide=False)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(again.reshape(again.shape + (1,) * (new.ndim - again.ndim)), new, old)

        return jax.tree.map(choose, fresh, after), rewards  # ty: ignore[invalid-explicit-return]

    def _move(self, state: Room, action: Array, noise: Array) -> Array:
        """Return the cells after moving, `[B, 2]`: whoever stood on a cell keeps it; of two newcomers one does."""
        row, column = state.place // SIDE, state.place % SIDE
        forward = action == FORWARD
        step = jnp.asarray(_STEP)[state.facing] * forward[..., None]
        wanted = (row + step[..., 0]).clip(0, SIDE - 1) * SIDE + (column + step[..., 1]).clip(0, SIDE - 1)
        moved = wanted != state.place
        clash = wanted[..., 0] == wanted[..., 1]
        first = jnp.where(moved.all(-1), noise >= 0.5, ~moved[..., 0])  # the first player has the cell
        keeps = jnp.stack([first, ~first], -1)
        return jnp.where(clash[..., None] & ~keeps & moved, state.place, wanted)

    def _pay(self, inventory: Array) -> tuple[Array, Array]:
        """Return both rewards of an interaction, the bilinear form of the players' shares of red coins."""
        share = inventory[..., 0] / jnp.maximum(inventory.sum(-1), 1)
        a, b = share[..., 0], share[..., 1]
        (cc, cd), (dc, dd) = self.payoffs
        rewards = [
            a * b * cc[i] + a * (1 - b) * cd[i] + (1 - a) * b * dc[i] + (1 - a) * (1 - b) * dd[i] for i in (0, 1)
        ]
        return rewards[0], rewards[1]

    def observe(self, state: Room) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return what each player sees. Sets of cells are words of bits, so that a view is a few tests per cell."""
        red, blue = (_coin_set(state.present & (state.colours == colour)) for colour in (0, 1))
        stand = state.place * 4 + state.facing
        beams = jnp.where(state.zapped[..., None], jnp.asarray(_BEAM_BITS)[stand], np.uint32(0))
        marks = beams[..., 0, :] | beams[..., 1, :]
        hidden = _holds(red | blue, state.place)
        cells = jnp.asarray(_VIEW_CELLS)[stand]
        return tuple(self._seen(state, p, cells[..., p, :], (red, blue, marks), hidden) for p in (0, 1))  # ty: ignore

    def _seen(self, state: Room, player: int, cells: Array, sets: tuple[Array, ...], hidden: Array) -> dict[str, Array]:
        other = 1 - player
        view = jnp.full(cells.shape, -1, jnp.int32)
        for words, code in zip(sets[::-1], (MARK, BLUE, RED), strict=True):
            view = jnp.where(_holds(words, cells), code, view)
        shown = OTHER + (state.facing[..., other] - state.facing[..., player]) % 4
        for who, code in ((other, shown[..., None]), (player, OWN)):
            view = jnp.where((cells == state.place[..., who, None]) & ~hidden[..., who, None], code, view)
        view = jnp.where(cells == SIDE * SIDE, WALL, view)
        holds = (state.inventory.sum(-1) > 0).astype(jnp.int32)
        revealed = jnp.where((state.freeze >= 0)[..., None], state.inventory[..., other, :], 0)
        parts = [state.inventory[..., player, :], holds[..., player, None], holds[..., other, None], revealed]
        return {"view": view.astype(jnp.int8), "inventory": jnp.concatenate(parts, -1).astype(jnp.int8)}

    def statistics(self, state: Room, actions: tuple[Array, Array], after: Room) -> dict[str, Array]:
        """Return interactions, and at interactions the shares of red coins and the coins of both players."""
        met = ((after.freeze == self.penalty) & (state.freeze <= 0)).astype(jnp.float32)
        total = after.inventory.sum(-1)
        share = met[..., None] * after.inventory[..., 0] / jnp.maximum(total, 1)
        return {
            "interactions": met,
            "red_share": share[..., 0],
            "red_share_other": share[..., 1],
            "coins": met * total[..., 0],
            "coins_other": met * total[..., 1],
        }
