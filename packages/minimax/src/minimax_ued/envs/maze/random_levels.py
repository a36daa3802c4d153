"""Random mazes: walls anywhere, then the agent, then the goal. The domain randomisation of the UED literature.

Walls are drawn with replacement ("60 blocks" of Parker-Holder et al. 2022, arXiv 2203.01302, give 50.6 distinct walls
on average); the agent is uniform over the free cells, its direction uniform, and the goal uniform over the
free cells that are left. Nothing is rejected: a level may be unsolvable.

No sort and no scatter: walls are gathered as bits of rows, and a uniform free cell is found by counting bits.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from minimax_ued.envs.maze.bitmap import bit_rows, count_bits, map_bits, select_bit, set_of_cells, unpack_bits
from minimax_ued.envs.maze.level import Level

__all__ = ["draw_below", "pick_cell", "place_agent_and_goal", "sample_level"]


def draw_below(bits: jax.Array, n: jax.Array | int) -> jax.Array:
    """Turn uniform 32-bit words into integers in [0, n), i32[...], for 1 <= n <= 2**16.

    The high half of the product bits * n. Probabilities differ from 1 / n by less than 2**-32, and unlike
    `jax.random.randint` it takes one word a draw and an `n` that differs from draw to draw.
    """
    n = jnp.asarray(n).astype(jnp.uint32)
    return (((bits >> 16) * n + ((bits & 0xFFFF) * n >> 16)) >> 16).astype(jnp.int32)


def sample_level(key: jax.Array, *, height: int, width: int, n_walls: int, sample_n_walls: bool = False) -> Level:
    """Draw one level.

    Args:
        key: typed PRNG key.
        height: H.
        width: W, with H W at most 2**16.
        n_walls: draws of walls, at most H W - 2. A level has H W (1 - (1 - 1 / (H W))^n_walls) on average.
        sample_n_walls: make the number of draws uniform over 0, 1, ..., n_walls, both ends included.
    """
    # One draw of bits for everything: a level takes as many hashes as words, and one kernel to compile.
    bits = jax.random.bits(key, (n_walls + 4,), jnp.uint32)
    walls = _walls(bits[3:], height, width, n_walls, sample_n_walls)
    agent_pos, agent_dir, goal_pos = place_agent_and_goal(bits[:3], walls, width)
    return Level(wall_map=unpack_bits(walls, width), goal_pos=goal_pos, agent_pos=agent_pos, agent_dir=agent_dir)


def _walls(bits: jax.Array, height: int, width: int, n_walls: int, sample_n_walls: bool) -> jax.Array:
    """Turn n_walls + 1 random words into walls, u32[H, ceil(W / 32)]."""
    if n_walls == 0:
        return jnp.zeros((height, -(-width // 32)), jnp.uint32)
    n = draw_below(bits[-1], n_walls + 1) if sample_n_walls else jnp.int32(n_walls)
    return set_of_cells(draw_below(bits[:-1], height * width), jnp.arange(n_walls) < n, height, width)


def pick_cell(cells: jax.Array, word: jax.Array) -> jax.Array:
    """Return the bitmap of one cell of `cells`, uniformly; without a cell where `cells` has none.

    Args:
        cells: u32[H, n], no bit set beyond the last column.
        word: u32[], uniform random bits.
    """
    height, n = cells.shape
    x, y = select_bit(cells, draw_below(word, jnp.maximum(count_bits(cells), 1)))
    return bit_rows(x, y, height, 32 * n)  # of no cells `select_bit` makes row H, which is not there


def place_agent_and_goal(bits: jax.Array, walls: jax.Array, width: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Put agent and goal on two different free cells, uniformly.

    Args:
        bits: u32[3], uniform random words.
        walls: u32[H, ceil(W / 32)] with at least two free cells.
        width: W.

    Returns:
        agent_pos i32[2], agent_dir i32[], goal_pos i32[2].
    """
    free = ~walls & map_bits(width)
    n_free = count_bits(free)
    agent_rank = draw_below(bits[0], n_free)
    goal_rank = draw_below(bits[1], n_free - 1)
    goal_rank = goal_rank + (goal_rank >= agent_rank)  # skips the agent's cell
    agent = jnp.stack(select_bit(free, agent_rank))
    goal = jnp.stack(select_bit(free, goal_rank))
    return agent, draw_below(bits[2], 4), goal
