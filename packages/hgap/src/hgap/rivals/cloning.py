"""Behaviour cloning: a perceptron from a state to the action that the data took, whatever it was for."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from hgap.data.windows import Scale, WindowData

__all__ = ["Cloned", "clone"]


class _Policy(nn.Module):
    width: int
    actions: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.actions)(x)


class Cloned(NamedTuple):
    """A cloned policy, as a controller.

    Attributes:
        params: of the network.
        policy: the network.
        state_scale: of states.
        action_scale: of actions.
    """

    params: Any
    policy: _Policy
    state_scale: Scale
    action_scale: Scale

    def begin(self, copies: int, seed: int) -> None:
        """Do nothing: a policy has no memory."""

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return the network's actions."""
        z = self.state_scale.normalise(jnp.asarray(observations, jnp.float32))
        action: Any = self.policy.apply(self.params, z)
        return np.asarray(self.action_scale.restore(action))


def clone(data: WindowData, *, width: int = 256, updates: int = 4000, batch: int = 256, seed: int = 0) -> Cloned:
    """Return the policy with the least squared error on the rows that windows to learn from begin with.

    Args:
        data: the data.
        width: of two hidden layers.
        updates: Adam's steps, at 3e-4.
        batch: rows in one.
        seed: of weights and batches.
    """
    policy = _Policy(width, data.actions.shape[1])
    optimizer = optax.adam(3e-4)

    def loss(params: Any, at: Array) -> Array:
        guess: Any = policy.apply(params, data.states[at])
        return jnp.square(guess - data.actions[at]).mean()

    @jax.jit
    def learn(key: Array) -> Any:
        begin, draw = jax.random.split(key)
        params = policy.init(begin, data.states[:1])

        def update(carry: Any, i: Array) -> tuple[Any, None]:
            params, state = carry
            at = data.train[jax.random.randint(jax.random.fold_in(draw, i), (batch,), 0, len(data.train))]
            step, state = optimizer.update(jax.grad(loss)(params, at), state, params)
            return (optax.apply_updates(params, step), state), None

        return jax.lax.scan(update, (params, optimizer.init(params)), jnp.arange(updates))[0][0]

    return Cloned(learn(jax.random.key(seed)), policy, data.state_scale, data.action_scale)
