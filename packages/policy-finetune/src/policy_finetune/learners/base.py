"""What all learners share: their state, their batches, and the steps every one of them is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from policy_finetune.config import NetworkConfig
from policy_finetune.learners.networks import Layer, init_layers, q_values

__all__ = [
    "Batch",
    "Info",
    "Learner",
    "LearnerState",
    "Optimiser",
    "bellman_target",
    "cosine_rate",
    "counted",
    "each_batch",
    "folded",
    "init_critics",
    "polyak",
    "q_over_bound",
    "ramp",
    "some_critics",
    "squared_error",
    "value_to_climb",
]

#: Updates in a round that are written out; a loop over fewer costs more than it saves.
UNROLLED = 4

#: The largest value of a counter of updates; schedules are shorter than half of it.
LARGEST = 2**31 - 1

Info = dict[str, Array]


class Batch(NamedTuple):
    """B transitions; actions are canonical, in [-1, 1], observations normalised.

    Attributes:
        obs: (B, obs) f32.
        action: (B, act) f32.
        next_obs: (B, obs) f32.
        reward: (B,) f32.
        mask: (B,) f32, 0 where the environment ended by itself, else 1: a time limit is not an end.
        to_go: (B,) f32, the discounted return from here on in the data; -inf for online transitions, whose episodes are
            not over yet: a lower bound that never binds.
    """

    obs: Array
    action: Array
    next_obs: Array
    reward: Array
    mask: Array
    to_go: Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "target", "opt", "reference", "updates", "rounds"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class LearnerState:
    """Everything that a learner carries from update to update.

    Attributes:
        params: network or variable by name: "actor", "critic", and what the learner has besides.
        target: the target networks by name.
        opt: optimiser states, by the names of `params`.
        reference: the actor that a constraint holds on to, or None.
        updates: i32, critic updates since the phase began, for schedules; held at 2^31 - 1 (`counted`).
        rounds: i32, actor updates since the phase began, likewise; those that a critic warm-up held back do not count.
    """

    params: dict[str, Any]
    target: dict[str, Any]
    opt: dict[str, Any]
    reference: Any
    updates: Array
    rounds: Array

    def replace(self, **changes: Any) -> LearnerState:
        """Return the state with fields changed."""
        return dataclasses.replace(self, **changes)


class Learner(Protocol):
    """One way of learning from batches. A round is `config.policy_delay` critic updates and one actor update."""

    config: Any

    def init(self, key: Array) -> LearnerState:
        """Return the state before the first round."""
        ...

    def round(
        self, state: LearnerState, batches: Batch, key: Array, weights: Mapping[str, Array]
    ) -> tuple[LearnerState, Info]:
        """Do one round.

        Args:
            state: what `init` or the round before returned.
            batches: fields with leading axes [policy_delay, B]; the actor learns from the last one.
            key: the randomness of this round.
            weights: the numbers by which agents of one program may differ (`policy_finetune.agents.structure`),
                f32 scalars.
        """
        ...


class Optimiser:
    """Adam as optax has it, for one network at a time; the learning rate may be a traced number."""

    def __init__(self, eps: float = 1e-8, max_grad_norm: float = 0.0) -> None:
        steps = [optax.clip_by_global_norm(max_grad_norm)] if max_grad_norm else []
        self.transform = optax.chain(*steps, optax.scale_by_adam(eps=eps))

    def init(self, params: Any) -> Any:
        """Return the moments before the first step."""
        return self.transform.init(params)

    def step(self, params: Any, gradient: Any, moments: Any, lr: Any) -> tuple[Any, Any]:
        """Return (params, moments) after one descent step."""
        direction, moments = self.transform.update(gradient, moments, params)
        return jax.tree.map(lambda p, d: p - lr * d, params, direction), moments

    def descend(
        self, loss: Callable[[Any], tuple[Array, Any]], state: LearnerState, name: str, lr: Any
    ) -> tuple[Array, Any, Any, Any]:
        """Return the loss of the network of that name, what else it says, and (params, moments) after one step."""
        (value, more), gradient = jax.value_and_grad(loss, has_aux=True)(state.params[name])
        return value, more, *self.step(state.params[name], gradient, state.opt[name], lr)


def init_critics(key: Array, network: NetworkConfig, obs_dim: int, act_dim: int) -> list[Layer]:
    """Return N independent critics Q_i(s, a) as one ensemble."""
    sizes = [obs_dim + act_dim, *network.hidden, 1]
    return init_layers(key, sizes, ensemble=network.critics, init=network.init, layer_norm=network.layer_norm)


def some_critics(critics: Any, key: Array, *, subset: int) -> Any:
    """Return the critics whose minimum is the target: all for a subset of 0, else REDQ's random ones."""
    if not subset:
        return critics
    chosen = jax.random.choice(key, len(critics[0]["b"]), (subset,), replace=False)
    return jax.tree.map(lambda x: x[chosen], critics)


def value_to_climb(critics: Any, obs: Array, action: Array, *, how: str) -> Array:
    """Return the value [B] that an actor climbs: that of the "first" critic, or the "min" or "mean" of all."""
    if how == "first":
        return q_values(jax.tree.map(lambda x: x[:1], critics), obs, action)[0]
    q = q_values(critics, obs, action)
    return q.min(0) if how == "min" else q.mean(0)


def bellman_target(reward: Array, mask: Array, value: Array, *, discount: Array | float) -> Array:
    """Return y = r + γ (1 - d) V(s'), [B]; `mask` is 1 - d."""
    return reward + discount * mask * value


def squared_error(q: Array, target: Array) -> Array:
    """Return Σ_i E[(Q_i - y)²] of q [N, B] and y [B]."""
    return jnp.square(q - target).mean(1).sum()


def each_batch(
    step: Callable[[LearnerState, Batch, Array], tuple[LearnerState, Info]],
    state: LearnerState,
    batches: Batch,
    keys: Array,
) -> tuple[LearnerState, Info]:
    """Do `step` on one batch after another; return the state and what the last step said.

    Args:
        step: (state, batch, key) -> (state, info).
        state: before the first batch.
        batches: fields with leading axes [steps, B].
        keys: [steps] PRNG keys.
    """
    steps = len(keys)
    if steps > UNROLLED:
        state, infos = jax.lax.scan(lambda state, x: step(state, *x), state, (batches, keys))
        return state, jax.tree.map(lambda x: x[-1], infos)
    info: Info = {}
    for i in range(steps):
        state, info = step(state, jax.tree.map(lambda x, i=i: x[i], batches), keys[i])
    return state, info


def polyak(target: Any, online: Any, tau: Any) -> Any:
    """Return target + τ (online - target)."""
    return jax.tree.map(lambda t, o: t + tau * (o - t), target, online)


def counted(count: Array, more: Any = True) -> Array:
    """Return an i32 counter one further where `more` holds; at its largest value it stays, and never turns negative.

    By then every schedule has ended, so that nothing depends on how far it would have gone.
    """
    return count + (more & (count < LARGEST))


def folded(count: Array, period: Array) -> Array:
    """Return an i32 counter moved back by a multiple of `period`, to above 2^30, where it has its largest value."""
    return jnp.where(count >= LARGEST, count - LARGEST // 2 // period * period, count)


def copy(tree: Any) -> Any:
    """Return a tree with buffers of its own: a donated state must not hold one buffer twice."""
    return jax.tree.map(jnp.copy, tree)


def ramp(first: Any, last: Any, steps: Any, now: Array) -> Array:
    """Return what goes linearly from `first` to `last` in `steps`, and stays."""
    return first + (last - first) * jnp.clip(now / jnp.maximum(steps, 1.0), 0.0, 1.0)


def cosine_rate(lr: Array, done: Array, *, steps: Array) -> Array:
    """Return the learning rate after `done` of `steps` updates: a cosine to 0, or constant for 0 steps."""
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(done / jnp.maximum(steps, 1.0), 1.0)))
    return lr * jnp.where(steps > 0, cosine, 1.0)


def q_over_bound(info: Info, reward: Array, discount: Array) -> Info:
    """Return {"q_over_bound": mean |Q| / (max |r| / (1 - γ))}, or nothing for a learner without critics.

    No policy's value exceeds max |r| / (1 - γ), so that a number far above 1 means that the critics diverge. It is 0
    where the bound says nothing: γ = 1, or only zero rewards in the batches. SAC's critics also value the entropy to
    come, so α |entropy| is added to max |r|: roughly right, because the entropy is a mean over the batch.
    """
    if "q_abs" not in info:
        return {}
    largest = jnp.abs(reward).max()
    most = largest + info["alpha"] * jnp.abs(info["entropy"]) if "alpha" in info else largest
    ratio = info["q_abs"] * (1 - discount) / jnp.where(largest > 0, most, 1.0)
    return {"q_over_bound": jnp.where(largest > 0, ratio, 0.0)}


def select(gate: Array, new: Any, old: Any) -> Any:
    """Return `new` where the gate is open, else `old`."""
    return jax.tree.map(lambda n, o: jnp.where(gate, n, o), new, old)
