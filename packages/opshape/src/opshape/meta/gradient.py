"""Policy gradients over whole trials: PPO with credit across episodes, and COALA-PG."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from opshape.agents import credit
from opshape.agents.players import Step, log_probability
from opshape.meta import config
from opshape.meta.base import Report, report
from opshape.play.arena import Arena, Scores

__all__ = ["Gradient", "GradientState", "coala_advantages", "make_gradient", "trial_advantages"]

Objective = Literal["trial", "episode", "coala", "batch_unaware", "mfos"]


def trial_advantages(rewards: Array, values: Array, *, gamma: float, lam: float, across: bool) -> Array:
    """Return generalised advantages over a trial, `[E, T, B]`.

    Args:
        rewards: `[E, T, B]`.
        values: `[E, T, B]`, before each reward.
        gamma: discount.
        lam: lambda.
        across: the end of an episode ends nothing: later episodes count. Otherwise each episode stands alone.
    """
    shape, terms = rewards.shape, {"gamma": gamma, "lam": lam}
    if across:
        flat = (x.reshape(-1, shape[-1]) for x in (rewards, values))
        return credit.advantages(*flat, jnp.zeros(shape[-1]), **terms).reshape(shape)
    return jax.vmap(lambda r, v: credit.advantages(r, v, jnp.zeros(shape[-1]), **terms))(rewards, values)


def coala_advantages(rewards: Array, values: Array, *, gamma: float, lam: float, norm: float) -> Array:
    """Return COALA-PG's advantages, `[E, T, B]` (Meulemans et al. 2025, section 4 and appendix).

    With delta_t = r_t + gamma V_{t+1} - V_t and d = gamma lambda they are, backwards in time, delta / norm + d A within
    an episode; beyond its end A is replaced by the mean over the games of what follows, because the co-player learns
    from all of them.

    Args:
        rewards: `[E, T, B]`.
        values: `[E, T, B]`.
        gamma: discount.
        lam: lambda.
        norm: B for COALA; 1 gives M-FOS, which overweighs the current episode.
    """
    episodes, steps, games = rewards.shape
    flat_r, flat_v = (x.reshape(-1, games) for x in (rewards, values))
    delta = flat_r + gamma * jnp.concatenate([flat_v[1:], jnp.zeros((1, games))]) - flat_v
    ends = jnp.tile(jnp.arange(steps) == steps - 1, episodes)

    def back(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        own, shared = carry
        delta, end = now
        own = delta / norm + gamma * lam * jnp.where(end, shared, own)
        shared = jnp.broadcast_to((delta + gamma * lam * shared).mean(), own.shape)
        return (own, shared), own

    zero = jnp.zeros(games)
    _, found = jax.lax.scan(back, (zero, zero), (delta, ends), reverse=True)
    return found.reshape(rewards.shape)


class GradientState(NamedTuple):
    """Parameters `[D]` and Adam's state."""

    vector: Array
    opt_state: Any


class Batch(NamedTuple):
    """Trials `[K, E, T, B]` with advantages and value targets."""

    step: Step
    advantage: Array
    target: Array


@dataclasses.dataclass(frozen=True)
class Gradient:
    """PPO on a batch of trials, all of which are used in every update.

    Attributes:
        objective: whose rewards an action is credited with.
        unroll: backpropagate through whole trials; otherwise through one step from the memory it was acted with.
        lr: Adam's step size.
        epochs: updates per generation.
        gamma: discount.
        lam: lambda.
        clip: of probability ratios, and outside COALA of value changes.
        value_weight: of the value loss.
        entropy: weight of the entropy.
        max_norm: the largest norm of a gradient.
    """

    objective: Objective
    unroll: bool
    lr: float
    epochs: int
    gamma: float
    lam: float
    clip: float
    value_weight: float
    entropy: float
    max_norm: float

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam on clipped gradients."""
        return optax.chain(optax.clip_by_global_norm(self.max_norm), optax.adam(self.lr, eps=1e-5))

    def init(self, arena: Arena, key: Array) -> GradientState:
        """Return the state before the first generation."""
        vector = arena.init(key)
        return GradientState(vector, self.optimiser.init(vector))

    def centre(self, state: GradientState) -> Array:
        """Return the parameters."""
        return state.vector

    def generation(self, state: GradientState, arena: Arena, key: Array) -> tuple[GradientState, Report]:
        """Return the state after one generation, and what it gave."""
        played = arena.play(state.vector, key)
        step, rewards = played.record
        batch = self.batch(step, rewards)

        def update(state: GradientState, _: None) -> tuple[GradientState, Array]:
            gradient = jax.grad(self.loss)(state.vector, arena, batch)
            updates, opt_state = self.optimiser.update(gradient, state.opt_state)
            vector = optax.apply_updates(state.vector, updates)
            return GradientState(vector, opt_state), jnp.linalg.norm(gradient)  # ty: ignore[invalid-argument-type]

        after, norms = jax.lax.scan(update, state, length=self.epochs)
        scores = Scores(played.rewards.mean(0)[None], played.other_rewards.mean(0)[None])
        return after, report(state.vector[None], scores, gradient_norm=norms.mean())

    def batch(self, step: Step, rewards: Array) -> Batch:
        """Return recorded trials with advantages; the value targets are those of a single game."""
        terms = {"gamma": self.gamma, "lam": self.lam}
        plain = jax.vmap(lambda r, v: trial_advantages(r, v, across=self.objective != "episode", **terms))
        target = plain(rewards, step.value) + step.value
        if self.objective in ("coala", "mfos"):
            norm = float(rewards.shape[-1]) if self.objective == "coala" else 1.0
            advantage = jax.vmap(lambda r, v: coala_advantages(r, v, norm=norm, **terms))(rewards, step.value)
        else:
            advantage = target - step.value
        return Batch(step, advantage, target)

    def loss(self, vector: Array, arena: Arena, batch: Batch) -> Array:
        """Return PPO's loss of a parameter vector on recorded trials."""
        logits, value = self.replay(vector, arena, batch.step)
        advantage, shaped = batch.advantage, self.objective in ("coala", "mfos", "batch_unaware")
        if not shaped:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = jnp.exp(log_probability(logits, batch.step.action) - batch.step.log_prob)
        gain = credit.clipped_surrogate(ratio, advantage, clip=self.clip)
        # COALA sums the games of a trial, since their advantages already are shares of a mean.
        gain = gain.sum(-1).mean() if shaped else gain.mean()
        error = credit.clipped_value_loss(value, batch.step.value, batch.target, clip=self.clip)
        if shaped:
            error = (value - batch.target) ** 2
        return -gain + self.value_weight * error.mean() - self.entropy * credit.entropy(logits).mean()

    def replay(self, vector: Array, arena: Arena, step: Step) -> tuple[Array, Array]:
        """Return logits `[K, E, T, B, actions]` and values `[K, E, T, B]` of recorded trials under new parameters."""
        policy, params = arena.policy, arena.unravel(vector)
        if not self.unroll:
            apply = jax.vmap(jax.vmap(jax.vmap(lambda m, o: policy.apply(params, m, o)[1:])))
            return apply(step.memory, step.observation)

        def trial(observations: Any) -> tuple[Array, Array]:
            def episode(memory: Any, observations: Any) -> tuple[Any, tuple[Array, Array]]:
                def act(memory: Any, observation: Any) -> tuple[Any, tuple[Array, Array]]:
                    memory, logits, value = policy.apply(params, memory, observation)
                    return memory, (logits, value)

                memory, out = jax.lax.scan(act, memory, observations)
                return policy.turn(params, memory), out

            return jax.lax.scan(episode, policy.start(params, arena.trial.games), observations)[1]

        return jax.vmap(trial)(step.observation)


def make_gradient(chosen: config.MetaPPO | config.CoAla) -> Gradient:
    """Return the optimiser that settings describe."""
    names = ("lr", "epochs", "gamma", "lam", "clip", "value_weight", "entropy", "max_norm")
    shared = {name: getattr(chosen, name) for name in names}
    if isinstance(chosen, config.CoAla):
        return Gradient(objective=chosen.objective, unroll=True, **shared)
    return Gradient(objective=chosen.credit, unroll=chosen.unroll == "trial", **shared)
