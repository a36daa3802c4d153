"""Learning in the environment, from a pre-trained agent or from nothing, as an `paperloop.Trainer`.

One step is one block: K environment steps of every agent on the host, then one dispatch that writes them into the
replay buffers on the device and does the block's updates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.errors import NonFiniteError, UserError
from paperloop.jax_backend import load_pytree
from paperloop.seeds import fold_seed
from paperloop_data import EpisodeDataset
from policy_finetune.agents.programs import AgentLayout, stack
from policy_finetune.config import SCHEMA, Best, DataOptions, OnlineAgent, OnlineConfig
from policy_finetune.data.saved_policies import write_policies
from policy_finetune.envs.acting import HostPolicy, Policy
from policy_finetune.envs.pool import EnvPool
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.learners.base import copy
from policy_finetune.learners.registry import make_learner
from policy_finetune.replay.buffers import Replay
from policy_finetune.replay.packing import Layout, OfflineData
from policy_finetune.replay.recorded import recorded_transitions
from policy_finetune.trainers.arms import online_labels
from policy_finetune.trainers.common import check_program, host_policy, reference_of, state_folder, with_nu0
from policy_finetune.trainers.explorers import Explorer, Seen
from policy_finetune.trainers.guard import Guard
from policy_finetune.trainers.online_state import DeviceState, OnlineState, read_host, read_place, write_state
from policy_finetune.trainers.pretrained import Pretrained
from policy_finetune.trainers.program import OnlineProgram
from policy_finetune.trainers.switch import switch_notes, take_over
from policy_finetune.trainers.units import Units, check_members, datasets_of, packed

__all__ = ["OnlineTrainer"]


class OnlineTrainer:
    """Agents that learn online, side by side in one compiled program.

        spec = EnvSpec.of("Hopper-v5")
        start = Pretrained.of(offline_trainer, offline_state)
        trainer = OnlineTrainer(OnlineConfig(learner=LEARNERS["td3c"]), spec, start=start, data=dataset)
        state = trainer.init(seed=0)
        for _ in range(trainer.num_steps):
            state, metrics = trainer.step(state)

    Metrics are (A,): means over the block's updates (0 before the first one; `learning` says), `return` and `length`,
    the means over the last ten finished training episodes (before the first one ends, what the current one has got so
    far), `episodes` finished, and `offline_share`, the share of offline data in the block's batches.

    Attributes:
        config: the run.
        members: the A agents: by pre-trained agent, then by seed, unless `config.agents` names them.
        agents: a label for each: agents with equal labels are repetitions of one arm.
        headlines: the metrics that matter first.
        spec: the environment.
        units: how observations and rewards are scaled.
        start_notes: what the switch does not take over from the pre-trained agents, one sentence each.
        num_steps: blocks that `config.env_steps` take.
        donates: True, `step` consumes the state it is given.
        resume_ignores: what may differ when a run is resumed.
    """

    donates = True
    schema = SCHEMA
    headlines: Sequence[str] = ("return", "loss")
    resume_ignores = ("env_steps", "devices", "eval_env_steps", "data")

    def __init__(
        self, config: OnlineConfig, spec: EnvSpec, *, start: Pretrained | None = None,
        data: OfflineData | EpisodeDataset | Sequence[EpisodeDataset] | None = None, random_return: float = 0.0,
        together: int | None = None,
    ) -> None:  # fmt: skip
        """Bind configuration, environment, pre-trained agents and offline data.

        Args:
            config: the run.
            spec: the environment; each agent has one of its own.
            start: the pre-trained agents; None learns from scratch. Rewards are scaled as for them first, then as
                `config` says.
            data: offline data for the replay, with canonical actions. Packed data must have been standardised and
                scaled as the pre-trained agents'; from scratch, online data is treated as the packed data was.
            random_return: what a random policy gets: the collapse detector's scale is the start's distance to it.
            together: see `AgentLayout`.

        Raises:
            UserError: agents differ in more than one program can hold; a replay policy needs offline data and there is
                none; dimensions do not fit; a pre-trained network has another shape than the online learner's.
        """
        self.config, self.spec, self._start = config, spec, start
        self.members = config.agents or tuple(
            OnlineAgent(learner=config.learner, replay=config.replay, switch=config.switch, start=p, seed=i)
            for p in range(start.num_agents if start else 1)
            for i in range(config.seeds)
        )
        self.num_steps = config.num_steps
        self.agents = online_labels(self.members, start)
        check_members(self.members, start, spec)
        datasets = datasets_of(self.members, start)
        units = Units.of(config, self.members, start, spec.obs_dim)
        data, self.units = packed(data, datasets, units, config, start, spec)
        learners = [agent.learner for agent in self.members]
        check_program(learners, data)
        self.learner = make_learner(learners[0], spec.obs_dim, spec.act_dim, *learners[1:])
        self.layout = Layout(spec.obs_dim, spec.act_dim)
        self.replay = Replay(config, self.members, self.layout, data, datasets)
        best = [isinstance(reference_of(agent.learner), Best) for agent in self.members]
        self._guard = Guard(config.guard, best, random_return)
        self._layout = AgentLayout(len(self.members), config.devices, together)
        self._program = OnlineProgram(
            config, self.members, self.learner, self.replay, self._layout, nu_boost=self._guard.config.nu_boost
        )
        self._init_learner = jax.jit(self.learner.init)
        self._pool: EnvPool | None = None
        self._explorer = Explorer(config, self.layout, self.units)
        self.start_notes = self._switch_notes()

    def _switch_notes(self) -> list[str]:
        """Compare the shapes of the pre-trained networks with those of the online learner."""
        if self._start is None:
            return []
        fresh = jax.eval_shape(self._init_learner, jax.random.key(0))
        old = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self._start.learner)
        notes = [note for agent in self.members for note in switch_notes(fresh, old, agent.switch)]
        return list(dict.fromkeys(notes))

    # The protocol

    def init(self, seed: int) -> OnlineState:
        """Return the state before the first environment step.

        Agents with equal `start` and `seed` meet the same starts of episodes and the same exploration noise, whatever
        their arm, so that arms can be compared in pairs.
        """
        learners = []
        for agent in self.members:
            fresh = self._init_learner(jax.random.key(fold_seed(seed, "online", agent.start, agent.seed)))
            fresh = with_nu0(fresh, agent.learner)
            if self._start is not None:
                old = jax.tree.map(lambda x, p=agent.start: x[p], self._start.learner)
                fresh, _ = take_over(fresh, old, agent.switch)
            learners.append(fresh)
        learner = stack(learners)

        def keys(name: str) -> list[Array]:
            return [jax.random.key(fold_seed(seed, name, a.start, a.seed)) for a in self.members]

        device = DeviceState(
            learner=learner,
            replay=self.replay.init(keys("replay")),
            home=copy(learner.params["actor"]) if self._guard.needs_home else None,
            key=jnp.stack(keys("updates")),
        )
        env = self._pool_of(seed).reset()
        return OnlineState(self._layout.place(device), env, self._guard.init(len(self.members)), 0, seed)

    def _pool_of(self, seed: int) -> EnvPool:
        """Return the environments of a run with this seed: those at hand, or new ones."""
        seeds = [fold_seed(seed, "env", agent.start, agent.seed) for agent in self.members]
        if self._pool is None or self._pool.seeds != tuple(seeds):
            if self._pool is not None:
                self._pool.close()
            self._pool = EnvPool(self.spec, seeds)
        return self._pool

    def step(self, state: OnlineState) -> tuple[OnlineState, Mapping[str, Any]]:
        """Do one block: K environment steps of every agent, then their updates. Consumes `state`.

        Where an environment raises, its exception carries the state from before the block as `intact_state`.
        """
        block, seen = state.block, self._explore(state)
        learning = block * self.config.block >= self.config.first_update
        device, info = self._program.block(state.device, seen.rows, block, learning=learning)
        guard, orders = self._guard.watch(state.guard, seen.finished, learning, seen.uniform)
        if orders is not None:
            device = self._program.adjust(device, jax.tree.map(jnp.asarray, orders))
        state = OnlineState(device, state.env, guard, block + 1, state.seed)
        metrics = dict(info) | self._guard.metrics(guard, state.env)
        metrics["learning"] = np.full(len(self.members), float(learning), np.float32)
        return state, metrics

    def _explore(self, state: OnlineState) -> Seen:
        before = dataclasses.replace(state, env=state.env.copy())
        try:
            actor = state.device.learner.params["actor"]
            return self._explorer.collect(self._pool_of(state.seed), state.env, actor, state.block)
        except NonFiniteError:  # which the learner may have caused
            raise
        except Exception as error:
            error.intact_state = before  # ty: ignore[missing-attribute]  # see paperloop.Trainer.step
            raise

    # What others ask

    def progress(self, state: OnlineState) -> Mapping[str, int]:
        """Return environment steps and critic updates of each agent."""
        before = -(-self.config.first_update // self.config.block)  # blocks without updates
        updates = max(0, state.block - before) * self.config.rounds_per_block * self.config.structure.policy_delay
        return {"env_steps": state.block * self.config.block, "updates": updates}

    def policy(self, state: OnlineState) -> Policy:
        """Return the A deterministic policies in the environment's units, normaliser included."""
        return Policy(self.canonical_policy(state), self.spec)

    def canonical_policy(self, state: OnlineState) -> HostPolicy:
        """Return the A deterministic policies with actions in [-1, 1], normaliser included."""
        return host_policy(state.device.learner.params["actor"], self.units.mean, self.units.std)

    def pretrained(self, state: OnlineState) -> Pretrained:
        """Return the agents as a start for another phase; the state stays good."""
        datasets = tuple(datasets_of(self.members, self._start))
        loading = self.config.loading.over(self._start.loading if self._start else DataOptions())
        return Pretrained(copy(state.device.learner), *self.units[:2], datasets, self.agents, *self.units[2:], loading)

    def replay_data(self, state: OnlineState, agent: int = 0) -> dict[str, np.ndarray]:
        """Return an agent's online transitions, oldest first, in the environment's own units except for the actions.

        As `policy_finetune.data.make.from_replay` takes them: observations, canonical actions, rewards,
        next_observations, terminated, truncated. The last row is truncated where its episode continues.

        Once more transitions were made than the buffer holds, these are not the first of the run but the oldest that
        are left, the first of which may be from the middle of an episode.
        """
        units, done = self.units, state.block * self.config.block
        return recorded_transitions(
            np.asarray(state.device.replay.rows[agent]), done, self.layout, mean=units.mean[agent],
            std=units.std[agent], scale=units.scale[agent], bias=units.bias,
        )  # fmt: skip

    def save(self, state: OnlineState, folder: str | Path) -> None:
        """Write everything: learners, replay buffers, random keys, where the environments stand.

        The folder is made, with its parents, where it is absent. Its part `start` is what another phase needs.

        Raises:
            UserError: it cannot be made, or holds a state already.
        """
        folder = state_folder(folder)
        self.pretrained(state).save(folder / "start")
        write_state(state, folder, capacity=self.replay.capacity, offline_rows=self.replay.digest)
        write_policies(folder, self.canonical_policy(state), self.spec, self.agents)

    def restore(self, folder: str | Path, like: OnlineState) -> OnlineState:
        """Read back what `save` wrote; the result continues bit for bit, mid-episode.

        Raises:
            CheckpointError: it does not fit `like`, or the environment does not come out as it was.
            UserError: the pre-trained agents or the offline data are others.
        """
        folder = Path(folder)
        place = read_place(folder)
        saved = Pretrained.load(folder / "start", like.device.learner)
        empty = like.device.replay
        if place["capacity"] != self.replay.capacity:  # of a longer or shorter run
            empty = self._layout.place(self.replay.init([jax.random.key(0)] * len(self.members), place["capacity"]))
        device = load_pytree(folder, dataclasses.replace(like.device, learner=None, replay=empty))
        replay = self.replay.resize(device.replay, place["block"] * self.config.block)
        device = dataclasses.replace(device, learner=saved.learner, replay=self._layout.place(replay))
        if not (np.array_equal(saved.mean, self.units.mean) and np.array_equal(saved.std, self.units.std)):
            raise UserError(f"{folder} was written by a run that started from other pre-trained agents.")
        if place["offline_rows"] != self.replay.digest:
            raise UserError(f"{folder} was written by a run with other offline data: give it the same datasets.")
        env, guard = read_host(like, folder)
        self._pool_of(place["seed"])
        return OnlineState(device, env, guard, place["block"], place["seed"])
