"""The levels that are stored with the package."""

import jax
import numpy as np
import pytest

from minimax_ued.envs.maze import check_level, pack_levels, paths
from minimax_ued.levels.held_out import HELD_OUT, held_out_levels
from paperloop.errors import UserError

SETS = [("maze7", 600, 100, 7, 14), ("maze13", 1000, 100, 13, 60), ("maze13-10000", 10_000, 1000, 13, 60)]


@pytest.fixture(scope="module")
def fewest_actions():
    """Name -> the fewest actions of each level, in one program for each size of map."""
    fewest = jax.jit(jax.vmap(paths.min_actions))
    actions = {}
    for name, n, *_ in SETS:
        levels = held_out_levels(name)
        parts = [fewest(jax.tree.map(lambda leaf: leaf[i : i + 1000], levels)) for i in range(0, n, 1000)]  # noqa: B023
        actions[name] = np.concatenate(parts)
    return actions


@pytest.mark.parametrize(("name", "n", "n_hard", "size", "n_walls"), SETS)
def test_held_out_levels_are_solvable_different_and_the_hard_ones_the_longest(
    name, n, n_hard, size, n_walls, fewest_actions
):
    levels, hard = held_out_levels(name), held_out_levels(f"{name}-hard")
    assert levels.wall_map.shape == (n, size, size)
    assert hard.wall_map.shape == (n_hard, size, size)
    for i in range(0, n, n // 24):
        check_level(jax.tree.map(lambda leaf: leaf[i], levels))  # noqa: B023
    packed = pack_levels(levels)
    assert len(np.unique(packed, axis=0)) == n
    actions = fewest_actions[name]
    assert actions.min() > 0
    of_level = dict(zip(map(bytes, packed), actions.tolist(), strict=True))
    assert [of_level[bytes(row)] for row in pack_levels(hard)] == np.sort(actions)[::-1][:n_hard].tolist()
    # Drawn from the generator's distribution: occupancy of n_walls draws, agent and goal cells kept free.
    assert HELD_OUT[name].n_walls == n_walls
    cells = size * size
    assert abs(levels.wall_map.sum((1, 2)).mean() - cells * (1 - (1 - 1 / cells) ** n_walls)) < 0.35
    assert not levels.wall_map[np.arange(n), levels.agent_pos[:, 1], levels.agent_pos[:, 0]].any()
    assert not levels.wall_map[np.arange(n), levels.goal_pos[:, 1], levels.goal_pos[:, 0]].any()


def test_the_large_set_is_small_and_shares_no_level_with_the_other(fewest_actions):
    one, other = (set(map(bytes, pack_levels(held_out_levels(name)))) for name in ("maze13", "maze13-10000"))
    assert not one & other
    # 27 bytes a level before compression.
    assert sum(map(len, other)) == 270_000
    # Both are samples of one distribution.
    means = [fewest_actions[name].mean() for name in ("maze13", "maze13-10000")]
    error = fewest_actions["maze13-10000"].std() * np.sqrt(1 / 1000 + 1 / 10_000)
    assert abs(means[0] - means[1]) < 4 * error


def test_an_unknown_set_is_answered_with_the_nearest():
    with pytest.raises(UserError, match='did you mean "maze7-hard"'):
        held_out_levels("maze7-hrad")
    with pytest.raises(UserError, match='did you mean "maze13-10000"'):
        held_out_levels("maze13-1000")
