"""Any gymnasium environment with a Box to see and a Box or Discrete to do."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade_explore.envs.spec import Actions, Numbers, Pixels
from paperloop.errors import UserError, setting

__all__ = ["GymEnv", "to_square"]


class GymEnv:
    """One gymnasium environment as a `HostEnv`. Actions in [-1, 1] are scaled to its bounds, images to 64 x 64.

    Args:
        name: its id; `module:Id` imports the module first.

    Raises:
        UserError: gymnasium is missing, there is no such environment, or its spaces are of another kind.
    """

    facts: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        try:
            import gymnasium
        except ImportError:
            raise UserError("gymnasium is not installed: pip install 'cascade-explore[gym]'.") from None
        try:
            self._env: Any = gymnasium.make(name)
        except Exception as error:  # each package fails in its own way
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = " (pip install 'cascade-explore[atari]')" if "ale_py" in name or "ALE/" in name else ""
            raise UserError(f"{setting('env.id')} = {name} cannot be made: {reason}{hint}") from None
        self.observation, self.actions = _spaces(self._env, name)
        spec = self._env.spec
        self.limit: int = (spec.max_episode_steps if spec is not None else None) or 1000

    def reset(self, seed: int | None) -> np.ndarray:
        """Begin an episode."""
        return self._seen(self._env.reset(seed=seed)[0])

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool]:
        """Do a step."""
        space: Any = self._env.action_space
        if self.actions.discrete:
            scaled: Any = int(action) + int(space.start)
        else:
            low, high = space.low.ravel(), space.high.ravel()
            scaled = low + (np.asarray(action) + 1.0) / 2.0 * (high - low)
            scaled = scaled.reshape(space.shape).astype(space.dtype)
        observation, reward, terminal, cut, _ = self._env.step(scaled)
        return self._seen(observation), float(reward), bool(terminal), bool(cut)

    def _seen(self, observation: Any) -> np.ndarray:
        array = np.asarray(observation)
        return to_square(array) if isinstance(self.observation, Pixels) else array

    def measure(self) -> tuple[float, ...]:
        """Return nothing: what an environment may say besides has no common form."""
        return ()

    def close(self) -> None:
        """Release it."""
        self._env.close()


def to_square(image: np.ndarray, side: int = 64) -> np.ndarray:
    """Return an image `[height, width, channels]` of at least 64 x 64 as `[64, 64, channels]`, by means over areas."""
    height, width, _ = image.shape
    rows, columns = (np.arange(side) * n // side for n in (height, width))
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.uint32), rows, 0), columns, 1)
    area = np.diff([*rows, height])[:, None] * np.diff([*columns, width])
    return (sums // area[..., None]).astype(np.uint8)


def _spaces(env: Any, name: str) -> tuple[Numbers | Pixels, Actions]:
    from gymnasium.spaces import Box, Discrete

    seen, done = env.observation_space, env.action_space
    if not isinstance(seen, Box):
        raise UserError(
            f"{name} shows a {type(seen).__name__}, and a Box is needed: flatten it with a wrapper, and give the "
            "wrapped environment's id."
        )
    for space, what in ((seen, "shows"), (done, "takes")):
        if isinstance(space, Box) and 0 in space.shape:
            raise UserError(f"{name} {what} a Box of shape {space.shape}, which is empty: give it at least one number.")
    image = seen.dtype == np.uint8 and len(seen.shape) == 3 and min(seen.shape[:2]) >= 64 and seen.shape[2] in (1, 3)
    shown = Pixels(seen.shape[2]) if image else Numbers(int(np.prod(seen.shape)))
    if isinstance(done, Discrete):
        if done.n > 255:
            raise UserError(f"{name} has {done.n} actions, and at most 255 can be stored.")
        return shown, Actions(int(done.n), discrete=True)
    if not isinstance(done, Box):
        raise UserError(f"{name} takes a {type(done).__name__} as action, and a Box or Discrete is needed.")
    if not (np.isfinite(done.low).all() and np.isfinite(done.high).all()):
        raise UserError(f"{name} has actions without bounds, which explorers need: clip them with a wrapper.")
    return shown, Actions(int(np.prod(done.shape)), discrete=False)
