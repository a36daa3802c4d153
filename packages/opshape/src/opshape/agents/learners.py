"""Co-players that learn after every episode: PPO on any policy, REINFORCE and Advantage Alignment as settings of it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from opshape.agents import credit
from opshape.agents.nets import Params
from opshape.agents.players import Episode, Memory, Step, log_probability, sample
from opshape.agents.policies import Policy

__all__ = ["Learner", "LearnerMind", "PPOSettings", "shuffles"]


@dataclasses.dataclass(frozen=True)
class PPOSettings:
    """How a learner learns; the reference's values in matrix games.

    Attributes:
        lr: Adam's step size.
        epochs: passes over an episode.
        minibatches: updates per pass.
        gamma: discount.
        lam: of the advantages.
        clip: of the probability ratio and of the change of values; None clips neither.
        value_weight: of the value loss.
        entropy: weight of the entropy.
        max_norm: the gradient's largest global norm.
        alignment: beta of Advantage Alignment; None is the plain learner.
    """

    lr: float = 1.0
    epochs: int = 2
    minibatches: int = 4
    gamma: float = 0.96
    lam: float = 0.95
    clip: float | None = 0.2
    value_weight: float = 0.5
    entropy: float = 0.02
    max_norm: float = 0.5
    alignment: float | None = None

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam on clipped gradients."""
        return optax.chain(optax.clip_by_global_norm(self.max_norm), optax.adam(self.lr, eps=1e-5))


class LearnerMind(NamedTuple):
    """Parameters (`policy`, and `critic` of the co-player's return under Advantage Alignment) and Adam's state."""

    params: Params
    opt_state: Any


class Sample(NamedTuple):
    """What one step gives to the loss, `[N, ...]`."""

    step: Step
    advantage: Array
    target: Array
    other_target: Array


@dataclasses.dataclass(frozen=True)
class Learner:
    """A policy that PPO improves after every episode.

    As in the reference a recurrent policy is trained on single steps from the hidden states it had when it acted.
    """

    policy: Policy
    settings: PPOSettings = PPOSettings()

    def init(self, key: Array) -> LearnerMind:
        """Return a fresh mind."""
        first, second = jax.random.split(key)
        params = {"policy": self.policy.init(first)}
        if self.settings.alignment is not None:
            params["critic"] = self.policy.init(second)
        return LearnerMind(params, self.settings.optimiser.init(params))

    def start(self, mind: LearnerMind, games: int) -> Memory:
        """Return the memory at the start of an episode."""
        return self.policy.start(mind.params["policy"], games)

    def act(self, mind: LearnerMind, memory: Memory, observation: Any, noise: Array) -> tuple[Memory, Array, Step]:
        """Return the next memory, actions and the step to learn from."""
        after, logits, value = self.policy.apply(mind.params["policy"], memory, observation)
        action = sample(logits, noise)
        return after, action, Step(observation, action, log_probability(logits, action), value, memory)

    def between(self, mind: LearnerMind, memory: Memory, episode: Episode, key: Array) -> tuple[LearnerMind, Memory]:
        """Return the mind after learning from an episode, with an empty memory."""
        settings = self.settings
        samples = self._samples(mind, memory, episode)
        steps, games = episode.rewards.shape

        def update(mind: LearnerMind, chosen: Array) -> tuple[LearnerMind, None]:
            batch = jax.tree.map(lambda x: x[chosen], samples)
            gradient = jax.grad(self.loss)(mind.params, batch)
            updates, opt_state = settings.optimiser.update(gradient, mind.opt_state)
            params: Any = optax.apply_updates(mind.params, updates)
            return LearnerMind(params, opt_state), None

        order = shuffles(key, settings.epochs, steps * games).reshape(settings.epochs * settings.minibatches, -1)
        mind, _ = jax.lax.scan(update, mind, order)
        return mind, self.start(mind, games)

    def _samples(self, mind: LearnerMind, memory: Memory, episode: Episode) -> Sample:
        """Return the episode as samples with advantages and targets, steps and games in one axis."""
        settings, step = self.settings, episode.record
        alive = 1.0 - episode.last
        _, _, last = self.policy.apply(mind.params["policy"], memory, episode.observation)
        terms = {"gamma": settings.gamma, "lam": settings.lam}
        advantage = credit.advantages(episode.rewards, step.value, alive * last, **terms)
        target, other_target = advantage + step.value, jnp.zeros_like(advantage)
        if settings.alignment is not None:
            critic = mind.params["critic"]
            value = jax.vmap(lambda m, o: self.policy.apply(critic, m, o)[2])(step.memory, step.observation)
            _, _, last = self.policy.apply(critic, memory, episode.observation)
            other = credit.advantages(episode.other_rewards, value, alive * last, **terms)
            other_target = other + value
            advantage = credit.aligned(advantage, other, weight=settings.alignment, gamma=settings.gamma)
        samples = Sample(step, advantage, target, other_target)
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), samples)

    def loss(self, params: Params, batch: Sample) -> Array:
        """Return PPO's loss on a minibatch, whose advantages are normalised first."""
        settings, step = self.settings, batch.step
        # Every sample is a game of its own, so that a policy that mixes games does not mix samples.
        rows = jax.tree.map(lambda x: x[:, None], (step.memory, step.observation))

        def evaluate(weights: Params) -> tuple[Array, Array]:
            _, logits, value = jax.vmap(lambda m, o: self.policy.apply(weights, m, o))(*rows)
            return logits[:, 0], value[:, 0]

        logits, value = evaluate(params["policy"])
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        ratio = jnp.exp(log_probability(logits, step.action) - step.log_prob)
        if settings.clip is None:
            gain, error = ratio * advantage, (batch.target - value) ** 2
        else:
            gain = credit.clipped_surrogate(ratio, advantage, clip=settings.clip)
            error = credit.clipped_value_loss(value, step.value, batch.target, clip=settings.clip)
        loss = -gain.mean() + settings.value_weight * error.mean() - settings.entropy * credit.entropy(logits).mean()
        if settings.alignment is not None:
            loss = loss + settings.value_weight * ((batch.other_target - evaluate(params["critic"])[1]) ** 2).mean()
        return loss


def shuffles(key: Array, epochs: int, samples: int) -> Array:
    """Return one permutation of the samples for each epoch, `[epochs, samples]`.

    The key is the same for all candidates of a population, so that `vmap` draws and sorts only once.
    """
    return jax.vmap(lambda k: jax.random.permutation(k, samples))(jax.random.split(key, epochs))
