"""What a learner needs to know about an environment, and its own actions and observations as canonical arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium
import numpy as np

from paperloop.errors import UserError, setting
from policy_finetune.envs.simulators import flat_parts, join, make_env

__all__ = ["EnvSpec", "as_vector"]


@dataclass(frozen=True, eq=False)
class EnvSpec:
    """What a learner needs to know about an environment.

    Attributes:
        env_id: its gymnasium id.
        obs_dim: observations are (obs_dim,) float32.
        act_dim: actions are (act_dim,).
        low: (act_dim,) float32, the lower bounds of the environment's own actions.
        high: (act_dim,) float32, the upper bounds.
        max_episode_steps: the time limit.
        kwargs: what the environment is made with besides.
        observation_keys: the parts of a Dict observation that are joined to one vector; empty where it is one.
    """

    env_id: str
    obs_dim: int
    act_dim: int
    low: np.ndarray
    high: np.ndarray
    max_episode_steps: int
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_keys: tuple[str, ...] = ()
    _centre: np.ndarray = field(init=False, repr=False)
    _half: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = np.array(getattr(self, name), np.float32)
            if bound.shape != (self.act_dim,) or not np.isfinite(bound).all():
                raise UserError(f"EnvSpec.{name} is one finite bound for each of the {self.act_dim} actions.")
            bound.flags.writeable = False
            object.__setattr__(self, name, bound)
        if not (self.low < self.high).all():
            raise UserError("EnvSpec.low lies below EnvSpec.high in every action.")
        # (high + low) / 2 + a (high - low) / 2, and not low + (a + 1) (high - low) / 2, which loses the last bits of
        # small actions and is not the identity for [-1, 1].
        object.__setattr__(self, "_centre", (self.high + self.low) / np.float32(2))
        object.__setattr__(self, "_half", (self.high - self.low) / np.float32(2))

    @classmethod
    def of(
        cls,
        env_id: str,
        kwargs: Mapping[str, Any] | None = None,
        *,
        max_episode_steps: int | None = None,
        observation_keys: Sequence[str] = (),
    ) -> EnvSpec:
        """Read the spec off a freshly made environment.

        Args:
            env_id: its gymnasium id.
            kwargs: what it is made with besides, as in `gymnasium.make(env_id, **kwargs)`.
            max_episode_steps: its time limit; None for the registered one.
            observation_keys: the parts of a Dict observation to join to one vector, in this order.

        Raises:
            UserError: the environment cannot be made, observations or actions are not vectors of real numbers, an
                action is unbounded, or there is no time limit.
        """
        env = make_env(env_id, kwargs, max_episode_steps=max_episode_steps, observation_keys=observation_keys)
        try:
            return cls._of(env_id, env, kwargs or {}, tuple(observation_keys))
        finally:
            env.close()

    @classmethod
    def _of(cls, env_id: str, env: gymnasium.Env, kwargs: Mapping[str, Any], keys: tuple[str, ...]) -> EnvSpec:
        observations, actions = env.observation_space, env.action_space
        if isinstance(observations, gymnasium.spaces.Dict | gymnasium.spaces.Tuple):
            parts = sorted(flat_parts(observations))
            raise UserError(
                f"{env_id}: observations are made of parts ({', '.join(parts)}), and the learners take one vector; "
                f"name the parts to join, such as {setting('observation_keys', tuple(parts))}."
            )
        if not isinstance(observations, gymnasium.spaces.Box) or len(observations.shape) != 1:
            raise UserError(
                f"{env_id}: observations are {observations}, but the learners take one vector of real numbers; choose "
                "another environment or wrap it."
            )
        if not isinstance(actions, gymnasium.spaces.Box) or len(actions.shape) != 1:
            raise UserError(
                f"{env_id}: actions are {actions}, but the learners give one vector of real numbers; choose an "
                "environment with continuous actions."
            )
        if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
            index = int((~(np.isfinite(actions.low) & np.isfinite(actions.high))).argmax())
            raise UserError(
                f"{env_id}: action {index} is unbounded ([{actions.low[index]}, {actions.high[index]}]); give the "
                "environment an action space with finite bounds, in itself or by wrapping it in "
                "gymnasium.wrappers.TransformAction(env, lambda action: action, gymnasium.spaces.Box(low, high))."
            )
        limit = None if env.spec is None else env.spec.max_episode_steps
        if limit is None:
            raise UserError(
                f"{env_id}: there is no time limit, so an episode may never end; register it with max_episode_steps."
            )
        return cls(
            env_id, observations.shape[0], actions.shape[0], actions.low, actions.high, int(limit), dict(kwargs), keys
        )

    def make(self) -> gymnasium.Env:
        """Make one such environment."""
        limit = None if self._registered_limit == self.max_episode_steps else self.max_episode_steps
        return make_env(self.env_id, self.kwargs, max_episode_steps=limit, observation_keys=self.observation_keys)

    @property
    def is_default(self) -> bool:
        """Whether it is the environment that `gymnasium.make(env_id)` makes."""
        return not (self.kwargs or self.observation_keys) and self._registered_limit == self.max_episode_steps

    @property
    def arguments(self) -> str:
        """What sets it apart from the environment that `gymnasium.make(env_id)` makes, for a message; or nothing."""
        parts = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        if self._registered_limit != self.max_episode_steps:
            parts.append(f"max_episode_steps={self.max_episode_steps}")
        return ", ".join(parts + ([f"observation_keys={self.observation_keys}"] if self.observation_keys else []))

    @property
    def _registered_limit(self) -> int | None:
        registered = gymnasium.registry.get(self.env_id.rpartition(":")[-1])
        return None if registered is None else registered.max_episode_steps

    def vector(self, observation: Any) -> np.ndarray:
        """Return one observation as the learners see it, (obs_dim,) float32; of a Dict, the parts joined.

        Raises:
            UserError: it has another shape.
        """
        if self.observation_keys and isinstance(observation, Mapping):
            observation = join(observation, self.observation_keys)
        return as_vector(observation, self)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as a JSON object."""
        return {
            "env_id": self.env_id, "obs_dim": self.obs_dim, "act_dim": self.act_dim, "low": self.low.tolist(),
            "high": self.high.tolist(), "max_episode_steps": self.max_episode_steps, "kwargs": dict(self.kwargs),
            "observation_keys": list(self.observation_keys),
        }  # fmt: skip

    @classmethod
    def from_json(cls, value: Any, where: str) -> EnvSpec:
        """Return the spec that `to_json` gave.

        Raises:
            UserError: it is not one.
        """
        try:
            known = {f.name: value[f.name] for f in fields(cls) if f.init}
            known["observation_keys"] = tuple(known["observation_keys"])
            return cls(**known)
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(
                f"{where}: the environment in it is not complete ({error}); write the file again."
            ) from None

    def to_env(self, action: Any) -> np.ndarray:
        """Return canonical actions (..., act_dim) in the environment's units, float32.

        The exact identity where the bounds are [-1, 1]; the result never leaves the bounds for actions in [-1, 1].
        """
        action = np.asarray(action, np.float32)
        command = self._half * action
        command += self._centre
        return np.minimum(np.maximum(command, self.low), self.high)

    def from_env(self, action: Any) -> np.ndarray:
        """Return actions (..., act_dim) in the environment's units as canonical ones, float32. Nothing is clipped."""
        return (np.asarray(action, np.float32) - self._centre) / self._half


def as_vector(observation: Any, spec: EnvSpec) -> np.ndarray:
    """Return an observation as (obs_dim,) float32.

    Raises:
        UserError: it has another shape, or is not of numbers.
    """
    try:
        vector = np.asarray(observation, np.float32)
    except (TypeError, ValueError):
        raise UserError(
            f"{spec.env_id}: an observation is a {type(observation).__name__}, not {spec.obs_dim} numbers; fix the "
            "environment."
        ) from None
    if vector.shape != (spec.obs_dim,):
        raise UserError(
            f"{spec.env_id}: an observation is of shape {vector.shape}, not {(spec.obs_dim,)} as its space says; fix "
            "the environment."
        )
    return vector
