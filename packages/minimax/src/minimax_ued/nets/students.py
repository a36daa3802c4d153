"""Student networks: an encoder of the observation, a recurrent core, a policy head and a value head.

A student is a flax module with three methods, which is all that rollout, learner and evaluation know of it:

    initial_carry(batch)                        -> carry
    step(carry, observation, resets)            -> carry, StudentOutput      one step,  leading axes [B]
    __call__(carry, observations, resets)       -> carry, StudentOutput      sequence,  leading axes [T, B]

`resets` is true where the memory must be forgotten *before* the step: where the episode is a new one. B denotes the
number of environments, T the number of steps. The leaves of a carry have the leading axis B. A sequence that starts
from the memory a longer one had at t is the same as the longer one from t on.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from flax import linen as nn
from jax import Array

from minimax_ued.config import StudentConfig
from minimax_ued.nets.encoders import ConvEncoder, DenseEncoder
from minimax_ued.nets.heads import Head
from minimax_ued.nets.recurrent.cores import make_core
from paperloop.errors import UserError

__all__ = ["ActorCritic", "Student", "StudentOutput", "make_student"]


class StudentOutput(NamedTuple):
    """What a student says about an observation.

    Attributes:
        logits: unnormalised log-probabilities of the actions, `[..., A]`.
        value: V, the expected discounted return from here, `[...]`.
    """

    logits: Array
    value: Array


class Student(Protocol):
    """A flax module that acts and judges with a memory; see the module docstring for shapes."""

    def init(self, key: Array, carry: Any, observations: Any, resets: Array) -> Any:
        """Return fresh variables (flax). Not under `vmap`: see `orthogonal_per_gate` of the recurrent cores."""
        ...

    def apply(self, variables: Any, *args: Any, method: Any = None) -> Any:
        """Call a method with `variables` (flax)."""
        ...

    def initial_carry(self, batch: int) -> Any:
        """Return the memory of `batch` environments before their first step."""
        ...

    def step(self, carry: Any, observation: Any, resets: Array) -> tuple[Any, StudentOutput]:
        """Take one step of every environment."""
        ...

    def __call__(self, carry: Any, observations: Any, resets: Array) -> tuple[Any, StudentOutput]:
        """Take a sequence of steps of every environment."""
        ...


class ActorCritic(nn.Module):
    """A student put together from its parts.

    Attributes:
        encoder: observation `[..., *]` -> `[..., D]`.
        core: see `minimax_ued.nets.recurrent.cores`.
        policy: `[..., H]` -> logits `[..., A]`.
        critic: `[..., H]` -> `[..., 1]`.
    """

    encoder: nn.Module
    core: nn.Module
    policy: nn.Module
    critic: nn.Module

    def initial_carry(self, batch: int) -> Any:
        """Return the empty memory of `batch` environments: zeros, leaves `[B, ...]`."""
        return self.core.initial_carry(batch)

    def step(self, carry: Any, observation: Any, resets: Array) -> tuple[Any, StudentOutput]:
        """Take one step: observation `[B, ...]`, `resets` bool `[B]`."""
        carry, hidden = self.core.step(carry, self.encoder(observation), resets)
        return carry, self._judge(hidden)

    def __call__(self, carry: Any, observations: Any, resets: Array) -> tuple[Any, StudentOutput]:
        """Take a sequence of steps: as `step`, with a leading time axis `[T, B, ...]`."""
        carry, hiddens = self.core(carry, self.encoder(observations), resets)
        return carry, self._judge(hiddens)

    def _judge(self, hidden: Array) -> StudentOutput:
        return StudentOutput(self.policy(hidden), self.critic(hidden)[..., 0])


def make_student(config: StudentConfig, *, num_actions: int, observation: Any) -> Student:
    """Return the student of Jiang et al. 2023 (minimax) that `config` describes.

    On 5x5 views it has 432,924 parameters with the default configuration, and 451,612 with `arch="s5"`. The policy's
    last kernel starts at a constant, so that all actions are equally likely at first.

    Args:
        config: architecture and sizes.
        num_actions: A.
        observation: an example, or its `jax.ShapeDtypeStruct`s, without leading axes: a structure with `image
            [v, v, C]` and `direction []`, or an array `[n]`.

    Raises:
        UserError: for observations of another form.
    """
    shape = _observation_shape(observation)
    if len(shape) == 3:
        encoder = ConvEncoder(config.conv_filters, config.direction_embedding)
        inputs = (shape[0] - 2) * (shape[1] - 2) * config.conv_filters + config.direction_embedding
    else:
        encoder, inputs = DenseEncoder(config.dense_width), config.dense_width
    return ActorCritic(
        encoder=encoder,
        core=make_core(config.core, inputs),
        policy=Head(config.head_width, num_actions, 0.01),
        critic=Head(config.head_width, 1),
    )


def _observation_shape(observation: Any) -> tuple[int, ...]:
    """Return (v, v, C) for a view with a direction and (n,) for a vector."""
    if hasattr(observation, "image") and hasattr(observation, "direction"):
        shape, scalar = np.shape(observation.image), np.shape(observation.direction)
        if len(shape) == 3 and min(shape[:2]) >= 3 and scalar == ():
            return shape
        found = f"an image {shape} and a direction {scalar}"
    else:
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(observation)]
        if jax.tree.structure(observation) == jax.tree.structure(0) and len(shapes[0]) == 1:
            return shapes[0]
        found = f"a {type(observation).__name__} with arrays of shapes {shapes}"
    raise UserError(
        f"make_student got as observation {found}, but takes an array [n], or a structure with image [v, v, C], v at "
        "least 3, and direction []: let the environment observe one of these, or write a student of its own."
    )
