"""Pictures: every pixel that matters, and files that are whole."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageSequence

from minimax_ued.envs.maze import Level
from minimax_ued.exhibits.pictures import level_sheet, render_level, save_gif, save_png
from minimax_ued.levels.held_out import held_out_levels
from paperloop.errors import UserError

LEVEL = Level.from_text(">.#\n..#\n#.G")


def cell(image, x, y, tile):
    """The pixels of cell (x, y) of the map, which starts one tile in."""
    return image[(y + 1) * tile : (y + 2) * tile, (x + 1) * tile : (x + 2) * tile].astype(int)


def test_cells_look_like_what_they_are():
    image = render_level(LEVEL, tile=16)
    assert image.shape == (5 * 16, 5 * 16, 3)
    assert image.dtype == np.uint8
    border = image[:16]
    assert (border == border[0, 0]).all()
    assert (cell(image, 2, 0, 16) == border[0, 0]).all()
    assert cell(image, 1, 0, 16).mean() > 230
    red, green, blue = cell(image, 2, 2, 16)[8, 8]
    assert green > red
    assert green > blue
    assert cell(image, 0, 0, 16)[8, 6, 0] > 180
    assert cell(image, 0, 0, 16)[8, 6, 1] < 100


@pytest.mark.parametrize(("direction", "tip"), [(0, (8, 11)), (1, (11, 8)), (2, (8, 4)), (3, (4, 8))])
def test_the_triangle_points_where_the_agent_faces(direction, tip):
    agent = cell(render_level(LEVEL, agent_pos=(1, 1), agent_dir=direction, tile=16), 1, 1, 16)
    opposite = (15 - tip[0], 15 - tip[1])
    painted = agent[..., 1] < 150
    # Near the tip the triangle is narrow; the far side is its wide base.
    row_or_column = (lambda at: painted[at[0]]) if direction % 2 else (lambda at: painted[:, at[1]])
    assert 0 < row_or_column(tip).sum() < row_or_column(opposite).sum()


def test_the_shaded_view_is_what_the_agent_sees():
    # Facing right from (0, 0) with a view of 3: columns 0 to 2, rows -1 to 1.
    plain, shaded = render_level(LEVEL), render_level(LEVEL, view_size=3)
    changed = {(x, y) for x in range(3) for y in range(3) if (cell(plain, x, y, 16) != cell(shaded, x, y, 16)).any()}
    assert changed == {(x, y) for x in range(3) for y in range(2)}


def test_a_sheet_holds_every_level(tmp_path):
    levels = held_out_levels("maze7")
    single = [jax.tree.map(lambda leaf: leaf[i], levels) for i in range(5)]  # noqa: B023
    sheet = level_sheet(single, [f"level {i}" for i in range(5)], columns=3, tile=8)
    assert sheet.shape == (8 + 2 * (9 * 8 + 18 + 8), 8 + 3 * (9 * 8 + 8), 3)
    path = save_png(tmp_path / "new" / "sheet.png", sheet)
    assert np.array_equal(np.asarray(Image.open(path)), sheet)
    assert [file.name for file in path.parent.iterdir()] == ["sheet.png"]
    mixed = level_sheet([LEVEL, single[0]], ["", "a label that is far too long for the maze"], tile=8)
    assert mixed.shape == (8 + 18 + 9 * 8 + 8, 8 + (5 + 9) * 8 + 2 * 8, 3)


def test_an_episode_becomes_a_gif(tmp_path):
    positions, directions = [(0, 0), (1, 0), (1, 0), (1, 1)], [0, 0, 1, 1]
    path = save_gif(tmp_path / "episode.gif", LEVEL, positions, directions, tile=16, view_size=3)
    frames = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(Image.open(path))]
    assert len(frames) == 4
    for frame, position, direction in zip(frames, positions, directions, strict=True):
        exact = render_level(LEVEL, agent_pos=position, agent_dir=direction, view_size=3).astype(int)
        assert np.abs(frame - exact).max() < 40  # a palette of 64 colours
        assert np.abs(frame - exact).mean() < 1
    assert [file.name for file in tmp_path.iterdir()] == ["episode.gif"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = save_png(tmp_path / "a.png", render_level(LEVEL))
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        save_png(path, np.zeros((2, 2, 7), np.uint8))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(UserError, match=r"a\.png/b\.png cannot be written"):
        save_png(path / "b.png", render_level(LEVEL))
    with pytest.raises(UserError, match="cannot be written"):
        save_png(tmp_path, render_level(LEVEL))


def test_a_level_that_is_not_valid_is_not_drawn():
    with pytest.raises(UserError, match="goal lies on the agent"):
        render_level(LEVEL.replace(goal_pos=np.array([0, 0])))
