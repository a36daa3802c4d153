"""One gymnasium environment: made, reset and stepped, and what it gives back checked.

Whatever an environment does wrong ends in one sentence that names it: the exception that it raised, a step that returns
four values, an observation of another shape.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from paperloop.errors import UserError, setting

__all__ = ["JoinedObservation", "as_written", "make_env", "reset_env", "step_env"]

FIVE = "observation, reward, terminated, truncated and info"


def make_env(
    env_id: str,
    kwargs: Mapping[str, Any] | None = None,
    *,
    max_episode_steps: int | None = None,
    observation_keys: Sequence[str] = (),
) -> gymnasium.Env:
    """Make the environment `env_id`, such as "Hopper-v5" or "module:MyEnv-v0".

    Args:
        env_id: gymnasium's name of it.
        kwargs: what its constructor is given.
        max_episode_steps: its time limit; None for the registered one.
        observation_keys: the parts of a Dict observation that are joined to one vector (`JoinedObservation`).

    Raises:
        UserError: gymnasium knows no such environment, a package that it needs is not installed, or making it fails.
    """
    kwargs = dict(kwargs or {})
    if max_episode_steps is not None:
        kwargs["max_episode_steps"] = max_episode_steps
    try:
        # The checker costs time at every step; what it looks for is checked here, in `EnvSpec.of` and `step_env`.
        with _no_log_file(env_id), warnings.catch_warnings():
            # "v4 is out of date", for each environment made: whoever compares with D4RL asks for v4 on purpose.
            warnings.filterwarnings("ignore", message=".*is out of date", category=DeprecationWarning)
            env = gymnasium.make(env_id, disable_env_checker=True, **kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        raise UserError(
            f"The environment {as_written(env_id, kwargs)} cannot be made ({_reason(error)}); give an id that "
            "gymnasium has registered, such as 'Hopper-v5', or 'module:Id' of a module that registers it, and install "
            "what it needs."
        ) from error
    except Exception as error:
        raise UserError(
            f"The environment {as_written(env_id, kwargs)} cannot be made: {_failure(error)}; fix the environment or "
            "its arguments."
        ) from error
    return JoinedObservation(env, observation_keys) if observation_keys else env


def as_written(env_id: str, kwargs: Mapping[str, Any]) -> str:
    """Return an environment as it would be made in Python: 'Pendulum-v1', g=2.0."""
    return ", ".join([repr(env_id), *(f"{name}={value!r}" for name, value in kwargs.items())])


class JoinedObservation(gymnasium.ObservationWrapper):
    """Parts of a Dict observation, each flattened, one after another as one float32 vector.

    The order is that of the keys, as `paperloop_data` reads parts of stored observations; a part of a part is "a/b".

    Raises:
        UserError: observations are not a Dict, or have no such part of real numbers.
    """

    def __init__(self, env: gymnasium.Env, keys: Sequence[str]) -> None:
        super().__init__(env)
        parts = flat_parts(env.observation_space)
        if not parts:
            raise UserError(
                f"{name_of(env)}: observations are {env.observation_space}, not made of parts, so "
                f"{setting('observation_keys')} does not apply; leave it out."
            )
        for key in keys:
            if not isinstance(parts.get(key), gymnasium.spaces.Box):
                raise UserError(
                    f"{name_of(env)}: observations have no part {key!r} of real numbers; they have "
                    f"{', '.join(map(repr, sorted(parts)))}."
                )
        self.keys = tuple(keys)
        size = sum(math.prod(parts[key].shape or ()) for key in keys)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        """Return the parts of one observation joined."""
        return join(observation, self.keys)


def flat_parts(space: gymnasium.Space, prefix: str = "") -> dict[str, gymnasium.Space]:
    """Return the parts of a Dict or Tuple space by name, nested ones as "a/b"; nothing for a space without parts."""
    if isinstance(space, gymnasium.spaces.Dict):
        inner = dict(space.spaces)
    elif isinstance(space, gymnasium.spaces.Tuple):
        inner = {f"_index_{i}": part for i, part in enumerate(space.spaces)}
    else:
        return {prefix: space} if prefix else {}
    return {
        found: part for name, sub in inner.items()
        for found, part in flat_parts(sub, f"{prefix}/{name}" if prefix else str(name)).items()
    }  # fmt: skip


def join(observation: Any, keys: Sequence[str]) -> np.ndarray:
    """Return parts of a Dict or Tuple observation as one float32 vector."""
    parts = []
    for key in keys:
        part = observation
        for name in key.split("/"):
            part = part[int(name.removeprefix("_index_"))] if isinstance(part, tuple) else part[name]
        parts.append(np.asarray(part, np.float32).reshape(-1))
    return np.concatenate(parts)


def reset_env(env: gymnasium.Env, seed: int) -> Any:
    """Return the first observation of an episode, as the environment gives it.

    Raises:
        UserError: reset raises, or does not return an observation and a dictionary.
    """
    try:
        result = env.reset(seed=seed)
    except Exception as error:
        raise UserError(f"{name_of(env)}: reset failed: {_failure(error)}; fix the environment.") from error
    if not isinstance(result, tuple) or len(result) != 2:
        raise UserError(
            f"{name_of(env)}: reset returned {_amount(result)}, where gymnasium expects an observation and info; fix "
            "the environment."
        )
    return result[0]


def step_env(env: gymnasium.Env, command: np.ndarray) -> tuple[Any, float, bool, bool]:
    """Do one step of one environment.

    Args:
        env: the environment.
        command: (act_dim,) the action in the environment's units.

    Returns:
        observation (as the environment gives it), reward, terminated, truncated.

    Raises:
        UserError: step raises, does not return gymnasium's five values, or the reward is not a single number.
    """
    try:
        result = env.step(command)
    except Exception as error:
        # gymnasium's own wrappers, which unpack what the environment returns, come first.
        hint = f"; gymnasium expects {FIVE}" if isinstance(error, ValueError) and "unpack" in str(error) else ""
        raise UserError(f"{name_of(env)}: step failed: {_failure(error)}{hint}; fix the environment.") from error
    if not isinstance(result, tuple) or len(result) != 5:
        raise UserError(
            f"{name_of(env)}: step returned {_amount(result)}, where gymnasium expects {FIVE}; fix the environment."
        )
    observation, reward, terminated, truncated, _ = result
    if isinstance(reward, np.ndarray) and reward.size == 1:  # some environments return shape (1,)
        reward = reward.item()
    try:
        return observation, float(reward), bool(terminated), bool(truncated)
    except (TypeError, ValueError):
        raise UserError(
            f"{name_of(env)}: step returned the reward {_brief(reward)} and the ends {_brief(terminated)} and "
            f"{_brief(truncated)}; these are a number and two booleans: fix the environment."
        ) from None


def name_of(env: gymnasium.Env) -> str:
    """Return an environment's id, or what it is where it has none."""
    return str(env) if env.spec is None else env.spec.id


def _amount(result: Any) -> str:
    if not isinstance(result, tuple):
        return f"a {type(result).__name__}"
    return f"{len(result)} value{'s' if len(result) != 1 else ''}"


def _brief(value: Any) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) and value.size != 1 else repr(value)


def _failure(error: Exception) -> str:
    """Return what was raised: its type, and the first line of what it says."""
    text = _reason(error)
    kind = type(error).__name__
    return kind if text == kind else f"{kind}: {text}"


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


@contextlib.contextmanager
def _no_log_file(env_id: str) -> Generator[None]:
    """Keep MuJoCo from leaving a MUJOCO_LOG.TXT in the working folder because a model file uses an old attribute."""
    spec = gymnasium.registry.get(env_id)
    if spec is None or "mujoco" not in str(spec.entry_point):
        yield
        return
    try:
        mujoco: Any = importlib.import_module("mujoco")
    except ImportError:
        yield  # gymnasium says what is missing
        return
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: warnings.warn(f"MuJoCo, {env_id}: {text.strip()}", stacklevel=2))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="MuJoCo, .*is deprecated")
            yield
    finally:
        mujoco.set_mju_user_warning(before)
