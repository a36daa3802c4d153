"""One training cycle, the same for all methods.

    refresh     the curator reviews its levels from time to time                 (methods with such a curator)
    choose      levels from the generator or the teacher, from what is kept, or edits of these
    play        S steps of every level by every student, from the start of an episode, memories empty
    score       one score for each level; the buffer is updated                  (methods with a level buffer)
    learn       PPO of the students on the levels that the method learns from
    teach       PPO of the teacher, rewarded by how the students fared           (methods with a teacher)
    explore     edits of replayed levels are played and scored                   (methods that mutate)

What a method makes of it is declared in `minimax_ued.methods`. B is the number of environments of one source, N that of
all sources of a cycle together. All states here have a leading seed axis, and those of students a second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from minimax_ued.config import TrainConfig
from minimax_ued.curricula.choice import Choice, choose_alternating, choose_curated, choose_parallel, edited, new_levels
from minimax_ued.curricula.curators import Curator
from minimax_ued.cycle.state import Keys, Played, TrainState
from minimax_ued.cycle.totals import (
    Totals,
    by_student,
    episode_totals,
    learned_totals,
    level_totals,
    mean_total,
)
from minimax_ued.envs.autoreset import AutoReset
from minimax_ued.envs.base import Environment
from minimax_ued.learning.axes import over_axis
from minimax_ued.learning.gae import generalized_advantages
from minimax_ued.learning.ppo import PPO_METRICS, Batch, make_optimizer, ppo_update
from minimax_ued.learning.rollout import Trajectory, rollout
from minimax_ued.methods import Source
from minimax_ued.nets.students import Student
from minimax_ued.replay.buffer import BufferState, LevelBuffer
from minimax_ued.replay.scores import EpisodeStatistics, episode_statistics, get_score
from minimax_ued.replay.update_norms import update_norms
from minimax_ued.support import counting
from minimax_ued.teachers.regret import get_objective
from minimax_ued.teachers.teaching import Construction, Teaching

__all__ = ["Cycle"]


@dataclass(frozen=True)
class Cycle:
    """The cycle of one configuration.

    Attributes:
        config: the run.
        env: the environment.
        student: the network of every student.
        buffer: the rules of the level buffer, None for methods without one.
        curator: another curator, None for methods without one.
        teaching: the rules of the teacher, None for methods without one.
        constrain: `constrain(tree, axis)` says how the environment axis of arrays is laid out over devices.
    """

    config: TrainConfig
    env: Environment
    student: Student
    buffer: LevelBuffer | None
    curator: Curator | None
    teaching: Teaching | None
    constrain: Callable[[Any, int], Any]

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
        config, method, seeds = self.config, self.config.method_spec, self.config.seeds

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
        learn = choice.replay[:, 0] if self._waits else jnp.ones(seeds, bool)
        if method.alternates:
            learn = jnp.where(replay, "replay" in method.gradient, "fresh" in method.gradient)

        played = over_axis(seeds, self._play)(state.params, content, choice, keys.play, learn)
        state = state.replace(
            key=key,
            buffer=played.content if self.buffer is not None else content,
            cycles=counting.add(state.cycles, 1),
            updates=counting.add(state.updates, learn),
            rollouts=counting.add(state.rollouts, method.parts * config.n_students),
        )
        totals = played.totals
        if method.curator == "buffer":
            totals |= over_axis(seeds, lambda replay: self._spread(mean_total("replay", replay)))(choice.replay[:, 0])
        state, ppo = self._where_any(learn, self._learn, self._no_metrics(state), state, played.batch, keys.learn)
        totals = by_student(totals | ppo, config.n_students)
        if construction is not None:
            state, taught = self._where_any(
                ~replay, self._teach, self._no_lesson(state), state, construction, played.statistics, keys.teach
            )
            totals |= taught
        if method.mutates and not method.parallel:
            state, explored = self._where_any(
                choice.replay[:, 0],
                self._explore,
                self._nothing_explored(state),
                state,
                choice,
                played.statistics,
                played.scores,
                keys.explore,
            )
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

        due = counting.remainder(state.cycles[0], self.config.refresh_every) == 0  # all seeds are at the same cycle
        content = jax.lax.cond(
            due, over_axis(self.config.seeds, refreshed), lambda content, *_: content, state.buffer, keys.refresh,
            state.params,
        )  # fmt: skip
        return state.replace(buffer=content, refreshes=counting.add(state.refreshes, due))

    def _build(self, state: TrainState, keys: Keys, wanted: Array) -> tuple[Any, Construction | None]:
        """Levels of the teacher, B for each seed, and how they were built; None where no teacher makes levels."""
        teaching = self.teaching
        if teaching is None or state.teacher is None:
            return None, None
        build = over_axis(self.config.seeds, lambda params, key: teaching.build(params, key, self.config.n_envs))
        if not self.config.method_spec.alternates:
            return build(state.teacher.params, keys.build)
        shapes = jax.eval_shape(build, state.teacher.params, keys.build)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return jax.lax.cond(wanted.any(), build, lambda *_: nothing, state.teacher.params, keys.build)

    # --- parts for one seed ---

    def _choose(self, content: Any, key: Array, replay: Array, built: Any) -> tuple[Any, Choice]:
        """Choose levels for every student: fresh ones are the same for all, replayed ones come from the own buffer."""
        config, method, buffer = self.config, self.config.method_spec, self.buffer
        fresh_key, key = jax.random.split(key)
        students = config.n_students

        def fresh(n: int = config.n_envs) -> Any:
            return self._auto.sample_levels(fresh_key, n) if built is None else built

        if self.curator is not None:
            kept = config.n_envs
            if method.curator == "learnable":
                kept = round(config.learnable.kept_part * config.n_envs)
            return content, self._spread(choose_curated(self.curator, key, content, fresh, config.n_envs, kept))
        if buffer is None:
            return content, self._spread(new_levels(fresh()), students)
        keys = jax.random.split(key, students)
        if method.parallel:

            def parallel(content: BufferState, key: Array) -> tuple[BufferState, Choice]:
                return choose_parallel(buffer, key, content, fresh, config.n_envs, method.parts, self._edit)

            return over_axis(students, parallel)(content, keys)

        def alternating(content: BufferState, key: Array) -> tuple[BufferState, Choice]:
            return choose_alternating(buffer, key, content, fresh, config.n_envs, replay)

        return over_axis(students, alternating)(content, keys)

    def _play(self, params: Any, content: Any, choice: Choice, key: Array, learn: Array) -> Played:
        """Play, score and keep: every student on its levels."""
        students = self.config.n_students
        buffers = content if self.buffer is not None else None  # other curators keep one content for all students

        def one(params: Any, choice: Choice, key: Array, content: Any) -> Played:
            played = self._play_one(params, content, choice, key)
            totals = played.totals | level_totals(jax.vmap(self.env.level_metrics)(self._learned(choice.levels)), learn)
            if self.buffer is not None:
                totals |= learned_totals(self._learned(played.statistics), learn)
            return played.replace(totals=totals)

        keys = jax.random.split(key, students)
        return over_axis(students, one)(params, choice, keys, buffers)

    def _play_one(self, params: Any, content: BufferState | None, choice: Choice, key: Array) -> Played:
        config, buffer = self.config, self.buffer
        trajectory = rollout(
            self._auto,
            self.student,
            params,
            key,
            choice.levels,
            steps=config.rollout_steps,
            chunks=config.ppo.chunks,
            truncation_values=config.ppo.bootstrap_timeouts,
            constrain=self.constrain,
        )
        advantages, targets = generalized_advantages(
            trajectory.rewards,
            trajectory.values,
            trajectory.last_value,
            terminated=trajectory.terminated,
            truncated=trajectory.truncated,
            truncation_values=trajectory.truncation_values,
            gamma=config.ppo.gamma,
            gae_lambda=config.ppo.gae_lambda,
        )
        totals = episode_totals(trajectory, self._success_return)
        statistics = episode_statistics(trajectory.rewards, trajectory.dones, self._success_return)
        scores = jnp.zeros_like(choice.seen)
        if buffer is not None and content is not None:
            scores, max_returns = self._score(params, choice, trajectory, advantages, targets)
            content = buffer.insert(content, choice.levels, scores, max_returns, choice.slots, choice.n_mutations)
            totals |= mean_total("level/score", scores, jnp.isfinite(scores))
        batch = Batch.from_trajectory(*self._columns(trajectory, advantages, targets))
        return Played(content=content, batch=batch, statistics=statistics, scores=scores, totals=totals)

    def _score(
        self, params: Any, choice: Choice, trajectory: Trajectory, advantages: Array, targets: Array
    ) -> tuple[Array, Array]:
        score, config = get_score(self.config.score), self.config
        extra: dict[str, Any] = {}
        if "optimal_returns" in score.needs:
            env: Any = self.env  # that it has this was checked before
            extra["optimal_returns"] = jax.vmap(env.optimal_return)(choice.levels)
        if "value_std" in score.needs and trajectory.value_heads is not None:
            extra["value_std"] = trajectory.value_heads.std(-1)
        if "update_norms" in score.needs:
            whole = trajectory.replace(carries=jax.tree.map(lambda x: x[:1], trajectory.carries))
            batch = Batch.from_trajectory(whole, advantages, targets)
            extra["update_norms"] = update_norms(config.ppo, self.student, params, batch)
        return score(
            trajectory.rewards,
            trajectory.dones,
            trajectory.values,
            advantages,
            choice.seen,
            success_return=self._success_return,
            **extra,
        )

    def _learn(self, wanted: Array, state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Totals]:
        config = self.config
        lr = self._annealed(config.ppo.lr, config.ppo.anneal_lr, state)

        def update(params: Any, opt_state: Any, batch: Batch, key: Array) -> tuple[Any, Any, dict[str, Array]]:
            return ppo_update(config.ppo, self.student, params, opt_state, batch, key, lr=lr, constrain=self.constrain)

        keys = jax.random.split(key, config.n_students)
        params, opt_state, metrics = over_axis(config.n_students, update)(state.params, state.opt_state, batch, keys)
        params, opt_state = _choose_tree(wanted, (params, opt_state), (state.params, state.opt_state))
        weight = jnp.broadcast_to(wanted.astype(jnp.float32), (config.n_students,))
        totals = {name: (weight * value, weight) for name, value in metrics.items()}
        return state.replace(params=params, opt_state=opt_state), totals

    def _teach(
        self, wanted: Array, state: TrainState, record: Construction, statistics: EpisodeStatistics, key: Array
    ) -> tuple[TrainState, Totals]:
        config, teaching = self.config, self.teaching
        assert teaching is not None
        assert state.teacher is not None
        objective = get_objective(config.objective)
        rewards = objective(statistics)
        lr = self._annealed(config.teacher.ppo.lr, config.teacher.ppo.anneal_lr, state)
        teacher, metrics = teaching.learn(state.teacher, record, rewards, key, lr)
        weight = wanted.astype(jnp.float32)
        totals = {f"teacher/{name}": (weight * value, weight) for name, value in metrics.items()}
        totals |= mean_total("teacher/reward", rewards, jnp.broadcast_to(wanted, rewards.shape))
        return state.replace(teacher=_choose_tree(wanted, teacher, state.teacher)), totals

    def _explore(
        self,
        wanted: Array,
        state: TrainState,
        choice: Choice,
        statistics: EpisodeStatistics,
        scores: Array,
        key: Array,
    ) -> tuple[TrainState, Totals]:
        """Edit the levels that were replayed, play the results without learning from them, offer them to the buffer."""
        buffer, n = self.buffer, self.config.n_envs
        assert buffer is not None

        def one(params: Any, content: BufferState, choice: Choice, ease: Array, key: Array) -> Played:
            edit_key, play_key = jax.random.split(key)
            parents = self._parents(choice, ease, n)
            children = edited(buffer, content, *self._edit(edit_key, parents.levels, parents.n_mutations))
            played = self._play_one(params, content, children, play_key)
            return played.replace(batch=None, totals={"mutation/score": played.totals["level/score"]})

        # An unfinished level has score -inf: infinitely easy or hard would both be wrong, so that it counts as neither.
        ease = statistics.mean_return - jnp.where(jnp.isfinite(scores), scores, 0.0)
        keys = jax.random.split(key, self.config.n_students)
        played = over_axis(self.config.n_students, one)(state.params, state.buffer, choice, ease, keys)
        weight = wanted.astype(jnp.float32)
        totals = {name: (weight * total[0], weight * count[0]) for name, (total, count) in played.totals.items()}
        content = _choose_tree(wanted, played.content, state.buffer)
        rollouts = jnp.where(wanted, self.config.n_students, 0)
        return state.replace(buffer=content, rollouts=counting.add(state.rollouts, rollouts)), totals

    # --- what comes instead of a part that no seed wants ---

    def _no_metrics(self, state: TrainState) -> Any:
        if self._always_learns:
            return None
        zeros = jnp.zeros((self.config.seeds, self.config.n_students))
        return state, {name: (zeros, zeros) for name in PPO_METRICS}

    def _no_lesson(self, state: TrainState) -> Any:
        if not self.config.method_spec.alternates:
            return None
        zeros = jnp.zeros(self.config.seeds)
        return state, {f"teacher/{name}": (zeros, zeros) for name in (*PPO_METRICS, "reward")}

    def _nothing_explored(self, state: TrainState) -> Any:
        zeros = jnp.zeros(self.config.seeds)
        return state, {"mutation/score": (zeros, zeros)}

    # --- small parts ---

    @property
    def _always_learns(self) -> bool:
        method = self.config.method_spec
        if method.curator == "buffer":
            return "fresh" in method.gradient and (method.parallel or "replay" in method.gradient)
        return True

    @property
    def _learned_parts(self) -> list[int]:
        """Which of the batches that are rolled out side by side the students learn from."""
        method = self.config.method_spec
        if not method.parallel:
            return [0]
        sources: tuple[Source, ...] = ("fresh", "replay", "mutation")
        return [i for i, source in enumerate(sources[: method.parts]) if source in method.gradient]

    @property
    def _waits(self) -> bool:
        """Learning begins with the first replay."""
        return self.config.method_spec.parallel and not self._always_learns

    @property
    def _auto(self) -> AutoReset:
        # A level that is kept, or that somebody made, is played again and again: its score is about that level.
        method = self.config.method_spec
        return AutoReset(self.env, fresh=not (method.curated or method.teacher), ahead=self.config.levels_ahead)

    @property
    def _success_return(self) -> float:
        return getattr(self.env, "success_return", 0.0)

    def _edit(self, key: Array, levels: Any, n_mutations: Array) -> tuple[Any, Array]:
        config, env = self.config.mutation, cast("Any", self.env)  # that it has mutations was checked before
        mutate = env.mutations[config.operator]
        keys = jax.random.split(key, n_mutations.shape[0])
        return jax.vmap(lambda key, level: mutate(key, level, config.n_edits))(keys, levels), n_mutations + 1

    def _parents(self, choice: Choice, ease: Array, n: int) -> Choice:
        config = self.config.mutation
        if config.parents == "batch":
            return choice
        order = jnp.argsort(-ease if config.parents == "easy" else ease, stable=True)
        chosen = jnp.repeat(order[: config.n_parents], n // config.n_parents)
        return jax.tree.map(lambda x: x[chosen], choice.replace(replay=None)).replace(replay=choice.replay)

    def _learned(self, tree: Any) -> Any:
        """Leave out the levels that are only looked at; arrays [N, ...]."""
        kept, n = self._learned_parts, self.config.n_envs
        if len(kept) == self.config.method_spec.parts:
            return tree
        return jax.tree.map(lambda x: jnp.concatenate([x[i * n : (i + 1) * n] for i in kept]), tree)

    def _columns(self, trajectory: Trajectory, advantages: Array, targets: Array) -> tuple[Trajectory, Array, Array]:
        """Leave out the environments whose levels are only looked at."""
        method, n = self.config.method_spec, self.config.n_envs
        if not method.parallel:
            return trajectory, advantages, targets
        kept = self._learned_parts

        def cut(x: Array, axis: int) -> Array:
            parts = [jax.lax.slice_in_dim(x, i * n, (i + 1) * n, axis=axis) for i in kept]
            return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis)

        last = cut(trajectory.last_value, 0)
        carries = jax.tree.map(lambda x: cut(x, 1), trajectory.carries)
        rest = jax.tree.map(lambda x: cut(x, 1), trajectory.replace(carries=None, last_value=None))
        return rest.replace(carries=carries, last_value=last), cut(advantages, 1), cut(targets, 1)

    def _annealed(self, lr: float, anneal: bool, state: TrainState) -> Array:
        if not anneal:
            return jnp.float32(lr)
        # Held at 0 in a run that is continued beyond its length, where it would turn negative.
        done = counting.as_float(counting.before(state.cycles))
        return lr * jnp.maximum(1 - done / self.config.total_cycles, 0)

    def _same(self, key: Array) -> Array:
        return jnp.broadcast_to(key, (self.config.n_students,))

    def _spread(self, tree: Any, students: int | None = None) -> Any:
        students = self.config.n_students if students is None else students
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (students, *jnp.shape(x))), tree)


def _choose_tree(mask: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(mask, x, y), new, old)
