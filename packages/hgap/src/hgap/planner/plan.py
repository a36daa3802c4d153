"""The planner: codes drawn from the prior, decoded once, compared by an objective, all in one compiled program."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hgap.config import Iterated, PlanConfig
from hgap.envs.objectives import Objective, Trajectory, total
from hgap.loading import Model
from hgap.planner.sampling import draw_codes
from paperloop.errors import UserError

__all__ = ["Memory", "Plan", "Planner"]


class Memory(NamedTuple):
    """What is carried from one control step to the next.

    Attributes:
        states: of the last plan, normalised, [E, T, S].
        actions: likewise, [E, T, A].
        planned: whether there is a last plan, booleans [E].
        key: of the coming draws.
    """

    states: Array
    actions: Array
    planned: Array
    key: Array


class Plan(NamedTuple):
    """The best plan of each of E environments; B = N samples (and one more with a warm start).

    Attributes:
        action: to execute now, in physical units [E, A].
        states: predicted, [E, T, S]; the first is the present state.
        actions: planned, [E, T, A].
        codes: int32 [E, n].
        score: [E].
        scores: of all samples in the order of drawing, that of the last plan's rest at the end, [E, B].
        log_prob: of the best under the prior, [E].
        entropy: of the prior at each position, [n].
        distance: of the present state from the data's mean, its largest number of standard deviations, [E].
    """

    action: Array
    states: Array
    actions: Array
    codes: Array
    score: Array
    scores: Array
    log_prob: Array
    entropy: Array
    distance: Array


class _Samples(NamedTuple):
    codes: Array  # (E, B, n)
    states: Array  # (E, B, T, S), normalised
    actions: Array  # (E, B, T, A), normalised
    scores: Array  # (E, B)
    log_prob: Array  # (E, B)


class Planner:
    """Plans for one objective, in any number of environments at once.

        planner = Planner(load("runs/cheetah"), OBJECTIVES["forward"])
        memory = planner.start(environments=8)
        memory, plan = planner(memory, observations)     # observations [8, S] -> plan.action [8, A]

    Args:
        model: what to plan with.
        objective: any callable on a `Trajectory`. One that JAX can trace runs on the device; one that needs NumPy
            arrays is called on the host, from within the same program.
        config: how.

    Raises:
        UserError: the objective returns another shape than totals or rewards. What it raises itself is passed on.
    """

    def __init__(self, model: Model, objective: Objective, config: PlanConfig | None = None) -> None:
        self.model, self.objective, self.config = model, objective, config or PlanConfig()
        self._failed: Exception | None = None
        self.traced = self._probe()
        self._plan = jax.jit(self._step)

    def start(self, environments: int, seed: int | None = None) -> Memory:
        """Return the memory before the first plan."""
        model = self.model.autoencoder
        states = jnp.zeros((environments, model.steps, model.state_size))
        actions = jnp.zeros((environments, model.steps, model.action_size))
        key = jax.random.key(self.config.seed if seed is None else seed)
        return Memory(states, actions, jnp.zeros(environments, bool), key)

    def forget(self, memory: Memory, ended: Any) -> Memory:
        """Return the memory without the plans of environments that have begun anew, booleans [E]."""
        return memory._replace(planned=memory.planned & ~jnp.asarray(ended))

    def __call__(self, memory: Memory, observations: Any) -> tuple[Memory, Plan]:
        """Plan once.

        Args:
            memory: of the last step.
            observations: the present states [E, S], in physical units.

        Raises:
            UserError: the observations have another shape or are not finite, or no plan of an environment has a score.
        """
        shape = (len(memory.planned), self.model.autoencoder.state_size)
        if np.shape(observations) != shape:
            raise UserError(f"The observations have shape {list(np.shape(observations))}; they must be {list(shape)}.")
        if not np.isfinite(observations).all():
            raise UserError("The observations have NaN or infinities: the episode has to begin anew.")
        memory, plan = self._plan(
            self.model.weights, self.model.params, self.model.state_scale, self.model.action_scale, memory,
            jnp.asarray(observations, jnp.float32),
        )  # fmt: skip
        lost = ~np.isfinite(plan.score)
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        if lost.any():
            raise UserError(
                f"The objective gave no finite number for any of the plans of environment {int(lost.argmax())}: check "
                "what it returns."
            )
        return memory, plan

    def _step(
        self, weights: Any, params: Any, state_scale: Any, action_scale: Any, memory: Memory, observations: Array
    ) -> tuple[Memory, Plan]:
        config, search = self.config, self.config.search
        key, draw = jax.random.split(memory.key)
        first = state_scale.normalise(observations)
        rounds, elites = (search.rounds, search.elites) if isinstance(search, Iterated) else (1, 1)
        count = config.samples // rounds

        def assess(codes: Array, log_prob: Array) -> _Samples:
            """Decode codes [E, B, n] and score them."""
            wide = jnp.repeat(first, codes.shape[1], axis=0)
            vectors = self.model.autoencoder.vectors(weights, codes.reshape(-1, codes.shape[-1]))
            decoded = self.model.autoencoder.decode(weights, vectors, wide)
            states, actions = (x.reshape(*codes.shape[:2], *x.shape[1:]) for x in decoded)
            scores = self._score(states, actions, log_prob / codes.shape[-1], state_scale, action_scale)
            return _Samples(codes, states, actions, scores, log_prob)

        def one_round(best: _Samples, at: Array) -> tuple[_Samples, tuple[Array, Array]]:
            """Draw, continuing beginnings of the best so far in all rounds but the first."""
            step = jax.random.fold_in(draw, at)
            given, kept = _beginnings(best, count, jax.random.fold_in(step, 1))
            result = draw_codes(
                params, self.model.prior, first, step, samples=count, temperature=search.temperature,
                top_p=search.top_p, rule=search.rule, given=given, kept=jnp.where(at == 0, 0, kept),
            )  # fmt: skip
            codes = result.codes.reshape(len(first), count, -1)
            new = assess(codes, result.log_prob.reshape(len(first), count))
            return _top(_join(best, _top(new, elites)), elites), (new.scores, result.entropy)

        last = self._shifted(weights, params, memory, first, assess)
        known = jax.tree.map(lambda x: jnp.repeat(x, elites, axis=1), last)
        if rounds == 1:
            best, (scores, entropy) = one_round(known, jnp.zeros((), jnp.int32))
        else:
            best, (scores, entropies) = jax.lax.scan(one_round, known, jnp.arange(rounds))
            scores, entropy = jnp.moveaxis(scores, 0, 1).reshape(len(first), -1), entropies[0]
        if config.warm_start:
            scores = jnp.concatenate([scores, last.scores], 1)
        return self._choose(best, scores, entropy, observations, key, state_scale, action_scale)

    def _choose(
        self, best: _Samples, scores: Array, entropy: Array, observations: Array, key: Array, state_scale: Any,
        action_scale: Any,
    ) -> tuple[Memory, Plan]:  # fmt: skip
        states, actions = best.states[:, 0], best.actions[:, 0]
        restored = action_scale.restore(actions)
        away = jnp.where(state_scale.varies, (observations - state_scale.mean) / state_scale.std, 0.0)
        plan = Plan(
            restored[:, 0], state_scale.restore(states), restored, best.codes[:, 0], best.scores[:, 0],
            scores, best.log_prob[:, 0], entropy, jnp.abs(away).max(-1),
        )  # fmt: skip
        return Memory(states, actions, jnp.ones(len(states), bool), key), plan

    def _score(self, states: Array, actions: Array, per_code: Array, state_scale: Any, action_scale: Any) -> Array:
        """Return scores [E, B]: a state is scored together with the action that led to it."""
        config = self.config
        if config.units == "physical":
            trajectory = (state_scale.restore(states)[..., 1:, :], action_scale.restore(actions)[..., :-1, :])
        else:
            trajectory = (states, actions)
        scores = self._objective(*trajectory)
        if config.likelihood:
            scores = scores + config.likelihood * per_code
        if config.drift:
            beyond = jnp.maximum(jnp.abs(states) - state_scale.clip, 0.0)
            scores = scores - config.drift * beyond.sum((-1, -2))
        return scores

    def _objective(self, states: Array, actions: Array) -> Array:
        batch, slices = states.shape[:-2], self.model.slices
        if self.traced:
            return total(self.objective(Trajectory(states, actions, slices)), batch).astype(jnp.float32)

        def host(states: Any, actions: Any) -> np.ndarray:
            trajectory = Trajectory(np.asarray(states), np.asarray(actions), slices)
            try:
                return np.asarray(total(self.objective(trajectory), batch), np.float32)
            except Exception as error:  # an error that passes through JAX arrives as another one
                self._failed = error
                return np.full(batch, np.nan, np.float32)

        return jax.pure_callback(host, jax.ShapeDtypeStruct(batch, jnp.float32), states, actions)

    def _probe(self) -> bool:
        """Whether JAX can trace the objective; runs it on zeros with NumPy where it cannot."""
        model = self.model.autoencoder
        shapes = (2, model.steps - 1, model.state_size), (2, model.steps - 1, model.action_size)
        structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

        def call(states: Any, actions: Any) -> Any:
            return total(self.objective(Trajectory(states, actions, self.model.slices)), (2,))

        try:
            jax.eval_shape(call, *structs)
        except UserError:
            raise
        except Exception:  # JAX's errors are of many kinds; what is wrong with NumPy, too, is raised by the next line
            call(*(np.zeros(shape, np.float32) for shape in shapes))
            return False
        return True

    def _shifted(self, weights: Any, params: Any, memory: Memory, first: Array, assess: Any) -> _Samples:
        """Return the rest of the last plan as one sample: shifted by a step, encoded anew, scored like the others."""
        states, actions = (jnp.concatenate([x[:, 1:], x[:, -1:]], 1) for x in (memory.states, memory.actions))
        states = states.at[:, 0].set(first)
        codes = self.model.autoencoder.encode(weights, states, actions).codes
        logits: Any = self.model.prior.apply(params, codes, first)
        log_p = jax.nn.log_softmax(logits)
        log_prob = jnp.take_along_axis(log_p, codes[..., None], -1)[..., 0].sum(-1)
        sample = assess(codes[:, None], log_prob[:, None])
        competes = memory.planned[:, None] & self.config.warm_start
        return sample._replace(scores=jnp.where(competes, sample.scores, -jnp.inf))


def _join(one: _Samples, other: _Samples) -> _Samples:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), one, other)


def _top(samples: _Samples, count: int) -> _Samples:
    """Return the best samples of each environment, best first; a score that is not a number counts as the worst."""
    scores = jnp.where(jnp.isnan(samples.scores), -jnp.inf, samples.scores)
    _, order = jax.lax.top_k(scores, count)
    return jax.tree.map(lambda x: jax.vmap(lambda row, at: row[at])(x, order), samples)


def _beginnings(best: _Samples, count: int, key: Array) -> tuple[Array, Array]:
    """Return codes [E count, n] of the best, and how many of each row are kept, drawn uniformly from 0 ... n - 1."""
    rows = jnp.arange(count) % best.codes.shape[1]
    given = best.codes[:, rows].reshape(-1, best.codes.shape[-1])
    return given, jax.random.randint(key, (len(given),), 0, best.codes.shape[-1])
