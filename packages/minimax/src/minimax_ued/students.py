"""Student networks: convolution over the view, recurrent core, policy head and value head.

A student is a flax module with three methods, which is all that rollout, learner and evaluation know of it:

    initial_carry(batch)                        -> carry
    step(carry, observation, resets)            -> carry, StudentOutput      one step,  leading axes [B]
    __call__(carry, observations, resets)       -> carry, StudentOutput      sequence,  leading axes [T, B]

`resets` is true where the memory must be forgotten *before* the step: where the episode is a new one. B denotes the
number of environments, T the number of steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from minimax_ued.config import StudentConfig
from minimax_ued.lstm import LSTMCarry, LSTMParams, lstm_sequence, lstm_step

__all__ = ["ConvEncoder", "LSTMStudent", "Student", "StudentOutput", "make_student"]

_SQRT2 = 2.0**0.5


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
        """Return fresh variables (flax)."""
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


class ConvEncoder(nn.Module):
    """3x3 convolution (VALID, ReLU) over the view, flattened, beside an embedding of the direction.

    `[..., v, v, C]` and `[...]` -> `[..., (v-2)^2 * filters + embedding]`.
    """

    filters: int
    direction_embedding: int

    @nn.compact
    def __call__(self, image: Array, direction: Array) -> Array:
        """Encode observations with any leading axes. uint8 codes are divided by 10, as a normalised view is."""
        if jnp.issubdtype(image.dtype, jnp.integer):
            image = image.astype(jnp.float32) / 10.0
        *leading, rows, columns, channels = image.shape
        kernel = self.param("kernel", nn.initializers.orthogonal(_SQRT2), (3, 3, channels, self.filters))
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        # The nine shifted views side by side turn the convolution into one matrix product, which a vmap over seeds
        # keeps a (batched) matrix product; a vmapped convolution would become a grouped one, slow on CPU.
        patches = jnp.concatenate(
            [image[..., i : rows - 2 + i, j : columns - 2 + j, :] for i in range(3) for j in range(3)], axis=-1
        )
        features = nn.relu(patches @ kernel.reshape(-1, self.filters) + bias)
        embedding = nn.Embed(4, self.direction_embedding, embedding_init=nn.initializers.orthogonal())
        return jnp.concatenate([features.reshape(*leading, -1), embedding(direction)], axis=-1)


class LSTMCore(nn.Module):
    """The parameters of `minimax_ued.lstm`: orthogonal per gate for inputs and recurrence, bias zero."""

    features: int
    inputs: int

    def setup(self) -> None:
        def per_gate(key: Array, shape: tuple[int, int]) -> Array:
            orthogonal = nn.initializers.orthogonal()
            gate = (shape[0], shape[1] // 4)
            return jnp.concatenate([orthogonal(k, gate) for k in jax.random.split(key, 4)], axis=-1)

        self.weights = LSTMParams(
            self.param("input_kernel", per_gate, (self.inputs, 4 * self.features)),
            self.param("recurrent_kernel", per_gate, (self.features, 4 * self.features)),
            self.param("bias", nn.initializers.zeros, (4 * self.features,)),
        )

    def step(self, carry: LSTMCarry, inputs: Array, resets: Array) -> tuple[LSTMCarry, Array]:
        carry = lstm_step(self.weights, carry, inputs, resets)
        return carry, carry.hidden

    def __call__(self, carry: LSTMCarry, inputs: Array, resets: Array) -> tuple[LSTMCarry, Array]:
        return lstm_sequence(self.weights, carry, inputs, resets)


class Head(nn.Module):
    """One tanh layer and a linear output."""

    width: int
    outputs: int
    output_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, features: Array) -> Array:
        hidden = nn.tanh(nn.Dense(self.width, kernel_init=nn.initializers.orthogonal(_SQRT2))(features))
        return nn.Dense(self.outputs, kernel_init=self.output_init)(hidden)


class LSTMStudent(nn.Module):
    """The LSTM student of Jiang et al. 2023 (minimax): 432,924 parameters on 5x5 views with the default configuration.

    The policy's last kernel starts at a constant, so that all actions are equally likely at first.

    Attributes:
        config: sizes.
        num_actions: A.
        view_size: v, the edge of the view.
    """

    config: StudentConfig
    num_actions: int
    view_size: int

    def setup(self) -> None:
        """Create the layers (flax)."""
        config = self.config
        self.encoder = ConvEncoder(config.conv_filters, config.direction_embedding)
        inputs = (self.view_size - 2) ** 2 * config.conv_filters + config.direction_embedding
        self.core = LSTMCore(config.features, inputs)
        self.policy = Head(config.head_width, self.num_actions, nn.initializers.constant(0.01))
        self.critic = Head(config.head_width, 1, nn.initializers.orthogonal())

    def initial_carry(self, batch: int) -> LSTMCarry:
        """Return the empty memory of `batch` environments: zeros `[B, H]`."""
        zeros = jnp.zeros((batch, self.config.features))
        return LSTMCarry(zeros, zeros)

    def step(self, carry: LSTMCarry, observation: Any, resets: Array) -> tuple[LSTMCarry, StudentOutput]:
        """Take one step: `observation.image [B, v, v, C]`, `observation.direction [B]`, `resets` bool `[B]`."""
        features = self.encoder(observation.image, observation.direction)
        carry, hidden = self.core.step(carry, features, resets)
        return carry, self._heads(hidden)

    def __call__(self, carry: LSTMCarry, observations: Any, resets: Array) -> tuple[LSTMCarry, StudentOutput]:
        """Take a sequence of steps: as `step`, with a leading time axis `[T, B, ...]`."""
        features = self.encoder(observations.image, observations.direction)
        carry, hiddens = self.core(carry, features, resets)
        return carry, self._heads(hiddens)

    def _heads(self, hidden: Array) -> StudentOutput:
        return StudentOutput(self.policy(hidden), self.critic(hidden)[..., 0])


def make_student(config: StudentConfig, *, num_actions: int, view_size: int) -> Student:
    """Return the student module that `config.arch` names."""
    return {"lstm": LSTMStudent}[config.arch](config, num_actions=num_actions, view_size=view_size)
