"""Deployments and the training between them, as a `paperloop.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec

from cascade_explore.config import KeyCorridor, Random, TrainConfig
from cascade_explore.deploy import measures, replay
from cascade_explore.deploy.acting import Memory, act, fingerprint, start
from cascade_explore.deploy.collect import Collected, collect
from cascade_explore.deploy.host import collect_host
from cascade_explore.envs.families import episode_limit, make_layouts
from cascade_explore.envs.grid import Grid, make_grid
from cascade_explore.envs.host import HostEnvs, HostSettings
from cascade_explore.explore.learner import Learner
from cascade_explore.explore.payment import Scales, make_reward, start_scales
from cascade_explore.world.losses import disagreement
from cascade_explore.world.model import Latents, World, features
from paperloop.jax_backend import device_mesh, load_pytree, save_pytree
from paperloop.seeds import fold_seed

__all__ = ["ExploreTrainer", "Ledger", "TrainState", "make_env"]

#: What training shows, whoever explores.
TRAINED = ("decoder_loss", "continue_loss", "kl", "ensemble_loss", "disagreement")
ACTED = ("imagined", "diversity", "reward", "return", "explained", "entropy", "actor_loss", "critic_loss")


class Ledger(NamedTuple):
    """What each deployment was; entry k is 0 before it.

    Attributes:
        env_steps: rows collected, int32 `[K]`.
        episodes: that ended, int32 `[K]`.
        reward: of the environment, summed; nothing was trained on it.
        coverage: share of reachable cells visited up to and including this deployment.
        entropy: of all visits so far, in bits.
        distinct: effective number of distinct explorers in this deployment.
        policies: checksum of the model and the policies that were deployed, uint32 `[K]`.
    """

    env_steps: Array
    episodes: Array
    reward: Array
    coverage: Array
    entropy: Array
    distinct: Array
    policies: Array


class TrainState(NamedTuple):
    """Everything that a run continues from; all arrays have a leading seed axis.

    Attributes:
        world: parameters of the model.
        world_opt: its optimiser's state.
        ensemble: parameters of the heads.
        ensemble_opt: their optimiser's state.
        agents: the explorers; an empty tuple where actions are random.
        scales: running sizes of what explorers are paid.
        replay: all that was collected.
        visits: of cells, int32 `[K, B, L, W, H]`.
        ledger: what each deployment was.
        shown: the latest training metrics.
        key: random keys.
        done: dispatches, int32.
    """

    world: Any
    world_opt: Any
    ensemble: Any
    ensemble_opt: Any
    agents: Any
    scales: Scales
    replay: replay.Replay
    visits: Array
    ledger: Ledger
    shown: dict[str, Array]
    key: Array
    done: Array


def make_env(config: TrainConfig) -> Grid | HostEnvs:
    """Return the environment that settings describe."""
    env = config.env
    if isinstance(env, HostSettings):
        return HostEnvs(env, config.seeds * config.agents * config.envs)
    return make_grid(
        make_layouts(env), limit=episode_limit(env), picks_up=isinstance(env, KeyCorridor), pixels=env.pixels
    )  # fmt: skip


class ExploreTrainer:
    """Collects and trains in turn.

        trainer = ExploreTrainer(PRESETS["multi_room"])
        state = trainer.init(seed=0)
        for _ in range(trainer.config.steps):
            state, metrics = trainer.step(state)

    A deployment begins with a dispatch that collects, the first by uniform actions; then come the dispatches that train
    the model, the ensemble and all explorers on the replay. Metrics have a leading seed axis.

    Attributes:
        config: the run.
        env: where.
        world: the model's modules.
        learner: the explorers' modules; None where actions are random.
        headlines: the metrics to show first.
        donates: True, `step` consumes the state it is given.
        resume_ignores: what may differ when a run is continued.
    """

    donates = True
    resume_ignores = ("devices",)
    headlines: Sequence[str] = ("coverage", "visitation_entropy", "distinct_explorers")

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.env = make_env(config)
        self.world = World(config.world, self.env.observation, self.env.actions)
        explorer = config.explorer
        self.learner = None if isinstance(explorer, Random) else Learner(explorer.actor, self.world, config.agents)
        self._world_opt, self._ensemble_opt = (
            optax.chain(optax.clip_by_global_norm(config.world.clip), optax.adam(lr, eps=1e-5))
            for lr in (config.world.lr, config.world.ensemble_lr)
        )
        mesh = device_mesh(config.devices, "seed")
        self._layout = None if mesh is None else NamedSharding(mesh, PartitionSpec("seed"))
        self._init = jax.jit(jax.vmap(self._start), out_shardings=self._layout)
        self.cells = self.env.reachable if isinstance(self.env, Grid) else None
        if self.cells is None:
            self.headlines = ("disagreement", "env_reward")
        self._collect = jax.jit(jax.vmap(self._deploy), donate_argnums=0, out_shardings=self._layout)
        self._choose = jax.jit(jax.vmap(self._act, (0, 0, 0, 0, 0, None, None)))
        self._store = jax.jit(jax.vmap(self._note), donate_argnums=0, out_shardings=self._layout)
        self._train = jax.jit(jax.vmap(self._updates), donate_argnums=0, out_shardings=self._layout)

    # The protocol

    def init(self, seed: int) -> TrainState:
        """Return the state before the first deployment. Seed i of n has the same stream whatever n is."""
        seeds = [fold_seed(seed, "explore", i) for i in range(self.config.seeds)]
        return self._init(jax.vmap(jax.random.key)(jnp.array(seeds, jnp.uint32)))

    def step(self, state: TrainState) -> tuple[TrainState, Mapping[str, Array]]:
        """Collect a deployment, or do `config.updates_per_step` updates. Consumes `state`."""
        collects = int(state.done[0]) % self.config.dispatches == 0
        if collects:
            state = self._collect(state) if self.cells is not None else self._collect_host(state)
        else:
            state = self._train(state)
        now = jnp.maximum((state.done[0] - 1) // self.config.dispatches, 0)
        book = state.ledger
        deployed = {"env_reward": book.reward, "episodes": book.episodes}
        if self.cells is not None:
            deployed |= {
                "coverage": book.coverage, "visitation_entropy": book.entropy, "distinct_explorers": book.distinct
            }  # fmt: skip
        # Copies: the state's own buffers are donated to the next step.
        return state, {name: value[:, now] for name, value in deployed.items()} | jax.tree.map(jnp.copy, state.shown)

    def progress(self, state: TrainState) -> Mapping[str, int]:
        """Return deployments, steps in the environment and updates, per seed."""
        done, config = int(state.done[0]), self.config
        whole, rest = divmod(done, config.dispatches)
        deployments = whole + (rest > 0)
        updates = (done - deployments) * config.updates_per_step
        return {"deployments": deployments, "env_steps": deployments * config.env_steps, "updates": updates}

    def save(self, state: TrainState, folder: Path) -> None:
        """Write the whole state into `folder`."""
        save_pytree(state, folder)

    def restore(self, folder: Path, like: TrainState) -> TrainState:
        """Read back what `save` wrote; the result continues bit for bit, in whatever phase it was."""
        return load_pytree(folder, like)

    def final_notes(self, state: TrainState) -> list[str]:
        """Return what a reader of the results must know: nothing trained, a collapsed posterior, dead explorers."""
        if self.progress(state)["updates"] == 0:
            return ["No update was made, so that every deployment acted by untrained networks."]
        notes, shown = [], jax.device_get(state.shown)
        for i in np.flatnonzero(shown["kl"] < 1e-3):
            notes.append(f"Seed {i}: the latents say nothing about observations (KL {shown['kl'][i]:.1e} nats).")
        for i in np.flatnonzero(shown.get("entropy", np.ones(1)) < 1e-3) if self.env.actions.discrete else ():
            notes.append(f"Seed {i}: the explorers hardly vary their actions (entropy {shown['entropy'][i]:.1e} nats).")
        return notes

    # One seed

    def _start(self, key: Array) -> TrainState:
        config, env = self.config, self.env
        one, two, three, key = jax.random.split(key, 4)
        world, ensemble = self.world.init(one), self.world.init_ensemble(two)
        streams = config.agents * config.envs
        k = config.deployments
        ledger = Ledger(
            *(jnp.zeros(k, d) for d in (jnp.int32, jnp.int32, jnp.float32, jnp.float32, jnp.float32, jnp.float32)),
            jnp.zeros(k, jnp.uint32),
        )  # fmt: skip
        names = TRAINED + (ACTED if self.learner else ())
        return TrainState(
            world=world,
            world_opt=self._world_opt.init(world),
            ensemble=ensemble,
            ensemble_opt=self._ensemble_opt.init(ensemble),
            agents=self.learner.init(three) if self.learner else (),
            scales=start_scales(config.agents),
            replay=replay.empty(
                k, streams, config.stream_steps, env.observation, env.actions, facts=len(getattr(env, "facts", ()))
            ),
            visits=jnp.zeros((k, config.agents, *(() if self.cells is None else self.cells.shape)), jnp.int32),
            ledger=ledger,
            shown={name: jnp.zeros(()) for name in names},
            key=key,
            done=jnp.int32(0),
        )

    def _deploy(self, state: TrainState) -> TrainState:
        config, env = self.config, self.env
        assert isinstance(env, Grid)
        found = collect(
            env, self.world, self.learner.policies if self.learner else None, state.world,
            state.agents.actors if self.learner else None, jax.random.fold_in(state.key, state.done),
            agents=config.agents, envs=config.envs, steps=config.stream_steps, uniform=state.done == 0,
        )  # fmt: skip
        return self._note(state, found)

    def _act(
        self, world: Any, agents: Any, memory: Memory, observation: Array, first: Array, key: Array, uniform: Array
    ) -> Memory:
        policies, actors = (self.learner.policies, agents.actors) if self.learner else (None, None)
        return act(self.world, policies, world, actors, memory, observation, first, key, uniform=uniform)

    def _collect_host(self, state: TrainState) -> TrainState:
        """Collect a deployment on the host; the policies are those of the state throughout."""
        config, env = self.config, self.env
        assert isinstance(env, HostEnvs)
        uniform, deployed = state.done[0] == 0, (state.world, state.agents)
        begin = start(self.world, config.agents, config.envs)
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (config.seeds, *x.shape)), begin)
        rows, episodes = collect_host(
            env, lambda m, o, f, k: self._choose(*deployed, m, o, f, k, uniform), memory,
            jax.random.fold_in(state.key[0], state.done[0]), steps=config.stream_steps,
        )  # fmt: skip
        visits = jnp.zeros((config.seeds, config.agents), jnp.int32)
        return self._store(state, Collected(rows, visits, jnp.asarray(episodes), jnp.asarray(rows.reward.sum((1, 2)))))

    def _note(self, state: TrainState, found: Collected) -> TrainState:
        """Return the state after a deployment: its rows in the replay, its entry in the ledger."""
        at = state.done // self.config.dispatches
        visits, book = state.visits.at[at].set(found.visits), state.ledger
        entry = {
            "env_steps": self.config.env_steps,
            "episodes": found.episodes,
            "reward": found.reward,
            "policies": fingerprint((state.world, state.agents.actors) if self.learner else state.world),
        }
        if self.cells is not None:
            total = visits.sum((0, 1))
            entry |= {
                "coverage": measures.coverage(total, self.cells),
                "entropy": measures.visitation_entropy(total),
                "distinct": measures.distinct_explorers(found.visits),
            }
        book = book._replace(**{name: getattr(book, name).at[at].set(value) for name, value in entry.items()})
        return state._replace(
            replay=replay.write(state.replay, found.rows, at), visits=visits, ledger=book, done=state.done + 1
        )

    def _updates(self, state: TrainState) -> TrainState:
        filled = 1 + (state.done - 1) // self.config.dispatches
        key = jax.random.fold_in(state.key, state.done)
        data = state.replay
        held = state._replace(replay=jax.tree.map(lambda _: None, data))  # a constant, and no part of the loop

        count, every = self.config.updates_per_step, self.config.explorers_every

        def one(held: TrainState, row: tuple[Array, Array]) -> tuple[TrainState, dict[str, Array]]:
            key, explores = row
            batch = replay.to_batch(self._draw(data, filled, key), self.env.actions)
            return self.update(held, batch, key, explores if every > 1 else None)

        explores = jnp.arange(1, count + 1) % every == 0
        held, shown = jax.lax.scan(one, held, (jax.random.split(key, count), explores))
        means = {name: values.mean(0) * (every if name in ACTED else 1) for name, values in shown.items()}
        return held._replace(replay=data, shown=means, done=state.done + 1)

    def _draw(self, data: replay.Replay, filled: Array, key: Array) -> replay.Rows:
        world = self.config.world
        return replay.draw(data, filled, jax.random.fold_in(key, 0), batch=world.batch, length=world.length)

    def update(
        self, state: TrainState, batch: Any, key: Array, explores: Array | None = None
    ) -> tuple[TrainState, dict[str, Array]]:
        """Do one update of the model and the ensemble on a batch, and of all explorers if `explores`, for one seed."""
        one, two, three = jax.random.split(jax.random.fold_in(key, 1), 3)
        (_, (states, shown)), slope = jax.value_and_grad(self.world.loss, has_aux=True)(state.world, batch, one)
        change, world_opt = self._world_opt.update(slope, state.world_opt)
        world = optax.apply_updates(state.world, change)
        states = jax.lax.stop_gradient(states)
        loss, slope = jax.value_and_grad(self.world.ensemble_loss)(state.ensemble, states, batch)
        change, ensemble_opt = self._ensemble_opt.update(slope, state.ensemble_opt)
        ensemble = optax.apply_updates(state.ensemble, change)
        shown = {**shown, "ensemble_loss": loss}
        shown["disagreement"] = disagreement(
            self.world.predict(ensemble, features(states)[:-1], batch.action[1:])
        ).mean()
        agents, scales = state.agents, state.scales
        if learner := self.learner:
            start, weight = self._starts(states, batch.terminal, two)

            def explore(agents: Any, scales: Scales) -> tuple[Any, Scales, dict[str, Array]]:
                reward = make_reward(self.world, ensemble, scales, self.config.explorer)
                agents, acted = learner.update(agents, world, start, weight, reward, three)
                return agents, acted["scales"], {name: acted[name] for name in ACTED}

            def wait(agents: Any, scales: Scales) -> tuple[Any, Scales, dict[str, Array]]:
                return agents, scales, {name: jnp.zeros(()) for name in ACTED}

            one_of = explore if explores is None else partial(jax.lax.cond, explores, explore, wait)
            agents, scales, acted = one_of(agents, scales)
            shown |= acted
        state = state._replace(
            world=world, world_opt=world_opt, ensemble=ensemble, ensemble_opt=ensemble_opt, agents=agents, scales=scales
        )
        return state, shown

    def _starts(self, states: Latents, terminal: Array, key: Array) -> tuple[Latents, Array]:
        """Return states of a batch to imagine from, `[S, ...]`, and their weight: 0 where an episode had ended."""
        flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), states)
        chosen = jax.random.permutation(key, terminal.size)[: self.config.explorer.actor.starts]  # ty: ignore
        return jax.tree.map(lambda x: x[chosen], flat), 1.0 - terminal.reshape(-1)[chosen].astype(jnp.float32)
