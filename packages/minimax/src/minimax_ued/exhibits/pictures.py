"""Pictures of mazes and of episodes: RGB arrays, PNG sheets and GIFs.

Runs on the host with NumPy and Pillow. Files are written whole or not at all, and their folders are made.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minimax_ued.envs.maze.level import Level, check_level
from paperloop.errors import UserError
from paperloop.files import write_atomically

__all__ = ["level_sheet", "render_level", "save_gif", "save_png"]

_FLOOR, _LINE, _WALL = (247, 247, 244), (226, 226, 222), (47, 54, 66)
_GOAL, _AGENT, _VIEW = (46, 160, 90), (208, 62, 56), (255, 206, 84)
_PAPER, _INK = (255, 255, 255), (47, 54, 66)


def render_level(
    level: Level, *, agent_pos: Any = None, agent_dir: Any = None, tile: int = 16, view_size: int | None = None
) -> np.ndarray:
    """Return one maze with its outer wall, u8[(H + 2) tile, (W + 2) tile, 3]; the agent's triangle points ahead.

    Args:
        level: one level.
        agent_pos: (x, y) of the agent, by default where it starts.
        agent_dir: direction of the agent, by default the one in which it starts.
        tile: pixels a cell.
        view_size: shade the square of this side that the agent sees.

    Raises:
        UserError: the level is not valid.
    """
    level = check_level(level)
    position = level.agent_pos if agent_pos is None else np.asarray(agent_pos)
    direction = int(level.agent_dir if agent_dir is None else agent_dir)
    height, width = level.wall_map.shape
    kinds = np.pad(level.wall_map, 1, constant_values=True).astype(int)  # floor 0, wall 1
    kinds[level.goal_pos[1] + 1, level.goal_pos[0] + 1] = 2
    kinds[position[1] + 1, position[0] + 1] = 3 + direction
    cells = _tiles(tile)[kinds]  # [H + 2, W + 2, tile, tile, 3]
    if view_size is not None:
        seen = np.pad(_view_cells(position, direction, view_size, height, width), 1)
        weight = np.where(kinds == 1, 0.2, 0.4)[seen][:, None, None, None]  # walls stay dark
        cells[seen] = np.round((1 - weight) * cells[seen] + weight * np.array(_VIEW)).astype(np.uint8)
    return cells.swapaxes(1, 2).reshape((height + 2) * tile, (width + 2) * tile, 3)


def _view_cells(agent_pos: Any, agent_dir: int, view_size: int, height: int, width: int) -> np.ndarray:
    """Return bool[H, W], the cells inside the square of side `view_size` ahead of the agent; walls hide nothing."""
    x, y = (int(value) for value in agent_pos)
    side, reach = view_size // 2, view_size - 1
    left, right = {0: (x, x + reach), 2: (x - reach, x)}.get(agent_dir, (x - side, x + side))
    top, bottom = {1: (y, y + reach), 3: (y - reach, y)}.get(agent_dir, (y - side, y + side))
    columns, rows = np.arange(width), np.arange(height)
    return ((rows >= top) & (rows <= bottom))[:, None] & ((columns >= left) & (columns <= right))[None, :]


@functools.lru_cache(maxsize=16)
def _tiles(tile: int) -> np.ndarray:
    """u8[7, tile, tile, 3]: floor, wall, goal, and the agent in its four directions."""
    floor = np.full((tile, tile, 3), _FLOOR, np.uint8)
    floor[-1], floor[:, -1] = _LINE, _LINE
    goal, margin = floor.copy(), max(1, tile // 10)
    goal[margin : tile - margin - 1, margin : tile - margin - 1] = _GOAL
    # The triangle is drawn eight times as large and averaged, so that its edges are smooth.
    large = 8 * tile
    mask = Image.new("L", (large, large), 0)
    corners = [(x * large, y * large) for x, y in ((0.14, 0.12), (0.88, 0.5), (0.14, 0.88))]
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    cover = np.asarray(mask.resize((tile, tile), Image.Resampling.BOX), float)[..., None] / 255
    turns = [np.rot90(cover, -quarter) for quarter in range(4)]  # clockwise, as directions count
    agents = [np.round((1 - turned) * floor + turned * np.array(_AGENT)).astype(np.uint8) for turned in turns]
    return np.stack([floor, np.full((tile, tile, 3), _WALL, np.uint8), goal, *agents])


def level_sheet(levels: Sequence[Level], labels: Sequence[str], *, columns: int = 8, tile: int = 12) -> np.ndarray:
    """Return a sheet u8[height, width, 3] of single mazes, each with its label above it; sizes may differ.

    Args:
        levels: at least one.
        labels: one text a level; longer ones are cut off at the width of the maze.
        columns: mazes a row.
        tile: pixels a cell.

    Raises:
        UserError: a level is not valid.
    """
    columns = min(columns, len(levels))
    pictures = [render_level(level, tile=tile) for level in levels]
    gap, text = tile, 18
    # Every row is as high and every column as wide as its largest maze.
    rows = range(0, len(pictures), columns)
    heights = [max(picture.shape[0] for picture in pictures[row : row + columns]) + text for row in rows]
    widths = [max(picture.shape[1] for picture in pictures[column::columns]) for column in range(columns)]
    top, left = (gap + np.cumsum([0, *(size + gap for size in sizes)]) for sizes in (heights, widths))
    sheet = Image.new("RGB", (int(left[-1]), int(top[-1])), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = int(left[i % columns]), int(top[i // columns])
        draw.text((x, y), _cut(label, font, widths[i % columns]), fill=_INK, font=font)
        sheet.paste(Image.fromarray(picture), (x, y + text))
    return np.asarray(sheet)


def _cut(text: str, font: Any, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def save_png(path: str | Path, image: np.ndarray) -> Path:
    """Write u8[height, width, 3] to a PNG file, and return its path.

    Raises:
        UserError: the file cannot be written.
    """
    return _write(path, Image.fromarray(image), format="PNG", optimize=True)


def save_gif(
    path: str | Path, level: Level, agent_pos: Any, agent_dir: Any, *, tile: int = 24, view_size: int | None = None
) -> Path:
    """Write an episode as an animated GIF, 8 steps a second, with a pause on its last frame; return its path.

    Args:
        path: file to write.
        level: the level of the episode.
        agent_pos: i32[n, 2], (x, y) of the agent from the start to the end.
        agent_dir: i32[n], its direction.
        tile: pixels a cell.
        view_size: shade the square of this side that the agent sees.

    Raises:
        UserError: the level is not valid, or the file cannot be written.
    """
    frames = [
        render_level(level, agent_pos=position, agent_dir=direction, tile=tile, view_size=view_size)
        for position, direction in zip(agent_pos, agent_dir, strict=True)
    ]
    images = [Image.fromarray(frame).quantize(colors=64, dither=Image.Dither.NONE) for frame in frames]
    durations = [125] * (len(images) - 1) + [1500]
    animation = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0, "disposal": 1}
    return _write(path, images[0], format="GIF", **animation)


def _write(path: str | Path, image: Image.Image, **options: Any) -> Path:
    path, content = Path(path), io.BytesIO()
    image.save(content, **options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise UserError(f"The picture {path} cannot be written: {error.strerror or error}.") from error
    return path
