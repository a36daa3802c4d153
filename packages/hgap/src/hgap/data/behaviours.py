"""Behaviours: linear policies learned by random search for a body, and the files that they are kept in."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from hgap.data.search import LinearPolicy, SearchState, improve, start
from hgap.envs.bodies import Body
from hgap.envs.objectives import Objective, Weighted, near
from hgap.envs.simulator import Simulator
from hgap.files import read_arrays
from paperloop.errors import CheckpointError, UserError
from paperloop.files import write_atomically

__all__ = ["BEHAVIOURS", "Behaviours", "Policies", "learn", "read_behaviours", "shipped", "write_behaviours"]

_PLANAR: dict[str, Objective] = {
    "forward": Weighted({"velocity": 1.0}),
    "backward": Weighted({"backwards": 1.0}),
    "jump": Weighted({"jump": 2.0, "height": 1.0}),
    "stop": Weighted({"stillness": 1.0, "effort": 0.1}),
    "turn": Weighted({"turn": 1.0}),
    "slow": Weighted({near("velocity_x", 1.5, 0.7): 1.0, "effort": 0.1}),
}

#: What the policies of a body are searched for.
BEHAVIOURS: dict[str, dict[str, Objective]] = {
    "HalfCheetah-v5": _PLANAR,
    "Walker2d-v5": {name: term for name, term in _PLANAR.items() if name != "turn"},
    "Humanoid-v5": {
        "stand": Weighted({"stillness": 0.5, "upright": 1.0}),
        "forward": Weighted({"velocity": 1.0, "upright": 0.5}),
        "backward": Weighted({"backwards": 1.0, "upright": 0.5}),
    },
    "CMUHumanoid": {"stand": Weighted({"stillness": 0.5, "upright": 1.0})},
}


class Policies(Protocol):
    """Several policies of one body; `LinearPolicy` with a leading axis is one such.

    Attributes:
        size: how many there are.
    """

    @property
    def size(self) -> int: ...  # noqa: D102

    def begin(self, copies: int) -> None:
        """Forget everything: episodes begin in so many copies."""
        ...

    def choose(self, chosen: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return actions [B, A] for states [B, S] of the policies with the numbers `chosen` [B]."""
        ...


class Behaviours(NamedTuple):
    """Policies of one body.

    Attributes:
        env_id: of the body.
        names: one a policy, such as "forward/300": what for, and after how many iterations.
        policy: all of them, with a leading axis.
        command: that made them.
    """

    env_id: str
    names: tuple[str, ...]
    policy: Policies
    command: str


def learn(
    body: Body,
    name: str,
    folder: Path,
    *,
    iterations: int,
    grades: int,
    steps: int,
    seed: int,
    say: Callable[[str], None] = print,
) -> None:
    """Search for one behaviour, and keep the state and every grade in `folder`. Continues what is there.

    Args:
        body: of which.
        name: of `BEHAVIOURS`.
        folder: where NAME.npz, the state, and NAME-ITERATION.npz, the grades, are.
        iterations: in all.
        grades: how many policies are kept, evenly spaced and the last one among them.
        steps: of an episode.
        seed: of the search.
        say: is told how far it is.
    """
    simulator, objective = Simulator(body), BEHAVIOURS[body.env_id][name]
    folder.mkdir(parents=True, exist_ok=True)
    path, every = folder / f"{name}.npz", max(1, iterations // grades)
    state = _read_state(path) if path.exists() else start(simulator)
    while state.iteration < iterations:
        state = improve(
            state, simulator, objective, directions=16, top=8, sigma=0.03, step=0.02, steps=steps,
            alive_bonus=float(body.falls), seed=seed,
        )  # fmt: skip
        done = int(state.iteration)
        if done % every == 0:
            _write(folder / f"{name}-{done}.npz", state._asdict())
        if done % 10 == 0 or done == iterations:
            _write(path, state._asdict())
            say(f"{body.env_id} {name}: {done} of {iterations} iterations, return {float(state.value):.1f}")


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # ty: ignore[invalid-argument-type]
    write_atomically(path, buffer.getvalue())


def _read_state(path: Path) -> SearchState:
    try:
        arrays = read_arrays(path, "the state of a search", CheckpointError)
        return SearchState(**{name: arrays[name] for name in SearchState._fields})
    except (CheckpointError, KeyError):
        raise CheckpointError(f"{path} is not the state of a search, or is damaged: remove it.") from None


def write_behaviours(env_id: str, folder: Path, out: Path, command: str) -> Behaviours:
    """Gather the grades in a folder into one file, as float32.

    Raises:
        UserError: there are none.
    """
    files = sorted(p for p in folder.glob("*-*.npz") if p.stem.rpartition("-")[2].isdigit())
    if not files:
        raise UserError(f"There are no policies in {folder}: search for some first.")
    policies = [_read_state(path).policy for path in files]
    stacked = LinearPolicy(*(np.stack(parts).astype(np.float32) for parts in zip(*policies, strict=True)))
    names = tuple(path.stem.replace("-", "/") for path in files)
    about = {"env_id": env_id, "names": names, "command": command}
    _write(out, {"about": np.array(json.dumps(about)), **stacked._asdict()})
    return Behaviours(env_id, names, stacked, command)


def read_behaviours(path: Path) -> Behaviours:
    """Return the policies of a file that `write_behaviours` wrote.

    Raises:
        UserError: it is not one.
    """
    arrays = read_arrays(path, "a file of policies")
    try:
        about = json.loads(str(arrays["about"]))
        policy = LinearPolicy(*(arrays[name] for name in LinearPolicy._fields))
        found = Behaviours(about["env_id"], tuple(about["names"]), policy, about["command"])
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not a file of policies, or is damaged.") from None
    count, width = len(found.names), policy.mean.shape[-1:]
    shapes = policy.weights.ndim == 3 and policy.weights.shape[::2] == (count, *width)
    if not count or not shapes or any(part.shape != (count, *width) for part in policy[1:]):
        raise UserError(f"{path} is damaged: its arrays are not those of {count} policies.")
    if not all(np.isfinite(part).all() for part in policy):
        raise UserError(f"{path} has policies with numbers that are not finite: search for them anew.")
    return found


def shipped(env_id: str) -> Path:
    """Return the file of policies that comes with the package.

    Raises:
        UserError: there is none for this body.
    """
    path = Path(__file__).with_name("policies") / f"{env_id}.npz"
    if not path.exists():
        raise UserError(f"No policies come with the package for {env_id}: make some with `hgap make-policies`.")
    return path
