"""A teacher that builds levels step by step and learns from how the students fare on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from minimax_ued.config import TeacherConfig
from minimax_ued.envs.base import LevelEditor
from minimax_ued.learning.gae import generalized_advantages
from minimax_ued.learning.layout import Constraint, unconstrained
from minimax_ued.learning.ppo import Batch, make_optimizer, ppo_update
from minimax_ued.learning.rollout import log_prob
from minimax_ued.nets.students import Student

__all__ = ["Construction", "TeacherState", "Teaching"]


class TeacherState(struct.PyTreeNode):
    """What of a teacher changes.

    Attributes:
        params: the network's variables.
        opt_state: the optimiser's state.
    """

    params: Any
    opt_state: Any


class Construction(struct.PyTreeNode):
    """How B levels were built in T steps.

    Attributes:
        observations: what each action was chosen on, `[T, B, ...]`.
        actions: i32 `[T, B]`.
        log_probs: f32 `[T, B]`, log-probability of each action.
        values: f32 `[T, B]`, the teacher's estimate of its reward.
    """

    observations: Any
    actions: Array
    log_probs: Array
    values: Array


@dataclass(frozen=True)
class Teaching:
    """The rules of one teacher: building, and learning from a reward for each level (Dennis et al. 2020, section 4).

    Attributes:
        config: learner and network.
        editor: the environment in which it builds.
        network: the network, which has the interface of a student's.
        constrain: `constrain(tree, axis)` says how the environment axis is laid out over devices.
    """

    config: TeacherConfig
    editor: LevelEditor
    network: Student
    constrain: Constraint = unconstrained

    def init(self, key: Array) -> TeacherState:
        """Return a teacher that has learned nothing."""
        edit_key, look_key, key = jax.random.split(key, 3)
        observation = self.editor.observe(look_key, self.editor.reset(edit_key))
        sequence = jax.tree.map(lambda x: x[None, None], observation)
        params = self.network.init(key, self.network.initial_carry(1), sequence, jnp.ones((1, 1), bool))
        opt_state = make_optimizer(self.config.ppo).init(params)
        return TeacherState(params=params, opt_state=opt_state)

    def build(self, params: Any, key: Array, n: int) -> tuple[Any, Construction]:
        """Build `n` levels (leading axis n), and record how."""
        reset_key, key = jax.random.split(key)

        def body(loop: tuple[Any, Any, Array], key: Array) -> tuple[tuple[Any, Any, Array], Construction]:
            state, carry, resets = loop
            look_key, action_key, step_key = jax.random.split(key, 3)
            observation = jax.vmap(self.editor.observe)(jax.random.split(look_key, n), state)
            carry, output = self.network.apply(params, carry, observation, resets, method="step")
            actions = jax.random.categorical(action_key, output.logits)
            state = jax.vmap(self.editor.step)(jax.random.split(step_key, n), state, actions)
            record = Construction(
                observations=observation,
                actions=actions,
                log_probs=log_prob(output.logits, actions),
                values=output.value,
            )
            return (state, carry, jnp.zeros(n, bool)), record

        state = self.constrain(jax.vmap(self.editor.reset)(jax.random.split(reset_key, n)), 0)
        loop = (state, self.constrain(self.network.initial_carry(n), 0), jnp.ones(n, bool))
        (state, _, _), record = jax.lax.scan(body, loop, jax.random.split(key, self.editor.num_steps))
        return jax.vmap(self.editor.level)(state), self.constrain(record, 1)

    def learn(
        self, state: TeacherState, record: Construction, rewards: Array, key: Array, lr: Array | float
    ) -> tuple[TeacherState, dict[str, Array]]:
        """Update the teacher: each level's reward, f32 `[B]`, comes with its last step."""
        steps, n = record.actions.shape
        last = (jnp.arange(steps) == steps - 1)[:, None]
        ends = jnp.broadcast_to(last, (steps, n))
        advantages, targets = generalized_advantages(
            jnp.where(last, rewards, 0.0),
            record.values,
            jnp.zeros(n),
            terminated=ends,
            truncated=jnp.zeros_like(ends),
            gamma=self.config.ppo.gamma,
            gae_lambda=self.config.ppo.gae_lambda,
        )
        batch = Batch(
            initial_carry=self.network.initial_carry(n),
            observations=record.observations,
            resets=jnp.broadcast_to((jnp.arange(steps) == 0)[:, None], (steps, n)),
            actions=record.actions,
            log_probs=record.log_probs,
            values=record.values,
            advantages=advantages,
            targets=targets,
        )
        params, opt_state, metrics = ppo_update(
            self.config.ppo,
            self.network,
            state.params,
            state.opt_state,
            batch,
            key,
            lr=lr,
            constrain=self.constrain,
        )
        return TeacherState(params=params, opt_state=opt_state), metrics
