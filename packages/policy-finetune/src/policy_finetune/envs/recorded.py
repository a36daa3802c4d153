"""The environment that a dataset was recorded in: making it as it was then, and saying what differs from another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from paperloop.errors import UserError, setting
from paperloop_data import RecordedEnvironment
from policy_finetune.envs.spec import EnvSpec

__all__ = ["differences", "recorded", "spec_of_recorded", "task_of"]

#: Arguments that change what is seen of an environment and not what happens in it.
OF_DISPLAY = ("render_mode",)

ABSENT = object()


def task_of(env_id: str) -> str:
    """Return the part "hopper" of "module:namespace/Hopper-v5": the name without its version, in small letters."""
    return env_id.split(":")[-1].rsplit("/", 1)[-1].rsplit("-v", 1)[0].lower()


def spec_of_recorded(stated: RecordedEnvironment, where: str, *, observation_keys: Sequence[str] = ()) -> EnvSpec:
    """Return the environment that data were recorded in, with its arguments and its time limit.

    Args:
        stated: what the data say.
        where: the data, for messages.
        observation_keys: parts of the observations to join; empty for those on record.

    Raises:
        UserError: it cannot be made here.
    """
    try:
        return EnvSpec.of(
            stated.id,
            _kwargs(stated),
            max_episode_steps=stated.max_episode_steps,
            observation_keys=observation_keys or tuple(stated.spec.get("observation_keys") or ()),
        )
    except UserError as error:
        raise UserError(
            f"{where} was recorded in {stated.id}, which cannot be used here: {str(error).rstrip('.')}; or name "
            f"another environment with {setting('env_id')}."
        ) from error


def recorded(spec: EnvSpec) -> dict[str, Any]:
    """Return what a dataset's attributes say of an environment that its name alone does not tell."""
    if spec.is_default:
        return {}
    said: dict[str, Any] = {"id": spec.env_id, "max_episode_steps": spec.max_episode_steps, "kwargs": dict(spec.kwargs)}
    if spec.observation_keys:
        said["observation_keys"] = list(spec.observation_keys)
    return {"env_spec": said}


def differences(stated: RecordedEnvironment, spec: EnvSpec) -> list[str]:
    """Return a sentence on each way in which an environment is not the one on record.

    Of an environment of which nothing but the name is on record, nothing is known to differ.
    """
    then, now = _kwargs(stated), dict(spec.kwargs)
    was, here = [], []
    for name in sorted({*then, *now}) if then or stated.spec else ():
        if _plain(then.get(name, ABSENT)) != _plain(now.get(name, ABSENT)):
            was.append(f"{name} {then[name]!r}" if name in then else f"the default {name}")
            here.append(f"{name} {now[name]!r}" if name in now else f"the default {name}")
    if stated.max_episode_steps not in (None, spec.max_episode_steps):
        was.append(f"a time limit of {stated.max_episode_steps} steps")
        here.append(f"one of {spec.max_episode_steps}")
    said = []
    if was:
        said.append(
            f"The data were recorded in {stated.id} with {' and '.join(was)}, and will be used with "
            f"{' and '.join(here)}: returns are not comparable; leave out {setting('env_id')} to use the environment "
            "as recorded."
        )
    wrappers = stated.spec.get("additional_wrappers")
    if isinstance(wrappers, Sequence) and not isinstance(wrappers, str) and wrappers:
        names = [str(one.get("name", one)) if isinstance(one, Mapping) else str(one) for one in wrappers]
        said.append(
            f"The data were recorded in {stated.id} inside {', '.join(names)}, and will be used without: observations, "
            "actions or rewards may differ."
        )
    return said


def _kwargs(stated: RecordedEnvironment) -> dict[str, Any]:
    return {name: value for name, value in stated.kwargs.items() if name not in OF_DISPLAY}


def _plain(value: Any) -> str:
    """Return a value as JSON has it, so that a tuple equals the list that was read back."""
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True, default=repr)
