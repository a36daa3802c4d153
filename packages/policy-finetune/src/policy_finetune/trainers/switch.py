"""The switch from the offline to the online phase: what of the pre-trained agent the online learner takes over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paperloop.errors import UserError, setting
from policy_finetune.config import SwitchConfig
from policy_finetune.learners.base import LearnerState, copy

__all__ = ["switch_notes", "take_over"]


def take_over(fresh: LearnerState, old: LearnerState, switch: SwitchConfig) -> tuple[LearnerState, list[str]]:
    """Return the online learner's first state, made from a pre-trained one (both of one agent), and notes.

    Networks that fit are copied, target networks included; what the new learner has and the old one has not stays as
    `fresh` has it, and a note says so. Optimiser moments go with their network. The reference of a constraint starts as
    a copy of the actor.

    Raises:
        UserError: a pre-trained actor or critic has another shape, and `switch` does not say to start it from scratch.
    """
    state, notes = _merge(fresh, old, switch)
    zero = jnp.zeros((), jnp.int32)
    return copy(state.replace(updates=zero, rounds=zero)), notes


def switch_notes(fresh: LearnerState, old: LearnerState, switch: SwitchConfig) -> list[str]:
    """Return the notes of `take_over` from shapes alone (`jax.eval_shape`), or raise as it would."""
    return _merge(fresh, old, switch)[1]


def _merge(fresh: LearnerState, old: LearnerState, switch: SwitchConfig) -> tuple[LearnerState, list[str]]:
    """Choose leaves of either state, looking at nothing but shapes."""
    notes: list[str] = []
    params, opt, target = dict(fresh.params), dict(fresh.opt), dict(fresh.target)
    for name in fresh.params:
        if name == "nu":  # a multiplier belongs to its phase
            continue
        if name not in old.params:
            if name != "log_alpha":
                notes.append(f"the pre-trained agent has no {name}: it starts from scratch")
            continue
        if name in ("critic", "value") and switch.critic_reinit:
            continue
        if name == "actor":
            merged = _actor(fresh.params["actor"], old.params["actor"])
            if merged is None:
                notes.append(_refuse_actor(fresh.params["actor"], old.params["actor"], switch))
                continue
            params["actor"], whole = merged
            if not whole and "log_std" in fresh.params["actor"]:
                notes.append("the actor's spread starts from scratch: the pre-trained one has another form of it")
        elif _fits(fresh.params[name], old.params[name]):
            params[name], whole = old.params[name], True
        else:
            notes.append(_refuse_critic(name, fresh.params[name], old.params[name], switch))
            continue
        if whole and _fits(fresh.opt[name], old.opt.get(name)):
            opt[name] = old.opt[name]
        else:
            notes.append(f"Adam's moments of the {name} start from scratch: the pre-trained ones are of another form")
        if name in target:
            before = old.target.get(name)
            if before is not None and _fits(target[name], before):
                target[name] = before
            else:
                target[name] = params[name]
                notes.append(f"the target {name} starts as a copy of the {name}: the pre-trained agent has none")
    reference = None if fresh.reference is None else params["actor"]
    return fresh.replace(params=params, target=target, opt=opt, reference=reference), notes


def _actor(fresh: dict[str, Any], old: dict[str, Any]) -> tuple[dict[str, Any], bool] | None:
    """Return the actor with the old layers, and whether that is all of it; None where they do not fit."""
    layers = {"hidden": old["hidden"], "mean": old["mean"]}
    if not _fits({"hidden": fresh["hidden"], "mean": fresh["mean"]}, layers):
        return None
    if "log_std" not in fresh:
        return layers, "log_std" not in old
    if "log_std" in old and _fits(fresh["log_std"], old["log_std"]):
        return layers | {"log_std": old["log_std"]}, True
    return layers | {"log_std": fresh["log_std"]}, False


def _widths(layers: Sequence[Any]) -> tuple[int, ...]:
    """Return the widths of layers."""
    return tuple(int(layer["b"].shape[-1]) for layer in layers)


def _words(widths: Sequence[int]) -> str:
    return " ".join(map(str, widths)) or "no width"


def _refuse_actor(fresh: dict[str, Any], old: dict[str, Any], switch: SwitchConfig) -> str:
    """Return the note that the actor starts from scratch, or refuse."""
    here, before = fresh["mean"]["w"].shape[-1], old["mean"]["w"].shape[-1]
    if here != before:
        raise UserError(f"The pre-trained actor gives actions of {before} numbers, not {here}: it is of another task.")
    here, before = _widths(fresh["hidden"]), _widths(old["hidden"])
    if not switch.allow_new:
        raise UserError(
            f"The pre-trained actor has hidden layers of {_words(before)}, the online learner of {_words(here)}: give "
            f"{setting('learner.network.hidden', before)}, or let the actor start from scratch with "
            f"{setting('switch.allow_new', True)}."
        )
    return f"the pre-trained actor starts from scratch: its hidden layers are of {_words(before)}, not {_words(here)}"


def _refuse_critic(name: str, fresh: Sequence[Any], old: Sequence[Any], switch: SwitchConfig) -> str:
    """Return the note that a critic (or the value) starts from scratch, or refuse."""
    options, texts = [], []
    for part, here, before, what in (
        ("hidden", _widths(fresh[:-1]), _widths(old[:-1]), lambda widths: f"hidden layers of {_words(widths)}"),
        ("critics", _members(fresh), _members(old), lambda number: f"an ensemble of {number}"),
        ("layer_norm", "scale" in fresh[0], "scale" in old[0], lambda on: f"{'' if on else 'no '}LayerNorm"),
    ):
        if here != before:
            options.append(setting(f"learner.network.{part}", before))
            texts.append(f"{what(before)}, not {what(here)}")
    all_of = "; ".join(texts) or "other inputs"
    if not switch.allow_new:
        way = f"give {' and '.join(options)}, or let it" if options else "let it"
        raise UserError(
            f"The pre-trained {name} does not fit the online learner ({all_of}): {way} start from scratch with "
            f"{setting('switch.critic_reinit', True)}."
        )
    return f"the pre-trained {name} starts from scratch: it has {all_of}"


def _members(layers: Sequence[Any]) -> int:
    """Return N of an ensemble; 1 of a single network."""
    w = layers[0]["w"]
    return w.shape[0] if w.ndim == 3 else 1


def _fits(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure, shapes and dtypes."""
    if b is None or jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.shape == y.shape and x.dtype == y.dtype for x, y in pairs)
