"""Where the levels of one cycle come from: one seed, one student.

`Choice` says which levels a rollout plays and what is known of them. The functions here make it, one for each way in
which a method finds its levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.curricula.curators import Curator
from minimax_ued.replay.buffer import BufferState, LevelBuffer

__all__ = ["Choice", "choose_alternating", "choose_curated", "choose_parallel", "edited", "new_levels"]

#: key, levels [B], n_mutations i32[B] -> levels [B], n_mutations i32[B]
Edit = Callable[[Array, Any, Array], tuple[Any, Array]]


class Choice(struct.PyTreeNode):
    """The levels of a rollout.

    Attributes:
        levels: leading axis N.
        slots: i32[N], where in the buffer each level comes from, -1 for those that are new.
        seen: f32[N], the highest return that was ever seen on each, -inf for those that are new.
        n_mutations: i32[N], generations of edits since the random ancestor.
        replay: bool[], whether replayed levels are among them.
    """

    levels: Any
    slots: Array
    seen: Array
    n_mutations: Array
    replay: Array


def new_levels(levels: Any) -> Choice:
    """Return the choice of levels that nothing is known of."""
    n = jax.tree.leaves(levels)[0].shape[0]
    return Choice(
        levels=levels,
        slots=jnp.full(n, -1, jnp.int32),
        seen=jnp.full(n, -jnp.inf),
        n_mutations=jnp.zeros(n, jnp.int32),
        replay=jnp.zeros((), bool),
    )


def edited(buffer: LevelBuffer, content: BufferState, levels: Any, n_mutations: Array) -> Choice:
    """Return the choice of mutated levels, `n_mutations` generations of edits from their random ancestors."""
    return _known(buffer, content, new_levels(levels).replace(n_mutations=n_mutations))


def choose_alternating(
    buffer: LevelBuffer, key: Array, content: BufferState, fresh: Callable[[], Any], n: int, replay: Array
) -> tuple[BufferState, Choice]:
    """Return the buffer with new ages, and `n` levels: replayed ones if `replay`, else fresh ones."""

    def from_buffer(key: Array, content: BufferState) -> tuple[BufferState, Choice]:
        return _replayed(buffer, key, content, n)

    def redraw(key: Array, content: BufferState) -> tuple[BufferState, Choice]:
        del key
        return buffer.age(content, n), _known(buffer, content, new_levels(fresh()))

    return jax.lax.cond(replay, from_buffer, redraw, key, content)


def choose_parallel(
    buffer: LevelBuffer, key: Array, content: BufferState, fresh: Callable[[int], Any], n: int, edit: Edit | None
) -> tuple[BufferState, Choice]:
    """Return the buffer with new ages, and batches of `n` levels: fresh ones, replayed, and with `edit` edits of these.

    Until the buffer is filled enough for a replay they are all fresh.
    """

    def from_buffer(key: Array, content: BufferState) -> tuple[BufferState, Choice]:
        replay_key, edit_key = jax.random.split(key)
        first = _known(buffer, content, new_levels(fresh(n)))
        content, replayed = _replayed(buffer, replay_key, content, n)
        choices = [first, replayed]
        if edit is not None:
            choices.append(edited(buffer, content, *edit(edit_key, replayed.levels, replayed.n_mutations)))
        joined = jax.tree.map(lambda *x: jnp.concatenate(x), *(c.replace(replay=None) for c in choices))
        return content, joined.replace(replay=jnp.ones((), bool))

    def redraw(key: Array, content: BufferState) -> tuple[BufferState, Choice]:
        del key
        return buffer.age(content, n), _known(buffer, content, new_levels(fresh(n * (2 if edit is None else 3))))

    return jax.lax.cond(buffer.ready(content), from_buffer, redraw, key, content)


def choose_curated(
    curator: Curator, key: Array, content: Any, fresh: Callable[[int], Any], n: int, kept: int
) -> Choice:
    """Return `n` levels, the first `kept` of them from the curator and the others fresh."""
    slots, levels = curator.sample(key, content, kept)
    choice = new_levels(levels).replace(slots=slots, replay=jnp.ones((), bool))
    if kept == n:
        return choice
    others = new_levels(fresh(n - kept)).replace(replay=None)
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), choice.replace(replay=None), others)
    return joined.replace(replay=choice.replay)


def _replayed(buffer: LevelBuffer, key: Array, content: BufferState, n: int) -> tuple[BufferState, Choice]:
    content, slots, levels = buffer.sample(key, content, n)
    choice = Choice(
        levels=levels,
        slots=slots.astype(jnp.int32),
        seen=content.max_returns[slots],
        n_mutations=content.n_mutations[slots],
        replay=jnp.ones((), bool),
    )
    return content, choice


def _known(buffer: LevelBuffer, content: BufferState, choice: Choice) -> Choice:
    """A new level can equal a buffered one, whose best return its score must know."""
    return choice.replace(seen=buffer.seen(content, choice.levels))
