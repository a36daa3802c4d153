"""What a method takes of an environment beyond the contract that all environments meet."""

from __future__ import annotations

from typing import Any

import jax

from minimax_ued.config import TeacherConfig, TrainConfig
from minimax_ued.envs.base import Environment
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.replay.scores import get_score
from minimax_ued.teachers.networks import make_teacher
from minimax_ued.teachers.teaching import Teaching
from paperloop.errors import UserError, setting
from paperloop.settings import fault

__all__ = ["check_capabilities", "make_teaching"]

#: What every environment has; see `minimax_ued.envs.base.Environment`.
_CONTRACT = (
    "num_actions",
    "max_steps",
    "sample_level",
    "prepare",
    "reset",
    "step",
    "observe",
    "level_hash",
    "same_level",
    "level_metrics",
)


def check_capabilities(config: TrainConfig, env: Environment) -> None:
    """Refuse a method or score that takes what the environment or the student lacks.

    Raises:
        UserError: the environment lacks a part of the contract, or the mutation, editor or optimal return that is asked
            for; or its episodes are longer than a rollout.
    """
    method, name = config.method, type(env).__name__
    if missing := [part for part in _CONTRACT if not hasattr(env, part)]:
        raise UserError(
            f"{name} is not an environment to train on, because it has no {', '.join(missing)}: "
            "minimax_ued.Environment says what each has to be."
        )
    if config.rollout_steps < env.max_steps:
        raise fault(config, "rollout_steps", f"at least {env.max_steps}, the longest episode of {name}")
    mutations = getattr(env, "mutations", {})
    if method.mutation is not None and method.mutation.operator not in mutations:
        known = ", ".join(sorted(mutations)) or "none"
        raise fault(config, "method.mutation.operator", f"a mutation of {name}: {known}")
    if method.teacher is not None and not hasattr(env, "editor"):
        raise UserError(f"The method {method.name!r} takes a teacher, but {name} has no `editor` to build levels in.")
    if method.buffer is None:
        return
    score = get_score(method.buffer.score)
    if score.name == "learnability" and config.rollout_steps < 2 * env.max_steps:
        raise fault(
            config,
            "rollout_steps",
            text=f"The score 'learnability' takes several episodes of a level in one rollout, but {{rollout_steps}} is "
            f"{config.rollout_steps} and an episode takes up to {env.max_steps}: set it to at least "
            f"{2 * env.max_steps}, better several times that, or choose {setting('method.type', 'sfl')}.",
        )
    if score.needs_optimum and not hasattr(env, "optimal_return"):
        raise UserError(f"The score {score.name!r} takes an optimal return, which {name} does not know.")


def make_teaching(config: TeacherConfig, env: Any, constrain: Constraint = unconstrained) -> Teaching:
    """Return the rules of the teacher of `config` for an environment with an editor."""
    editor = env.editor(config.editor)
    key = jax.random.key(0)
    observation = jax.eval_shape(lambda key: editor.observe(key, editor.reset(key)), key)
    network = make_teacher(
        config,
        num_actions=editor.num_actions,
        num_steps=editor.num_steps,
        observation=observation,
        one_cell=getattr(editor, "one_cell", False),
    )
    return Teaching(config, editor, network, constrain)
