"""The test mazes that facebookresearch/dcd draws otherwise than minimax: for comparison with its published tables.

    python -m benchmarks.minimax_dcd_mazes RUN... [--episodes 100]

measures runs on the twelve mazes as dcd has them, and writes `evaluation-dcd.json` into each run folder, which
`python -m benchmarks.minimax_published` prints next to the tables of Jiang et al. 2021 (arXiv 2110.02439) and
Parker-Holder et al. 2022 (arXiv 2203.01302).

- `FourRoomsDCD`: T = 100 instead of 250; walls are opaque; agent and goal may stand in doors.
- `CrossingDCD` ("SimpleCrossingS11N5"): exactly five walls instead of two to eight; one opening for each wall, made
  room by room, instead of one walk through all; walls are opaque. T is the same.
- `PerfectMaze...DCD`: by Kruskal's algorithm instead of depth-first search; agent and goal in two corners instead of
  anywhere; the agent faces right. The sizes are the original's: 9 (Small), 19 (Medium), 49 (Large) and 99 (XL).

The first two are MiniGrid's (Chevalier-Boisvert et al. 2023, arXiv 2306.13831).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from minimax_ued.envs.maze.bitmap import pack_bits
from minimax_ued.envs.maze.level import Level
from minimax_ued.envs.maze.random_levels import draw_below, place_agent_and_goal
from minimax_ued.levels.suite import OOD_MAZES, TEST_MAZES, TestMaze

__all__ = ["DCD_MAZES", "OOD_MAZES_DCD", "crossing_room_by_room", "four_rooms_in_doors", "perfect_maze_kruskal"]


def four_rooms_in_doors(key: jax.Array, size: int = 17) -> Level:
    """Draw four rooms with one door in each arm of the cross; agent and goal may stand in doors, as in MiniGrid.

    Args:
        key: typed PRNG key.
        size: H = W, odd.
    """
    door_key, place_key = jax.random.split(key)
    middle, index = size // 2, jnp.arange(size)
    cross = (index[:, None] == middle) | (index[None, :] == middle)
    doors = jax.random.randint(door_key, (4,), 0, middle) + jnp.array([0, middle + 1, 0, middle + 1])
    walls = cross.at[middle, doors[:2]].set(False).at[doors[2:], middle].set(False)
    bits = jax.random.bits(place_key, (3,), jnp.uint32)
    agent_pos, agent_dir, goal_pos = place_agent_and_goal(bits, pack_bits(walls), size)
    return Level(wall_map=walls, goal_pos=goal_pos, agent_pos=agent_pos, agent_dir=agent_dir)


def crossing_room_by_room(key: jax.Array, size: int = 9, n_walls: int = 5) -> Level:
    """Draw straight walls across the whole map, each with one opening, from corner to opposite corner.

    MiniGrid's SimpleCrossing, whose map is this one with its outer wall. `n_walls` of the odd rows and columns become
    walls and divide the map into rooms. A path goes from the first room to the last, through each wall once and in
    random order; each time the opening is uniform over the wall that the two rooms share. So the shortest path can be
    longer than 2 (size - 1), where it has to go back and forth.

    Args:
        key: typed PRNG key.
        size: H = W, odd.
        n_walls: number of walls, at most size - 1.
    """
    line_key, order_key, opening_key = jax.random.split(key, 3)
    half, odd = size // 2, jnp.arange(1, size, 2)
    lines = jax.random.permutation(line_key, size - 1) < n_walls  # rows first, then columns
    rows, columns = lines[:half], lines[half:]
    walls = jnp.zeros((size, size), bool).at[odd].set(rows[:, None])
    walls = walls.at[:, odd].set(walls[:, odd] | columns[None, :])

    def after(line: jax.Array, chosen: jax.Array) -> jax.Array:
        """The first chosen line beyond `line`; the outer wall if there is none."""
        return jnp.min(jnp.where(chosen & (odd > line), odd, size))

    def cross(carry: tuple[jax.Array, ...], inputs: tuple[jax.Array, jax.Array]) -> tuple[tuple[jax.Array, ...], None]:
        walls, x, y = carry  # the walls to the left of and above the room
        down, word = inputs
        right, below = after(x, columns), after(y, rows)
        first, end = jnp.where(down, x, y) + 1, jnp.where(down, right, below)
        along = first + draw_below(word, end - first)
        walls = walls.at[jnp.where(down, below, along), jnp.where(down, along, right)].set(False)
        return (walls, jnp.where(down, x, right), jnp.where(down, below, y)), None

    # As many crossings of rows as there are rows, at random places in the order.
    order = jax.random.permutation(order_key, n_walls) < jnp.sum(rows)
    words = jax.random.bits(opening_key, (n_walls,), jnp.uint32)
    outside = jnp.int32(-1)
    (walls, *_), _ = lax.scan(cross, (walls, outside, outside), (order, words))
    corner, zero = jnp.full((2,), size - 1, jnp.int32), jnp.int32(0)
    return Level(wall_map=walls, goal_pos=corner, agent_pos=jnp.zeros((2,), jnp.int32), agent_dir=zero)


def perfect_maze_kruskal(key: jax.Array, size: int = 19) -> Level:
    """Draw a maze with exactly one path between any two cells, by Kruskal's algorithm with random edges.

    It has two to three times the dead ends of minimax's, and they are short. Agent and goal are in two different
    corners, drawn uniformly, and the agent faces right. This is the perfect maze of the ACCEL paper's own code.

    Args:
        key: typed PRNG key.
        size: H = W, odd.
    """
    edge_key, corner_key = jax.random.split(key)
    side = size // 2 + 1  # the cells with even coordinates are rooms, those between them passages
    room = np.arange(side * side).reshape(side, side)
    edges = np.concatenate(
        [
            np.stack([room[:, :-1], room[:, 1:]], -1).reshape(-1, 2),
            np.stack([room[:-1], room[1:]], -1).reshape(-1, 2),
        ]
    )

    def join(carry: tuple[jax.Array, jax.Array], edge: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        walls, part = carry
        one, other = edge[0], edge[1]
        keep, gone = part[one], part[other]
        # The passage lies halfway between the rooms (2 x, 2 y); where both are joined already it stays a wall.
        y, x = one // side + other // side, one % side + other % side
        walls = walls.at[y, x].set(walls[y, x] & (keep == gone))
        return (walls, jnp.where(part == gone, keep, part)), None

    index = np.arange(size)
    walls = jnp.asarray((index[:, None] % 2 == 1) | (index[None, :] % 2 == 1))
    (walls, _), _ = lax.scan(join, (walls, jnp.arange(side * side)), jax.random.permutation(edge_key, edges))
    corners = (size - 1) * jax.random.permutation(corner_key, np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.int32))
    return Level(wall_map=walls, goal_pos=corners[0], agent_pos=corners[1], agent_dir=jnp.int32(0))


def _maze(name: str, size: int, max_steps: int, draw: Callable[..., Level], see_through: bool) -> TestMaze:
    return TestMaze(name, size, size, max_steps, partial(draw, size=size), see_through_walls=see_through)


def _area(size: int) -> int:
    return 2 * (size + 2) ** 2


#: Name -> test maze. Importing this module adds them to `TEST_MAZES`.
DCD_MAZES: dict[str, TestMaze] = {
    maze.name: maze
    for maze in (
        _maze("FourRoomsDCD", 17, 100, four_rooms_in_doors, False),
        _maze("CrossingDCD", 9, 2 * _area(9), crossing_room_by_room, False),
        _maze("PerfectMazeSmallDCD", 9, _area(9), perfect_maze_kruskal, True),
        _maze("PerfectMazeMediumDCD", 19, _area(19), perfect_maze_kruskal, True),
        _maze("PerfectMazeLargeDCD", 49, _area(49), perfect_maze_kruskal, True),
        _maze("PerfectMazeXLDCD", 99, _area(99), perfect_maze_kruskal, True),
    )
}
TEST_MAZES.update(DCD_MAZES)

#: The twelve as the code behind the tables has them.
OOD_MAZES_DCD = tuple(name + "DCD" * (f"{name}DCD" in DCD_MAZES) for name in OOD_MAZES)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax_dcd_mazes", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of `minimax-ued train`")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    from minimax_ued.evaluation.measure import evaluate_runs
    from minimax_ued.evaluation.report import print_evaluation, to_json
    from paperloop.files import write_json

    for run in args.runs:
        found = evaluate_runs([run], mazes=OOD_MAZES_DCD, episodes=args.episodes, seed=args.seed, cvar_levels=0)
        print_evaluation(found)
        write_json(run / "evaluation-dcd.json", to_json(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
