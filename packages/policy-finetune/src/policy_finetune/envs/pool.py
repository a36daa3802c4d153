"""Gymnasium environments for agents that run in lock-step, with exact resume and without pickled simulators.

Inside the library every action is *canonical*: a vector in [-1, 1]. `EnvSpec` maps it affinely to the environment's own
bounds and back.

A simulator cannot be saved in general. It can be rebuilt: each episode starts from a seed that is a function of the
agent's seed and the episode's number, and `EnvState` records the canonical actions of the current episode. Resetting
with that seed and replaying those actions gives the same simulator, bit for bit, wherever the environment is
deterministic, which is checked against the recorded observation.

Axes: A agents (one environment each), T the time limit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from paperloop.errors import CheckpointError, NonFiniteError, UserError
from paperloop.seeds import check_seed, fold_seed
from policy_finetune.envs.simulators import reset_env, step_env
from policy_finetune.envs.spec import EnvSpec, as_vector

__all__ = ["EnvPool", "EnvState", "Finished", "Step", "episode_seed"]


@dataclass
class EnvState:
    """Where A environments stand: enough to rebuild them exactly. Plain NumPy; `EnvPool.step` changes it in place.

    Attributes:
        episode: (A,) int32, the number of the current episode of each agent, from 0.
        step: (A,) int32, the steps done in it.
        actions: (A, T, act_dim) float32, the canonical actions of the current episode; rows from `step` on are unused.
        observation: (A, obs_dim) float32, what the next action is chosen from.
        episode_return: (A,) float64, the sum of rewards of the current episode so far.
    """

    episode: np.ndarray
    step: np.ndarray
    actions: np.ndarray
    observation: np.ndarray
    episode_return: np.ndarray

    def copy(self) -> EnvState:
        """Return the same state in arrays of its own."""
        return EnvState(*(getattr(self, f.name).copy() for f in fields(self)))


class Finished(NamedTuple):
    """An episode that ended at this step: of which agent, its undiscounted return, its length in steps."""

    agent: int
    episode_return: float
    length: int


class Step(NamedTuple):
    """One transition of each of A agents.

    Attributes:
        observation: (A, obs_dim) float32, s.
        action: (A, act_dim) float32, the canonical action that was executed: clipped to [-1, 1].
        reward: (A,) float32.
        next_observation: (A, obs_dim) float32, s': at the end of an episode its final observation, never the first one
            of the next.
        terminated: (A,) booleans, the environment's own end: a value target must not bootstrap from s'.
        truncated: (A,) booleans, an end from outside such as the time limit: it must, unless `terminated` also holds.
        finished: the episodes that ended.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_observation: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    finished: list[Finished]


def episode_seed(seed: int, episode: int) -> int:
    """Return the seed that episode number `episode` of the agent with `seed` is reset with."""
    return fold_seed(seed, "episode", int(episode))


class EnvPool:
    """One gymnasium environment for each of A agents, stepped together and reset within the step that ends an episode.

        pool = EnvPool(EnvSpec.of("Hopper-v5"), seeds=[0, 1, 2])
        state = pool.reset()
        step = pool.step(state, actions)  # state is now one step further

    The pool holds simulators and nothing else: what a run must save is `EnvState`. A state that the pool is not in step
    with, such as one from a checkpoint, is taken up by rebuilding the simulators that differ, which replays at most one
    episode each.

    Args:
        spec: the environment.
        seeds: one for each agent.
    """

    def __init__(self, spec: EnvSpec, seeds: Sequence[int]) -> None:
        if not len(seeds):
            raise UserError("An EnvPool needs at least one seed: one for each agent.")
        self.spec = spec
        self.seeds = tuple(check_seed(seed) for seed in seeds)
        self._envs = [spec.make() for _ in self.seeds]
        agents = len(self.seeds)
        # Where the simulators stand: the same arrays as in the state, but the pool's own. step = -1 is "nowhere".
        self._last: EnvState | None = None
        self._episode = np.zeros(agents, np.int32)
        self._step = np.full(agents, -1, np.int32)
        self._actions = np.zeros((agents, spec.max_episode_steps, spec.act_dim), np.float32)
        self._observation = np.zeros((agents, spec.obs_dim), np.float32)

    @property
    def num_agents(self) -> int:
        """A."""
        return len(self.seeds)

    def reset(self) -> EnvState:
        """Return the state at the start of every agent's episode 0."""
        agents = self.num_agents
        self._last = None
        self._step[:] = -1
        observation = np.stack([self._reset_env(agent, 0) for agent in range(agents)])
        self._episode[:] = 0
        self._step[:] = 0
        self._observation = observation.copy()
        self._last = EnvState(
            np.zeros(agents, np.int32),
            np.zeros(agents, np.int32),
            np.zeros_like(self._actions),
            observation,
            np.zeros(agents, np.float64),
        )
        return self._last

    def step(self, state: EnvState, actions: Any) -> Step:
        """Do one step of every agent and bring `state` up to date.

        If an environment raises, `state` is untouched and stays good for a checkpoint.

        Args:
            state: where the agents stand; changed in place.
            actions: (A, act_dim) canonical actions; what lies outside [-1, 1] is clipped.

        Raises:
            UserError: actions of another shape.
            NonFiniteError: an action, an observation or a reward is NaN or infinite.
            CheckpointError: the state is of another pool, or does not come out when it is rebuilt.
        """
        actions = np.asarray(actions, np.float32)
        if actions.shape != (self.num_agents, self.spec.act_dim):
            raise UserError(
                f"{self.spec.env_id}: actions are of shape {actions.shape}; give "
                f"{(self.num_agents, self.spec.act_dim)}, one row for each agent."
            )
        self._take_up(state)
        executed = np.minimum(np.maximum(actions, np.float32(-1)), np.float32(1))
        commands = self.spec.to_env(executed)
        agents = self.num_agents
        following = np.empty_like(state.observation)
        reward = np.empty(agents, np.float64)
        terminated, truncated = np.empty(agents, bool), np.empty(agents, bool)

        self._last = None  # the simulators run ahead of every state until the end of this function
        before, self._step = self._step, np.full(agents, -1, np.int32)
        for agent, env in enumerate(self._envs):
            try:
                seen, reward[agent], terminated[agent], truncated[agent] = step_env(env, commands[agent])
                following[agent] = as_vector(seen, self.spec)
            except UserError as error:
                raise UserError(f"{str(error).rstrip('.')} (in {self._place(agent, state)}).") from error.__cause__
        self._refuse_nonfinite(state, executed, following, reward)
        observation = following
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            observation = following.copy()
            for agent in ended:
                observation[agent] = self._reset_env(agent, int(state.episode[agent]) + 1)

        rows = np.arange(agents)
        state.actions[rows, before] = executed
        self._actions[rows, before] = executed
        total, length = state.episode_return + reward, before + 1
        finished = [Finished(int(i), float(total[i]), int(length[i])) for i in ended]
        step = Step(state.observation, executed, reward.astype(np.float32), following, terminated, truncated, finished)
        total[ended], length[ended] = 0.0, 0
        self._episode[ended] += 1
        self._step = length
        state.episode, state.step = self._episode.copy(), length.copy()
        state.observation, state.episode_return = observation, total
        self._observation = observation.copy()
        self._last = state
        return step

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            with contextlib.suppress(Exception):  # one that crashed may refuse, and there is nothing left to do with it
                env.close()

    def __enter__(self) -> EnvPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reset_env(self, agent: int, episode: int) -> np.ndarray:
        seen = reset_env(self._envs[agent], episode_seed(self.seeds[agent], episode))
        observation = as_vector(seen, self.spec)
        if not np.isfinite(observation).all():
            raise NonFiniteError(
                f"{self.spec.env_id}: the first observation of agent {agent} in episode {episode} holds NaN or "
                "infinity; fix the environment."
            )
        return observation

    def _take_up(self, state: EnvState) -> None:
        """Bring the simulators to where `state` is, if they are not there."""
        if state is self._last and np.array_equal(state.step, self._step):
            return
        self._check_shapes(state)
        for agent in range(self.num_agents):
            episode, steps = int(state.episode[agent]), int(state.step[agent])
            recorded = state.actions[agent, :steps]
            if (
                self._episode[agent] == episode
                and self._step[agent] == steps
                and np.array_equal(self._actions[agent, :steps], recorded)
                and np.array_equal(self._observation[agent], state.observation[agent])
            ):
                continue
            self._step[agent] = -1
            observation = self._reset_env(agent, episode)
            for row, command in enumerate(self.spec.to_env(recorded)):
                observation, _, terminated, truncated = step_env(self._envs[agent], command)
                if terminated or truncated:
                    raise self._not_reproducible(agent, state, f"ended after {row + 1} steps")
            if not np.array_equal(np.asarray(observation, np.float32), state.observation[agent]):
                raise self._not_reproducible(agent, state, "gave another observation")
            self._actions[agent, :steps] = recorded
            self._observation[agent] = state.observation[agent]
            self._episode[agent], self._step[agent] = episode, steps
        self._last = state

    def _check_shapes(self, state: EnvState) -> None:
        agents, spec = self.num_agents, self.spec
        shapes = {
            "episode": ((agents,), np.int32),
            "step": ((agents,), np.int32),
            "actions": ((agents, spec.max_episode_steps, spec.act_dim), np.float32),
            "observation": ((agents, spec.obs_dim), np.float32),
            "episode_return": ((agents,), np.float64),
        }
        for name, (shape, dtype) in shapes.items():
            value = np.asarray(getattr(state, name))
            if value.shape != shape:
                raise CheckpointError(
                    f"{spec.env_id}: {name} of the environments' state is of shape {value.shape}, not {shape}; give a "
                    "state of the same environment and number of agents."
                )
            if name == "actions" and not value.flags.writeable:
                value = value.copy()
            setattr(state, name, value.astype(dtype, copy=False))
        if (state.step < 0).any() or (state.step >= spec.max_episode_steps).any() or (state.episode < 0).any():
            raise CheckpointError(
                f"{spec.env_id}: the environments' state counts {state.step.tolist()} steps in episodes "
                f"{state.episode.tolist()}, but steps run from 0 to {spec.max_episode_steps - 1}; the state is damaged."
            )

    def _not_reproducible(self, agent: int, state: EnvState, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self._place(agent, state)}: replaying the recorded actions {what}, so the state is of other seeds or "
            "another version, or the environment is not deterministic and cannot be resumed exactly."
        )

    def _refuse_nonfinite(
        self, state: EnvState, executed: np.ndarray, following: np.ndarray, reward: np.ndarray
    ) -> None:
        # A sum is finite only if every term is, and overflow of finite float32 terms is looked at again below.
        if np.isfinite(executed.sum() + following.sum() + reward.sum()):
            return
        for name, values in (("the action", executed), ("the observation", following), ("the reward", reward)):
            wrong = ~np.isfinite(values).reshape(self.num_agents, -1).all(axis=1)
            if wrong.any():
                agent = int(wrong.argmax())
                cause = "the policy has diverged" if name == "the action" else "the environment is broken or unstable"
                raise NonFiniteError(f"{self._place(agent, state)}: {name} is NaN or infinite; {cause}.")

    def _place(self, agent: int, state: EnvState) -> str:
        return f"{self.spec.env_id}, agent {agent}, episode {int(state.episode[agent])}, step {int(state.step[agent])}"
