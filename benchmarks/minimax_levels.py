"""Draw the held-out levels of minimax-ued: `python -m benchmarks.minimax_levels --out FOLDER [NAME ...]`.

The files in `minimax_ued/levels/data` came from here. A new draw gives the same levels only under the version of
JAX that is recorded in them; they are data from then on and are not drawn again.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import jax
import numpy as np

from minimax_ued.envs.maze import paths
from minimax_ued.envs.maze.level import Level, pack_levels
from minimax_ued.envs.maze.random_levels import sample_level
from minimax_ued.levels.held_out import HELD_OUT, HeldOutSet
from paperloop.files import write_atomically

__all__ = ["draw", "main", "write"]


def draw(entry: HeldOutSet) -> tuple[Level, np.ndarray]:
    """Draw the set: the first `entry.n` different solvable levels, and which of them are hard.

    Returns:
        The levels with leading axis n, and i32[n_hard], the indices of those with the largest `min_actions`, the
        largest first and the earlier first among equals.
    """

    @jax.jit
    def batch(keys: jax.Array) -> tuple[Level, jax.Array]:
        levels = jax.vmap(lambda key: sample_level(key, height=entry.size, width=entry.size, n_walls=entry.n_walls))(
            keys
        )
        return levels, jax.vmap(paths.min_actions)(levels)

    # Twice as many as needed: more than half are solvable.
    levels, actions = jax.device_get(batch(jax.random.split(jax.random.key(entry.seed), 2 * entry.n)))
    _, first = np.unique(pack_levels(levels), axis=0, return_index=True)
    keep = np.sort(first)
    keep = keep[actions[keep] > 0][: entry.n]
    if len(keep) < entry.n:
        raise RuntimeError(f"Only {len(keep)} of {2 * entry.n} levels are solvable and different.")
    hard = np.argsort(-actions[keep], kind="stable")[: entry.n_hard].astype(np.int32)
    return jax.tree.map(lambda leaf: leaf[keep], levels), hard


def write(entry: HeldOutSet, folder: Path) -> Path:
    """Draw the set and write it to `folder`; return its path."""
    levels, hard = draw(entry)
    content = io.BytesIO()
    np.savez_compressed(content, levels=pack_levels(levels), hard=hard, jax=np.array(jax.__version__))
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / entry.file, content.getvalue())
    return folder / entry.file


def main() -> None:
    """Write the sets that are named, or all."""
    parser = argparse.ArgumentParser(description="Draw the held-out levels.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"sets to draw, of {', '.join(HELD_OUT)}; default: all"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the .npz files")
    arguments = parser.parse_args()
    for name in arguments.names or HELD_OUT:
        if name not in HELD_OUT:
            parser.error(f"there is no set {name!r}; choose from {', '.join(HELD_OUT)}")
        entry = HELD_OUT[name]
        path = write(entry, arguments.out)
        print(f"{name}: {entry.n} levels, {path.stat().st_size} bytes, {path}")


if __name__ == "__main__":
    main()
