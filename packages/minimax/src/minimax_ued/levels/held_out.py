"""Held-out solvable random levels.

They are kept as maps and not as seeds, because the same key gives other levels under another version of JAX.
`python -m benchmarks.minimax_levels` in the repository is how they were drawn.
"""

from __future__ import annotations

import dataclasses
import io
from importlib import resources

import numpy as np

from minimax_ued.envs.maze.level import Level, unpack_levels
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["HELD_OUT", "HeldOutSet", "held_out_levels", "is_hard_level"]


@dataclasses.dataclass(frozen=True)
class HeldOutSet:
    """A stored set of solvable levels, drawn by the random generator.

    Attributes:
        file: name of the file in `data/` next to this module.
        size: H = W.
        n_walls: wall draws a level.
        n: number of levels.
        n_hard: how many of them make up the hard subset: those with the largest `min_actions`.
        seed: from which they were drawn.
    """

    file: str
    size: int
    n_walls: int
    n: int
    n_hard: int
    seed: int


#: Name -> set. "<name>-hard" is its hard subset. "maze13" is for regular evaluation, "maze13-10000" for the success
#: rate on the worst few per cent of levels (CVaR; Rutherford et al. 2024, arXiv 2408.15099). No level is in both.
HELD_OUT: dict[str, HeldOutSet] = {
    "maze7": HeldOutSet("maze7.npz", size=7, n_walls=14, n=600, n_hard=100, seed=7_000_000),
    "maze13": HeldOutSet("maze13.npz", size=13, n_walls=60, n=1000, n_hard=100, seed=13_000_000),
    "maze13-10000": HeldOutSet("maze13-10000.npz", size=13, n_walls=60, n=10_000, n_hard=1000, seed=13_010_000),
}


def held_out_levels(name: str) -> Level:
    """Return a held-out set, as NumPy arrays with a leading axis.

    Args:
        name: a key of `HELD_OUT` for the whole set in the order in which it was drawn, or that with "-hard" for the
            `n_hard` levels with the largest `min_actions`, hardest first.

    Raises:
        UserError: there is no such set; the message names the nearest one.
    """
    base = name.removesuffix("-hard")
    if base not in HELD_OUT:
        known = [key + suffix for key in HELD_OUT for suffix in ("", "-hard")]
        raise UserError(f"There is no held-out set named {name!r}{did_you_mean(name, known)}")
    entry, (packed, hard) = HELD_OUT[base], _stored(base)
    return unpack_levels(packed if name == base else packed[hard], entry.size, entry.size)


def is_hard_level(name: str) -> np.ndarray:
    """Return bool `[n]`, which levels of the whole set `name` belong to its hard subset."""
    packed, hard = _stored(name)
    return np.isin(np.arange(len(packed)), hard)


def _stored(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The packed levels, and the numbers of the hard ones, hardest first."""
    content = resources.files("minimax_ued.levels").joinpath("data", HELD_OUT[name].file).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return stored["levels"], stored["hard"]
