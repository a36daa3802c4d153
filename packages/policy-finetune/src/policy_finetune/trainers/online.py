"""Learning in the environment, from a pre-trained agent or from nothing, as an `paperloop.Trainer`.

One step is one block: K environment steps of every agent on the host, then one dispatch that writes them into the
replay buffers on the device and does the block's updates.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.errors import NonFiniteError, UserError
from paperloop.files import write_json
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.seeds import fold_seed
from paperloop_data import EpisodeDataset
from policy_finetune.agents.programs import AgentLayout, stack, summary
from policy_finetune.agents.weights import stack_weights, weights_of
from policy_finetune.config import DataOptions, OnlineAgent, OnlineConfig
from policy_finetune.data.saved_policies import write_policies
from policy_finetune.envs.acting import HostPolicy, Policy
from policy_finetune.envs.pool import EnvPool
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.learners.base import q_over_bound
from policy_finetune.learners.registry import LearnerState, make_learner
from policy_finetune.replay.buffers import Replay, ReplayState
from policy_finetune.replay.packing import Layout, OfflineData
from policy_finetune.replay.recorded import recorded_transitions
from policy_finetune.trainers.arms import online_labels
from policy_finetune.trainers.explorers import Explorer
from policy_finetune.trainers.guard import Guard, carried_out
from policy_finetune.trainers.offline import check_discount, check_one_structure, host_policy, state_folder
from policy_finetune.trainers.online_checks import check_data, check_members, check_units
from policy_finetune.trainers.online_state import DeviceState, OnlineState, filled
from policy_finetune.trainers.switch import Pretrained, switch_notes, take_over

if TYPE_CHECKING:
    from policy_finetune.envs.fast_pool import FastEnvPool

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
        start_notes: what the switch does not take over from the pre-trained agents, one sentence each.
        num_steps: blocks that `config.env_steps` take.
        donates: True, `step` consumes the state it is given.
        resume_ignores: what may differ when a run is resumed.
    """

    donates = True
    headlines: Sequence[str] = ("return", "loss")
    resume_ignores = ("env_steps", "devices", "eval_env_steps", "data")

    def __init__(
        self,
        config: OnlineConfig,
        spec: EnvSpec,
        *,
        start: Pretrained | None = None,
        data: OfflineData | EpisodeDataset | Sequence[EpisodeDataset] | None = None,
        random_return: float = 0.0,
        together: int | None = None,
    ) -> None:
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
        self.config, self.spec = config, spec
        layout = self.layout = Layout(spec.obs_dim, spec.act_dim)
        self.members = config.agents or tuple(
            OnlineAgent(learner=config.learner, replay=config.replay, switch=config.switch, start=p, seed=i)
            for p in range(start.num_agents if start else 1)
            for i in range(config.seeds)
        )
        self.num_steps = config.num_steps
        self.agents = online_labels(self.members, start)
        self._start = start
        self._loading = config.loading.over(start.loading if start else DataOptions())
        check_members(self.members, start, spec)
        starts = [agent.start for agent in self.members]
        datasets = [start.dataset[p] if start else 0 for p in starts]
        self._scale, self._bias = np.full(len(self.members), config.reward_scale), config.reward_bias
        self.mean = np.zeros((len(self.members), spec.obs_dim), np.float32)
        self.std = np.ones((len(self.members), spec.obs_dim), np.float32)
        if start is not None:
            self.mean, self.std = start.mean[starts], start.std[starts]
            self._scale = start.scale[starts] * config.reward_scale
            self._bias = start.bias * config.reward_scale + config.reward_bias
        data = self._packed(data, datasets)
        if data is not None:
            check_data(data, datasets, layout, spec)
            if start is None:  # online data is treated as the packed data was
                self.mean, self.std = data.mean[datasets], data.std[datasets]
                self._scale, self._bias = data.scale[datasets], data.bias
            else:
                check_units(data, datasets, mean=self.mean, std=self.std, scale=self._scale, bias=self._bias)
        learners = [agent.learner for agent in self.members]
        check_one_structure(learners)
        check_discount(learners, data)
        self.learner = make_learner(learners[0], spec.obs_dim, spec.act_dim, *learners[1:])
        self.replay = Replay(config, self.members, layout, data, datasets)
        self._guard = Guard(
            config.guard,
            [agent.learner.constraint.reference == "best" for agent in self.members],
            random_return,
        )
        self._layout = AgentLayout(len(self.members), config.devices, together)
        self._shared = self._layout.share(self.replay.offline_rows)
        weights = [weights_of(a.learner, a.replay, a.switch, act_dim=spec.act_dim) for a in self.members]
        self._own = self._layout.place({"weights": stack_weights(weights), **self.replay.own})
        self._init_learner = jax.jit(self.learner.init)
        # (device state, offline rows, rows of the block, data of the agents); all consume the device state.
        self._collect = self._compile(self._collect_all)
        self._update = self._compile(self._update_all)
        self._adjust = jax.jit(self._adjust_all, donate_argnums=0)
        self._pool: EnvPool | FastEnvPool | None = None
        self._ahead: tuple[DeviceState, Any] | None = None
        self._explorer = Explorer(config, spec)
        self.start_notes = self._switch_notes()
        self._zero_info: dict[str, Any] = {}

    def _switch_notes(self) -> list[str]:
        """Compare the shapes of the pre-trained networks with those of the online learner."""
        if self._start is None:
            return []
        fresh = jax.eval_shape(self._init_learner, jax.random.key(0))
        old = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), self._start.learner)
        notes = [note for agent in self.members for note in switch_notes(fresh, old, agent.switch)]
        return list(dict.fromkeys(notes))

    def _compile(self, function: Any) -> Any:
        call = self._layout.per_device(function)
        return jax.jit(lambda device, shared, *own: call(shared, (device, *own)), donate_argnums=0)

    def _packed(
        self, data: OfflineData | EpisodeDataset | Sequence[EpisodeDataset] | None, used: Sequence[int]
    ) -> OfflineData | None:
        """Return the offline data packed, with the pre-trained agents' normaliser and scale."""
        if data is None or isinstance(data, OfflineData):
            return data
        datasets = [data] if isinstance(data, EpisodeDataset) else list(data)
        mean = std = scales = None
        if self._start is not None:
            if len(datasets) <= max(used):
                raise UserError(
                    f"The pre-trained agents learned from {max(used) + 1} datasets and {len(datasets)} are given: give "
                    "the same ones in the same order."
                )
            first = [used.index(d) if d in used else 0 for d in range(len(datasets))]
            mean, std, scales = self.mean[first], self.std[first], self._scale[first]
        return OfflineData.pack(
            datasets,
            discount=self.config.structure.discount,
            normalize_observations=False,
            reward_scale=self.config.reward_scale,
            reward_bias=self._bias,
            mean=mean,
            std=std,
            scales=scales,
            semantics=self._loading.semantics or "exact",
        )

    # The protocol

    def init(self, seed: int) -> OnlineState:
        """Return the state before the first environment step.

        Agents with equal `start` and `seed` meet the same starts of episodes and the same exploration noise, whatever
        their arm, so that arms can be compared in pairs.
        """
        learners = []
        for agent in self.members:
            fresh = self._init_learner(jax.random.key(fold_seed(seed, "online", agent.start, agent.seed)))
            if "nu" in fresh.params:
                nu = jnp.full_like(fresh.params["nu"], agent.learner.constraint.nu0)
                fresh = fresh.replace(params=fresh.params | {"nu": nu})
            if self._start is not None:
                old = jax.tree.map(lambda x, p=agent.start: x[p], self._start.learner)
                fresh, _ = take_over(fresh, old, agent.switch)
            learners.append(fresh)
        learner = stack(learners)
        keys = [jax.random.key(fold_seed(seed, "updates", a.start, a.seed)) for a in self.members]
        actor = learner.params["actor"]
        device = DeviceState(
            learner=learner,
            replay=self.replay.init([jax.random.key(fold_seed(seed, "replay", a.start, a.seed)) for a in self.members]),
            behaviour=jax.tree.map(jnp.copy, actor) if self.config.overlap else None,
            home=jax.tree.map(jnp.copy, actor) if self._guard.needs_home else None,
            key=jnp.stack(keys),
        )
        env = self._pool_of(seed).reset()
        return OnlineState(self._layout.place(device), env, self._guard.init(len(self.members)), 0, seed)

    def _env_seeds(self, seed: int) -> list[int]:
        return [fold_seed(seed, "env", agent.start, agent.seed) for agent in self.members]

    def _pool_of(self, seed: int) -> EnvPool | FastEnvPool:
        """Return the environments of a run with this seed: those at hand, or new ones."""
        seeds = self._env_seeds(seed)
        if self._pool is None or self._pool.seeds != tuple(seeds):
            if self._pool is not None:
                self._pool.close()
            if self.config.envs == "envpool":
                from policy_finetune.envs.fast_pool import FastEnvPool

                self._pool = FastEnvPool(self.spec, seeds)
            else:
                self._pool = EnvPool(self.spec, seeds)
        return self._pool

    def step(self, state: OnlineState) -> tuple[OnlineState, Mapping[str, Any]]:
        """Do one block: K environment steps of every agent, then their updates. Consumes `state`.

        Where an environment raises, its exception carries the state from before the block as `intact_state`.
        """
        block, device = state.block, state.device
        before = dataclasses.replace(state, env=state.env.copy())
        try:
            rows, finished, uniform = self._explore(state)
        except NonFiniteError:  # which the learner may have caused
            raise
        except Exception as error:
            error.intact_state = before  # ty: ignore[missing-attribute]  # see paperloop.Trainer.step
            raise
        learning = self._learns(block)
        own = {**self._own, "block": np.full(len(self.members), self.replay.number(block))}
        ahead = None
        if learning:
            if self.config.overlap:  # before these updates are under way: fetching what they return waits for them
                ahead = jax.tree.map(np.array, device.learner.params["actor"])
            device, info = self._update(device, self._shared, rows, own)
        else:
            info = self._no_info(device, rows, own)
            device = self._collect(device, self._shared, rows, own)
        self._ahead = None if ahead is None else (device, ahead)
        guard, orders = self._guard.watch(state.guard, finished, learning, uniform)
        if orders is not None:
            device = self._adjust(device, jax.tree.map(jnp.asarray, orders))
        state = OnlineState(device, state.env, guard, block + 1, state.seed)
        metrics = dict(info) | self._guard.metrics(guard, state.env)
        metrics["learning"] = np.full(len(self.members), float(learning), np.float32)
        return state, metrics

    def _learns(self, block: int) -> bool:
        """Whether the block with this number is followed by updates."""
        return block * self.config.block >= self.config.first_update

    def _explore(self, state: OnlineState) -> tuple[Array, list[Any], list[bool]]:
        """Do K environment steps of every agent.

        Returns:
            the packed rows [A, K, width], the finished episodes, and for each whether it began with uniform actions.
        """
        pool = self._pool_of(state.seed)
        rows = np.empty((len(self.members), self.config.block, self.layout.width), np.float32)
        rows[:, :, -1] = -np.inf  # returns to go are not known yet
        parts = self.layout.split(rows)
        act = self._explorer.block(self._acting(state), self.mean, self.std, pool.seeds, state.block)
        finished: list[Any] = []
        uniform: list[bool] = []
        for k in range(self.config.block):
            step = pool.step(state.env, act(state.env.observation, k))
            parts.obs[:, k] = step.observation
            parts.action[:, k] = step.action  # what was executed, clipped
            parts.next_obs[:, k] = step.next_observation
            parts.reward[:, k] = step.reward
            parts.mask[:, k] = ~step.terminated
            finished += step.finished
            now = state.block * self.config.block + k + 1
            uniform += [now - episode.length < self.config.random_steps for episode in step.finished]
        mean, std = self.mean[:, None], self.std[:, None]
        parts.obs[:] = (parts.obs - mean) / std
        parts.next_obs[:] = (parts.next_obs - mean) / std
        parts.reward[:] = parts.reward * self._scale[:, None] + self._bias
        return jnp.asarray(rows), finished, uniform

    def _acting(self, state: OnlineState) -> Any:
        """Return the actors that collect the next block."""
        if not self.config.overlap:
            return state.device.learner.params["actor"]
        if self._ahead is not None and self._ahead[0] is state.device:
            return self._ahead[1]
        return state.device.behaviour

    def _no_info(self, device: DeviceState, rows: Array, own: Any) -> dict[str, Any]:
        """Zeros in the shape of the updates' metrics."""
        if not self._zero_info:
            shapes = jax.eval_shape(self._update, device, self._shared, rows, own)[1]
            self._zero_info = {name: np.zeros(value.shape, np.float32) for name, value in shapes.items()}
        return self._zero_info

    # On the device, for all agents that it holds

    def _collect_all(self, shared: Array, own: Any) -> DeviceState:
        device, rows, data = own
        block = data["block"][0]
        rings = self.replay.insert(device.replay.rows, rows, block)
        balanced = device.replay.balanced
        if balanced is not None:
            balanced = jax.vmap(lambda state: self.replay.enter(state, block))(balanced)
        return dataclasses.replace(device, replay=ReplayState(rings, balanced))

    def _update_all(self, shared: Array, own: Any) -> tuple[DeviceState, dict[str, Array]]:
        device, rows, data = own
        # The rings stay outside of what is mapped over agents: each agent only reads its own by index.
        rings = self.replay.insert(device.replay.rows, rows, data["block"][0])
        behaviour = jax.tree.map(jnp.copy, device.learner.params["actor"]) if self.config.overlap else None

        def one(x: Any) -> Any:
            index, *rest = x
            return self._update_one(shared, lambda at: rings[index, at], *rest)

        agents = jnp.arange(len(rows))
        learner, balanced, key, info = self._layout.each(
            one, (agents, device.learner, device.replay.balanced, device.key, data)
        )
        return DeviceState(learner, ReplayState(rings, balanced), behaviour, device.home, key), info

    def _update_one(
        self, shared: Array, online: Any, learner: LearnerState, balanced: Any, key: Array, data: Any
    ) -> Any:
        """Do one agent's updates of a block; return its learner, what its replay learned, its key and the metrics."""
        weights, config = data["weights"], self.learner.config
        balanced = self.replay.prepare(self.replay.enter(balanced, data["block"]), data)
        shape = (config.policy_delay, config.batch_size)

        def body(carry: Any, _: None) -> tuple[Any, dict[str, Array]]:
            learner, balanced, key = carry
            key, draw_key, round_key = jax.random.split(key, 3)
            rows, balanced, share = self.replay.sample(balanced, online, shared, draw_key, shape, data, learner.updates)
            batches = self.layout.split(rows)
            learner, info = self.learner.round(learner, batches, round_key, weights)
            info |= q_over_bound(info, batches.reward, weights["discount"])
            return (learner, balanced, key), info | {"offline_share": share}

        carry = (learner, balanced, key)
        (learner, balanced, key), infos = jax.lax.scan(body, carry, length=self.config.rounds_per_block)
        return learner, balanced, key, summary(infos, learner.params)

    def _adjust_all(self, device: DeviceState, orders: Any) -> DeviceState:
        """Carry out what the guard ordered: remember this actor, or go home."""
        adjust = jax.vmap(partial(carried_out, nu_boost=self.config.guard.nu_boost))
        learner, behaviour, home = adjust(device.learner, device.behaviour, device.home, orders)
        return dataclasses.replace(device, learner=learner, behaviour=behaviour, home=home)

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
        return host_policy(state.device.learner.params["actor"], self.mean, self.std)

    def pretrained(self, state: OnlineState) -> Pretrained:
        """Return the agents as a start for another phase."""
        datasets = tuple(self._start.dataset[a.start] if self._start else 0 for a in self.members)
        learner = jax.tree.map(jnp.copy, state.device.learner)
        return Pretrained(learner, self.mean, self.std, datasets, self.agents, self._scale, self._bias, self._loading)

    def replay_data(self, state: OnlineState, agent: int = 0) -> dict[str, np.ndarray]:
        """Return an agent's online transitions, oldest first, in the environment's own units except for the actions.

        Arguments of `policy_finetune.data.make.from_replay`: observations, canonical actions, rewards,
        next_observations, terminated, truncated. The last row is truncated where its episode continues.

        Once more transitions were made than the buffer holds, these are not the first of the run but the oldest that
        are left, the first of which may be from the middle of an episode. `OverwrittenWarning` says so.
        """
        return recorded_transitions(
            np.asarray(state.device.replay.rows[agent]),
            state.block * self.config.block,
            self.layout,
            mean=self.mean[agent],
            std=self.std[agent],
            scale=self._scale[agent],
            bias=self._bias,
        )

    def save(self, state: OnlineState, folder: str | Path) -> None:
        """Write everything: learners, replay buffers, random keys, where the environments stand.

        The folder is made, with its parents, where it is absent.

        Raises:
            UserError: it cannot be made, or holds a state already.
        """
        folder = state_folder(folder)
        save_pytree(state.device, folder)
        host = {f"env.{f.name}": getattr(state.env, f.name) for f in dataclasses.fields(state.env)}
        host |= {f"guard.{f.name}": getattr(state.guard, f.name) for f in dataclasses.fields(state.guard)}
        np.savez(folder / "host.npz", **host, mean=self.mean, std=self.std)
        place = {
            "block": state.block,
            "seed": state.seed,
            "capacity": self.replay.capacity,
            "offline_rows": self.replay.digest,
        }
        write_json(folder / "place.json", place)
        write_policies(folder, self.canonical_policy(state), self.spec, self.agents)

    def restore(self, folder: str | Path, like: OnlineState) -> OnlineState:
        """Read back what `save` wrote; the result continues bit for bit, mid-episode (not with envpool).

        Raises:
            CheckpointError: it does not fit `like`, or the environment does not come out as it was.
            UserError: the pre-trained agents or the offline data are others.
        """
        folder = Path(folder)
        place = json.loads((folder / "place.json").read_text())
        with np.load(folder / "host.npz", allow_pickle=False) as host:
            arrays = {name: host[name] for name in host.files}
        device = load_pytree(folder, self._with_capacity(like.device, place["capacity"]))
        replay = self.replay.resize(device.replay, place["block"] * self.config.block)
        device = dataclasses.replace(device, replay=self._layout.place(replay))
        if not (np.array_equal(arrays["mean"], self.mean) and np.array_equal(arrays["std"], self.std)):
            raise UserError(f"{folder} was written by a run that started from other pre-trained agents.")
        if place["offline_rows"] != self.replay.digest:
            raise UserError(f"{folder} was written by a run with other offline data: give it the same datasets.")
        env, guard = filled(like.env, arrays, "env", folder), filled(like.guard, arrays, "guard", folder)
        pool = self._pool_of(place["seed"])
        if not isinstance(pool, EnvPool):  # new episodes begin: envpool cannot be told where in its streams to continue
            env = pool.restart(env)
        return OnlineState(device, env, guard, place["block"], place["seed"])

    def _with_capacity(self, device: DeviceState, capacity: int) -> DeviceState:
        """Return a state of the shapes that a run with rings of `capacity` rows saves (a longer or shorter run)."""
        if capacity == self.replay.capacity:
            return device
        replay = self._layout.place(self.replay.init([jax.random.key(0)] * len(self.members), capacity))
        return dataclasses.replace(device, replay=replay)
