"""Many agents on envpool's threaded simulators: faster from about eight agents on, and without exact resume.

    pool = FastEnvPool(EnvSpec.of("Hopper-v5"), seeds=range(32))

The steps are those of `policy_finetune.envs.pool.EnvPool`. Two things differ, because envpool draws every start from
one stream for each environment, inside the simulator, and cannot be told where in it to begin:

- The starts of episodes are others than gymnasium's for the same seed (of the same distribution).
- A state from a checkpoint cannot be taken up. After restoring one, call `restart`, which begins new episodes; the
  run is then a valid continuation, but not the one that an uninterrupted run would have been.

Needs the extra `envpool` (Linux).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from paperloop.errors import CheckpointError, NonFiniteError, UserError
from paperloop.seeds import check_seed, fold_seed
from policy_finetune.envs.pool import EnvState, Finished, Step
from policy_finetune.envs.spec import EnvSpec

__all__ = ["FastEnvPool"]


class FastEnvPool:
    """One envpool environment for each of A agents; see the module for what it cannot do.

    Args:
        spec: the environment, which envpool must have under the same id.
        seeds: one for each agent.
        threads: simulator threads; 0 leaves it to envpool.

    Raises:
        UserError: envpool is not installed, or has no such environment, or another one under that id.
    """

    #: See `EnvPool.exact_resume`.
    exact_resume = False

    def __init__(self, spec: EnvSpec, seeds: Sequence[int], *, threads: int = 0) -> None:
        if not len(seeds):
            raise UserError("A FastEnvPool needs at least one seed: one for each agent.")
        try:
            import envpool
        except ImportError:
            raise UserError("FastEnvPool needs envpool; run: pip install 'policy-finetune[envpool]'.") from None
        if spec.kwargs or spec.observation_keys:
            raise UserError(
                f"{spec.env_id} is made with arguments of its own ({spec.arguments}), which envpool cannot be given; "
                "use EnvPool, which takes every gymnasium environment."
            )
        if spec.env_id not in envpool.list_all_envs():
            raise UserError(f"envpool has no {spec.env_id!r}; use EnvPool, which takes every gymnasium environment.")
        self.spec = spec
        self.seeds = tuple(check_seed(seed) for seed in seeds)
        self._env: Any = envpool.make(
            spec.env_id,
            env_type="gymnasium",
            num_envs=len(self.seeds),
            seed=[fold_seed(seed, "envpool") >> 1 for seed in self.seeds],  # signed 32 bits
            num_threads=threads,
            max_episode_steps=spec.max_episode_steps,
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*precision lowered by casting")  # of the spaces' bounds
            observations, actions = self._env.observation_space, self._env.action_space
        self._dtype = actions.dtype
        shapes = observations.shape, actions.shape
        if shapes != ((spec.obs_dim,), (spec.act_dim,)):
            raise UserError(
                f"envpool's {spec.env_id} has observations and actions of shape {shapes[0]} and {shapes[1]}, "
                f"gymnasium's of {(spec.obs_dim,)} and {(spec.act_dim,)}; use EnvPool."
            )
        self._last: EnvState | None = None

    @property
    def num_agents(self) -> int:
        """A."""
        return len(self.seeds)

    def reset(self) -> EnvState:
        """Return the state at the start of a new episode of every agent. A second call gives other starts."""
        agents = self.num_agents
        self._last = EnvState(
            np.zeros(agents, np.int32),
            np.zeros(agents, np.int32),
            np.zeros((agents, 0, self.spec.act_dim), np.float32),  # nothing is replayed
            self._first(np.arange(agents)),
            np.zeros(agents, np.float64),
        )
        return self._last

    def restart(self, state: EnvState) -> EnvState:
        """Return a state that continues from `state` in a new episode of every agent; the current ones are given up."""
        fresh = self.reset()
        fresh.episode[:] = np.asarray(state.episode) + 1
        return fresh

    def step(self, state: EnvState, actions: Any) -> Step:
        """Do one step of every agent and bring `state` up to date; see `EnvPool.step`.

        Raises:
            UserError: actions of another shape.
            NonFiniteError: an action, an observation or a reward is NaN or infinite.
            CheckpointError: `state` is not the one that this pool has just returned or stepped.
        """
        agents, spec = self.num_agents, self.spec
        actions = np.asarray(actions, np.float32)
        if actions.shape != (agents, spec.act_dim):
            raise UserError(
                f"{spec.env_id}: actions are of shape {actions.shape}; give {(agents, spec.act_dim)}, one row for each "
                "agent."
            )
        if state is not self._last:
            raise CheckpointError(
                f"{spec.env_id}: envpool cannot be brought to a state from elsewhere; call restart(state), which "
                "begins new episodes, or use EnvPool, which resumes exactly."
            )
        if not np.isfinite(actions).all():
            agent = int((~np.isfinite(actions)).any(axis=1).argmax())
            raise NonFiniteError(f"{spec.env_id}, agent {agent}: the action is NaN or infinite; the policy diverged.")
        executed = np.minimum(np.maximum(actions, np.float32(-1)), np.float32(1))
        self._last = None  # until this step is done
        commands = spec.to_env(executed).astype(self._dtype)
        seen, reward, terminated, truncated, _ = self._env.step(commands)
        following, reward = np.array(seen, np.float32), np.asarray(reward, np.float64)
        terminated, truncated = np.array(terminated, bool), np.array(truncated, bool)
        if not (np.isfinite(following).all() and np.isfinite(reward).all()):
            raise NonFiniteError(f"{spec.env_id}: an observation or a reward is NaN or infinite.")
        ended = np.flatnonzero(terminated | truncated)
        observation = following
        if ended.size:  # now, and not in the next step as envpool would by itself
            observation = following.copy()
            observation[ended] = self._first(ended)
        total, length = state.episode_return + reward, state.step + 1
        finished = [Finished(int(i), float(total[i]), int(length[i])) for i in ended]
        step = Step(state.observation, executed, reward.astype(np.float32), following, terminated, truncated, finished)
        total[ended], length[ended] = 0.0, 0
        episode = state.episode.copy()
        episode[ended] += 1
        state.episode, state.step, state.observation, state.episode_return = episode, length, observation, total
        self._last = state
        return step

    def close(self) -> None:
        """Close the environments."""
        self._env.close()

    def __enter__(self) -> FastEnvPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first(self, agents: np.ndarray) -> np.ndarray:
        """Reset some agents; their first observations in the order of `agents`."""
        seen, info = self._env.reset(agents.astype(np.int32))
        return np.array(seen, np.float32)[np.argsort(info["env_id"])]
