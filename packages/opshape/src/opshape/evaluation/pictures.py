"""One episode of CoinGame or InTheMatrix as a GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw

from opshape.agents.players import PolicyPlayer
from opshape.games.coin_game import CoinGame
from opshape.games.in_the_matrix import COINS, InTheMatrix
from opshape.play.trial import Trial
from paperloop.errors import UserError
from paperloop.files import write_atomically

__all__ = ["draw_episode", "episode_states", "frame"]

CELL = 36
COLOURS = {"first": "#ff7f0e", "second": "#1f77b4", "red": "#2ca02c", "blue": "#d62728", "floor": "#101418"}
ARROWS = ((0.85, 0.5), (0.5, 0.85), (0.15, 0.5), (0.5, 0.15))  # right, down, left, up


def episode_states(trainer: Any, vector: Any, *, seed: int, episodes: int) -> list[Any]:
    """Return the states of one game in the last episode of a trial, on the host."""
    arena = trainer.arena
    trial: Trial = arena.trial
    shaper, game = PolicyPlayer(arena.policy), trial.game
    params = arena.unravel(vector)
    first, second, third = jax.random.split(jax.random.key(seed), 3)
    players = (shaper, arena.co_player)
    before = Trial(game, trial.steps, episodes, trial.games, trial.last_pays)
    minds = (params, arena.co_player.init(first))
    if episodes:
        minds = jax.jit(lambda m, k: before(players, m, k).minds)(minds, second)

    @jax.jit
    def watch(minds: Any, key: Any) -> Any:
        start = game.reset(jax.random.uniform(key, (trial.games, game.reset_noise)))
        noise = jax.random.uniform(jax.random.fold_in(key, 1), (trial.steps, trial.games, 2 + game.step_noise))
        memories = tuple(p.start(m, trial.games) for p, m in zip(players, minds, strict=True))

        def step(carry: tuple, u: Any) -> tuple[tuple, Any]:
            state, memories = carry
            acted = [
                p.act(m, memory, seen, u[:, i])
                for i, (p, m, memory, seen) in enumerate(
                    zip(players, minds, memories, game.observe(state), strict=True)
                )
            ]
            after, _ = game.step(state, (acted[0][1], acted[1][1]), u[:, 2:])
            return (after, tuple(a[0] for a in acted)), state

        return jax.lax.scan(step, (start, memories), noise)[1]

    states = jax.device_get(watch(minds, third))
    return [jax.tree.map(lambda x, t=t: x[t, 0], states) for t in range(trial.steps)]


def frame(game: Any, state: Any) -> Image.Image:
    """Return a picture of one state.

    Raises:
        UserError: the game has no picture.
    """
    if isinstance(game, CoinGame):
        places = {"red": state[2], "blue": state[3], "first": state[0], "second": state[1]}
        image, draw = _board(3, CELL * 2)
        for name, cell in places.items():
            _mark(draw, int(cell), 3, CELL * 2, COLOURS["second" if name == "blue" else "first"] if name in
                  ("red", "blue") else COLOURS[name], coin=name in ("red", "blue"))  # fmt: skip
        return image
    if isinstance(game, InTheMatrix):
        image, draw = _board(8, CELL)
        for cell, colour, present in zip(COINS, state.colours, state.present, strict=True):
            if present:
                _mark(draw, int(cell), 8, CELL, COLOURS["blue" if colour else "red"], coin=True)
        for player, name in enumerate(("first", "second")):
            cell = int(state.place[player])
            _mark(draw, cell, 8, CELL, COLOURS[name], coin=False)
            x, y = ARROWS[int(state.facing[player])]
            left, top = cell % 8 * CELL, cell // 8 * CELL
            draw.line([left + CELL / 2, top + CELL / 2, left + x * CELL, top + y * CELL], fill="white", width=4)
        return image
    raise UserError(f"The game {game.name} has no picture.")


def draw_episode(game: Any, states: list[Any], path: Path, *, milliseconds: int = 150) -> Path:
    """Write states as an endless GIF, whole or not at all."""
    frames = [frame(game, state) for state in states]

    def save(temporary: Path) -> None:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save)
    return path


def _board(side: int, cell: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.fromarray(np.zeros((side * cell, side * cell, 3), np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, side * cell, side * cell], fill=COLOURS["floor"])
    for i in range(side + 1):
        draw.line([i * cell, 0, i * cell, side * cell], fill="#30363d")
        draw.line([0, i * cell, side * cell, i * cell], fill="#30363d")
    return image, draw


def _mark(draw: ImageDraw.ImageDraw, cell: int, side: int, size: int, colour: str, *, coin: bool) -> None:
    left, top = cell % side * size, cell // side * size
    gap = size * (0.3 if coin else 0.12)
    shape = draw.ellipse if coin else draw.rounded_rectangle
    shape([left + gap, top + gap, left + size - gap, top + size - gap], fill=colour, outline="white" if coin else None)
