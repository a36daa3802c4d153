"""Learning from datasets alone, as an `paperloop.Trainer`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.errors import UserError, setting
from paperloop.files import write_json
from paperloop.jax_backend import load_pytree, save_pytree
from paperloop.seeds import fold_seed
from paperloop_data import EpisodeDataset
from policy_finetune.agents.programs import AgentLayout, stack, stack_weights, summary
from policy_finetune.agents.structure import weights_of
from policy_finetune.config import SCHEMA, OfflineAgent, OfflineConfig
from policy_finetune.data.saved_policies import write_policies
from policy_finetune.envs.acting import HostPolicy, Policy
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.learners.base import LearnerState, copy, q_over_bound
from policy_finetune.learners.registry import make_learner
from policy_finetune.replay.packing import OfflineData, draw
from policy_finetune.trainers.arms import offline_labels
from policy_finetune.trainers.common import check_program, host_policy, state_folder, with_nu0
from policy_finetune.trainers.pretrained import Pretrained

__all__ = ["OfflineState", "OfflineTrainer"]


@partial(jax.tree_util.register_dataclass, data_fields=["learner", "key", "dispatches"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class OfflineState:
    """A agents that learn from data.

    Attributes:
        learner: their learners' states, every leaf with a leading axis A.
        key: (A,) typed PRNG keys.
        dispatches: (A,) u32, calls of `step` so far.
    """

    learner: LearnerState
    key: Array
    dispatches: Array


class OfflineTrainer:
    """Agents that learn from datasets, side by side in one compiled program.

        data = OfflineData.pack([dataset])
        trainer = OfflineTrainer(OfflineConfig(learner=LEARNERS["td3bc"], seeds=4), data)
        state = trainer.init(seed=0)
        for _ in range(trainer.num_steps):
            state, metrics = trainer.step(state)
        policy = trainer.policy(state, EnvSpec.of("Hopper-v5")).agent(0)
        action = policy.predict(observation)  # in the environment's units

    One `step` is one dispatch of `config.updates_per_step` critic updates. Metrics are means over it, (A,) each.

    Attributes:
        config: the run.
        members: the A agents: by dataset, then by seed, unless `config.agents` names them.
        agents: a label for each: agents with equal labels are repetitions of one arm.
        headlines: the metrics that matter first.
        data: the packed datasets.
        spec: the environment, where it is known.
        num_steps: dispatches that `config.updates` takes.
        donates: True, `step` consumes the state it is given.
        resume_ignores: what may differ when a run is resumed.
    """

    donates = True
    schema = SCHEMA
    headlines: Sequence[str] = ("return", "loss")
    resume_ignores = ("updates", "devices", "data")  # where the files lie; the digest of the rows says which they are

    def __init__(
        self, config: OfflineConfig, data: OfflineData | EpisodeDataset | Sequence[EpisodeDataset], *,
        spec: EnvSpec | None = None, together: int | None = None,
    ) -> None:  # fmt: skip
        """Bind configuration and data.

        Args:
            config: the run.
            data: packed datasets, or datasets with canonical actions.
            spec: the environment, for policies in its units; learning needs none.
            together: see `AgentLayout`.

        Raises:
            UserError: agents differ in more than one program can hold, or a dataset has fewer rows than a batch.
        """
        self.config, self.spec = config, spec
        if not isinstance(data, OfflineData):
            data = OfflineData.of([data] if isinstance(data, EpisodeDataset) else data, config)
        self.data = data
        self.members = config.agents or tuple(
            OfflineAgent(learner=config.learner, dataset=d, seed=i, top_fraction=config.top_fraction)
            for d in range(data.num_datasets)
            for i in range(config.seeds)
        )
        self.agents = offline_labels(self.members, config.data, data.num_datasets)
        self.num_steps = config.num_steps
        learners = [agent.learner for agent in self.members]
        check_program(learners, data)
        layout = data.layout
        self.learner = make_learner(learners[0], layout.obs_dim, layout.act_dim, *learners[1:])
        offsets, sizes = [], []
        for agent in self.members:
            if not 0 <= agent.dataset < data.num_datasets:
                raise UserError(f"An agent learns from dataset {agent.dataset}, but there are {data.num_datasets}.")
            rows = data.rows_of_top(agent.dataset, agent.top_fraction)
            if rows < agent.learner.batch_size:
                raise UserError(
                    f"Dataset {agent.dataset} has {rows} transitions to learn from, fewer than a batch of "
                    f"{agent.learner.batch_size}: lower {setting('batch_size')}, or raise {setting('top_fraction')}."
                )
            offsets.append(data.offset[agent.dataset])
            sizes.append(rows)
        self._layout = AgentLayout(len(self.members), config.devices, together)
        self._shared = self._layout.share(data.rows)
        self._own = self._layout.place(
            {
                "weights": stack_weights([weights_of(c, act_dim=layout.act_dim) for c in learners]),
                "offset": jnp.asarray(np.array(offsets, np.int32)),
                "size": jnp.asarray(np.array(sizes, np.int32)),
            }
        )
        dispatch = self._layout.over_agents(self._one)
        self._step = jax.jit(lambda state, rows, own: dispatch(rows, (state, own)), donate_argnums=0)
        self._init = jax.jit(self.learner.init)

    def init(self, seed: int) -> OfflineState:
        """Return the state before the first step; agents with equal seeds start from equal networks."""
        states = []
        for agent in self.members:
            key = jax.random.key(fold_seed(seed, "offline", agent.seed))
            init_key, key = jax.random.split(key)
            states.append(OfflineState(self._start(self._init(init_key), agent), key, jnp.zeros((), jnp.uint32)))
        return self._layout.place(stack(states))

    def _start(self, state: LearnerState, agent: OfflineAgent) -> LearnerState:
        state = with_nu0(state, agent.learner)
        if self.config.initial_value == "zero":
            return state
        value = self.data.mean_to_go(agent.dataset, agent.top_fraction)
        return state.replace(params=raised(state.params, value), target=raised(state.target, value))

    def step(self, state: OfflineState) -> tuple[OfflineState, Mapping[str, Array]]:
        """Do `config.updates_per_step` critic updates. Consumes `state`."""
        return self._step(state, self._shared, self._own)

    def _one(self, rows: Array, own: tuple[OfflineState, Mapping[str, Any]]) -> tuple[OfflineState, dict[str, Array]]:
        state, data = own
        config = self.learner.config
        shape = (config.policy_delay, config.batch_size)

        def body(state: OfflineState, _: None) -> tuple[OfflineState, dict[str, Array]]:
            key, draw_key, round_key = jax.random.split(state.key, 3)
            batches = self.data.layout.split(rows[data["offset"] + draw(draw_key, shape, data["size"])])
            learner, info = self.learner.round(state.learner, batches, round_key, data["weights"])
            info |= q_over_bound(info, batches.reward, data["weights"].get("discount", 0.0))
            return OfflineState(learner, key, state.dispatches), info

        length = self.config.updates_per_step // config.policy_delay
        state, infos = jax.lax.scan(body, state, length=length)
        state = dataclasses.replace(state, dispatches=state.dispatches + 1)
        return state, summary(infos, state.learner.params)

    def progress(self, state: OfflineState) -> Mapping[str, int]:
        """Return the critic updates of each agent."""
        return {"updates": int(state.dispatches[0]) * self.config.updates_per_step}

    def policy(self, state: OfflineState, spec: EnvSpec | None = None) -> Policy:
        """Return the A deterministic policies in the environment's units, normaliser included.

        Args:
            state: the agents.
            spec: the environment; by default the one that the trainer was given.

        Raises:
            UserError: it was given none, or the policies are of another environment.
        """
        spec = spec or self.spec
        if spec is None:
            raise UserError(
                "The trainer does not know the environment, in whose units its policies act: give "
                "trainer.policy(state, EnvSpec.of(...)) or OfflineTrainer(..., spec=...), or take "
                "trainer.canonical_policy(state), which acts in [-1, 1]."
            )
        return Policy(self.canonical_policy(state), spec)

    def canonical_policy(self, state: OfflineState) -> HostPolicy:
        """Return the A deterministic policies with actions in [-1, 1], normaliser included."""
        picks = [agent.dataset for agent in self.members]
        return host_policy(state.learner.params["actor"], self.data.mean[picks], self.data.std[picks])

    def pretrained(self, state: OfflineState) -> Pretrained:
        """Return the agents as a start for fine-tuning; the state stays good."""
        picks = [agent.dataset for agent in self.members]
        return Pretrained(
            copy(state.learner), self.data.mean[picks], self.data.std[picks], tuple(picks), self.agents,
            self.data.scale[picks], self.data.bias, self.config.loading,
        )  # fmt: skip

    def save(self, state: OfflineState, folder: str | Path) -> None:
        """Write the whole state, the observations' normaliser, the data's fingerprint and the policies into `folder`.

        The folder is made, with its parents, where it is absent. Its part `start` is what fine-tuning needs.

        Raises:
            UserError: it cannot be made, or holds a state already.
        """
        folder = state_folder(folder)
        self.pretrained(state).save(folder / "start")
        save_pytree({"key": state.key, "dispatches": state.dispatches}, folder)
        write_json(folder / "data.json", {"rows": self.data.digest})
        write_policies(folder, self.canonical_policy(state), self.spec, self.agents)

    def restore(self, folder: str | Path, like: OfflineState) -> OfflineState:
        """Read back what `save` wrote; the result continues bit for bit.

        Raises:
            CheckpointError: it does not fit `like`.
            UserError: the dataset is another one.
        """
        folder = Path(folder)
        rest = load_pytree(folder, {"key": like.key, "dispatches": like.dispatches})
        if json.loads((folder / "data.json").read_text())["rows"] != self.data.digest:
            raise UserError(
                f"{folder} was written with another dataset: continue with the one that the run began with."
            )
        return OfflineState(Pretrained.load(folder / "start", like.learner).learner, **rest)


def raised(networks: Mapping[str, Any], value: float) -> dict[str, Any]:
    """Return networks by name, the outputs of critics and value raised by `value`; actors stay as they are."""
    out = dict(networks)
    for name in ("critic", "value"):
        if name in out:
            *before, last = out[name]
            out[name] = [*before, last | {"b": last["b"] + value}]
    return out
