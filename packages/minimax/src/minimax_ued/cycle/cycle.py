"""One training cycle, the same for all methods.

    refresh     the curator reviews its levels from time to time                 (methods with such a curator)
    choose      levels from the generator or the teacher, from what is kept, or edits of these
    play        S steps of every level by every student, from the start of an episode, memories empty
    score       one score for each level; the buffer is updated                  (methods with a level buffer)
    learn       PPO of the students on the levels that the method learns from
    teach       PPO of the teacher, rewarded by how the students fared           (methods with a teacher)
    explore     edits of replayed levels are played and scored                   (methods that mutate)

What a method makes of it is in `minimax_ued.settings.methods`. B is the number of environments of one source, N that of
all sources of a cycle together. All states here have a leading seed axis, and those of students a second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.config import TrainConfig
from minimax_ued.curricula.choice import Choice, choose_alternating, choose_curated, choose_parallel, new_levels
from minimax_ued.curricula.curators import Curator
from minimax_ued.curricula.edits import edit_levels
from minimax_ued.cycle import lessons
from minimax_ued.cycle.playing import Playing
from minimax_ued.cycle.state import Keys, TrainState
from minimax_ued.cycle.totals import Totals, by_student, mean_total
from minimax_ued.envs.base import Environment
from minimax_ued.learning.axes import over_axis
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.learning.ppo import make_optimizer
from minimax_ued.nets.students import Student
from minimax_ued.replay.buffer import BufferState, LevelBuffer
from minimax_ued.teachers.teaching import Construction, Teaching

__all__ = ["Cycle"]


@dataclass(frozen=True)
class Cycle:
    """The cycle of one configuration.

    Attributes:
        config: the run.
        env: the environment.
        student: the network of every student.
        curator: what keeps levels if not the level buffer, None for methods without one.
        teaching: the rules of the teacher, None for methods without one.
        playing: rollouts on chosen levels, and the rules of the level buffer.
        constrain: `constrain(tree, axis)` says how the environment axis of arrays is laid out over devices.
    """

    config: TrainConfig
    env: Environment
    student: Student
    curator: Curator | None
    teaching: Teaching | None
    playing: Playing
    constrain: Constraint = unconstrained

    @property
    def buffer(self) -> LevelBuffer | None:
        """The rules of the level buffer, None for methods without one."""
        return self.playing.buffer

    # --- states before the first cycle, one seed ---

    def init_student(self, key: Array) -> tuple[Any, Any]:
        """Return variables and optimiser state of one student."""
        level_key, key = jax.random.split(key)
        level = self.env.sample_level(level_key)
        observation = self.env.observe(level, self.env.reset(level_key, level))
        sequence = jax.tree.map(lambda x: x[None, None], observation)
        params = self.student.init(key, self.student.initial_carry(1), sequence, jnp.ones((1, 1), bool))
        return params, make_optimizer(self.config.ppo).init(params)

    def init_content(self, key: Array) -> Any:
        """Return the empty buffers of all students, or the first state of another curator."""
        level_key, key = jax.random.split(key)
        level = self.env.sample_level(level_key)
        if self.curator is not None:
            return self.curator.init(key, level)
        if self.buffer is None:
            return None
        content, students = self.buffer.init(level), self.config.n_students
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (students, *x.shape)), content)

    # --- all seeds ---

    def content_metrics(self, state: TrainState) -> dict[str, Array]:
        """Return name -> f32[seeds] about what is kept; of the buffer of student 0 where each has one."""
        if self.buffer is not None:
            first = jax.tree.map(lambda x: x[:, 0], state.buffer)
            return jax.vmap(self.buffer.metrics)(first)
        return {} if self.curator is None else jax.vmap(self.curator.metrics)(state.buffer)

    def __call__(self, state: TrainState) -> tuple[TrainState, Totals]:
        """Do one cycle of every seed. Totals have a leading seed axis."""
        config, method, seeds = self.config, self.config.method, self.config.seeds

        def split(key: Array) -> tuple[Array, Keys]:
            first, rest = jax.random.split(key)
            return first, Keys(*jax.random.split(rest, len(Keys._fields)))

        key, keys = over_axis(seeds, split)(state.key)
        state = self._refresh(state, keys)
        buffer = self.buffer
        if method.alternates and buffer is not None:
            # All buffers of a seed decide by the same lot, and replay when all of them are ready to.
            decide = over_axis(config.n_students, lambda content, key: buffer.replay_decision(key, content))
            replay = over_axis(seeds, lambda content, key: decide(content, self._same(key)).all())(
                state.buffer, keys.decide
            )
        else:
            replay = jnp.zeros(seeds, bool)
        built, construction = self._build(state, keys, ~replay)
        content, choice = over_axis(seeds, self._choose)(state.buffer, keys.choose, replay, built)
        learn = jnp.ones(seeds, bool) if method.always_learns or not method.parallel else choice.replay[:, 0]
        if method.alternates:
            learn = jnp.where(replay, "replay" in method.gradient, "fresh" in method.gradient)

        played = over_axis(seeds, self.playing.all_students)(state.params, content, choice, keys.play, learn)
        state = state.replace(
            key=key,
            buffer=played.content if self.buffer is not None else content,
            cycles=state.cycles + 1,
            updates=state.updates + learn,
            rollouts=state.rollouts + method.parts * config.n_students,
        )
        totals = played.totals
        if self.buffer is not None:
            totals |= over_axis(seeds, lambda replay: self._spread(mean_total("replay", replay)))(choice.replay[:, 0])
        update = partial(lessons.learn, config=config, student=self.student, constrain=self.constrain)
        instead = lessons.nothing_learned(config, state)
        state, ppo = self._where_any(learn, update, instead, state, played.batch, keys.learn)
        totals = by_student(totals | ppo, config.n_students)
        if construction is not None and self.teaching is not None:
            teach = partial(lessons.teach, config=config, teaching=self.teaching)
            instead = lessons.nothing_taught(config, state)
            lesson = construction, played.statistics, keys.teach
            state, taught = self._where_any(~replay, teach, instead, state, *lesson)
            totals |= taught
        if method.explores:
            explore = partial(lessons.explore, config=config, playing=self.playing)
            instead = lessons.nothing_explored(config, state)
            seen = choice, played.statistics, played.scores, keys.explore
            state, explored = self._where_any(choice.replay[:, 0], explore, instead, state, *seen)
            totals |= explored
        return state, totals

    def _where_any(self, wanted: Array, function: Callable[..., Any], skip: Any, state: TrainState, *args: Any) -> Any:
        """Apply `function` to the seeds that want it; not at all where none does.

        Outside the vmap over seeds this stays a branch: a cycle in which no seed learns costs no update. `function` is
        for one seed: (wanted, state, ...) -> state, totals. `skip` is what comes instead.
        """
        mapped = over_axis(self.config.seeds, function)
        if skip is None:
            return mapped(wanted, state, *args)
        return jax.lax.cond(wanted.any(), mapped, lambda *_: skip, wanted, state, *args)

    # --- parts for all seeds ---

    def _refresh(self, state: TrainState, keys: Keys) -> TrainState:
        curator = self.curator
        if curator is None:
            return state

        def refreshed(content: Any, key: Array, params: Any) -> Any:
            return curator.refresh(content, key, jax.tree.map(lambda x: x[0], params))

        # All seeds are at the same cycle.
        due = state.cycles[0] % self.config.method.refresh_every == 0
        content = jax.lax.cond(
            due, over_axis(self.config.seeds, refreshed), lambda content, *_: content, state.buffer, keys.refresh,
            state.params,
        )  # fmt: skip
        return state.replace(buffer=content)

    def _build(self, state: TrainState, keys: Keys, wanted: Array) -> tuple[Any, Construction | None]:
        """Levels of the teacher, B for each seed, and how they were built; None where no teacher makes levels."""
        teaching = self.teaching
        if teaching is None or state.teacher is None:
            return None, None
        build = over_axis(self.config.seeds, lambda params, key: teaching.build(params, key, self.config.n_envs))
        if not self.config.method.alternates:
            return build(state.teacher.params, keys.build)
        shapes = jax.eval_shape(build, state.teacher.params, keys.build)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.cond(wanted.any(), build, lambda *_: nothing, state.teacher.params, keys.build)

    # --- parts for one seed ---

    def _choose(self, content: Any, key: Array, replay: Array, built: Any) -> tuple[Any, Choice]:
        """Choose levels for every student: fresh ones are the same for all, replayed ones come from the own buffer."""
        config, method, buffer = self.config, self.config.method, self.buffer
        fresh_key, key = jax.random.split(key)
        students = config.n_students

        def fresh(n: int = config.n_envs) -> Any:
            return self.playing.auto.sample_levels(fresh_key, n) if built is None else built

        if self.curator is not None:
            kept = round(getattr(method, "kept_part", 1) * config.n_envs)
            return content, self._spread(choose_curated(self.curator, key, content, fresh, config.n_envs, kept))
        if buffer is None:
            return content, self._spread(new_levels(fresh()), students)
        keys = jax.random.split(key, students)
        edit = None if method.mutation is None else partial(edit_levels, method.mutation, self.env)
        if method.parallel:

            def parallel(content: BufferState, key: Array) -> tuple[BufferState, Choice]:
                return choose_parallel(buffer, key, content, fresh, config.n_envs, edit)

            return over_axis(students, parallel)(content, keys)

        def alternating(content: BufferState, key: Array) -> tuple[BufferState, Choice]:
            return choose_alternating(buffer, key, content, fresh, config.n_envs, replay)

        return over_axis(students, alternating)(content, keys)

    # --- small parts ---

    def _same(self, key: Array) -> Array:
        return jnp.broadcast_to(key, (self.config.n_students,))

    def _spread(self, tree: Any, students: int | None = None) -> Any:
        students = self.config.n_students if students is None else students
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (students, *jnp.shape(x))), tree)
