"""What a batch holds online: the replay policies, and the buffers on the device.

Each element of a batch comes from the offline rows or from the agent's own online rows. `append` draws uniformly from
both together; `drop` from the online rows; `symmetric` and `decay` take a fixed number of offline elements, floor(ρ B);
`balanced` draws by priority (`policy_finetune.replay.balanced`). Which of them an agent follows is data of the
program, except for `balanced`, which is a program of its own.

Returns to go, by which Cal-QL's regulariser is bounded, are known of offline rows only: the discounted rewards up to
the end of the row's episode, with nothing added after a time limit. Online rows enter the rings block by block, before
their episodes are over; they hold -inf there, and keep it when the episodes end. So max(Q, return to go) is Q for them:
on the online elements of a batch the regulariser is plain CQL's, and nothing keeps it from pushing values below what
the policy gets. The calibrated share of a batch is its offline share: half of it in the preset `calql`, and none under
`drop`, where Cal-QL is CQL. Nakamoto et al. (2023, arXiv 2303.05479) differ: their code plays each episode to its end
before it learns from it and stores the returns to go with it, so that all of its rows are calibrated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.errors import CheckpointError, UserError, setting
from policy_finetune.agents.programs import stack
from policy_finetune.config import BalancedReplay, DropReplay, OnlineAgent, OnlineConfig
from policy_finetune.learners.base import ramp
from policy_finetune.replay.balanced import Balanced, BalancedState
from policy_finetune.replay.packing import Layout, OfflineData, draw

__all__ = ["Replay", "ReplayState"]


@partial(jax.tree_util.register_dataclass, data_fields=["rows", "balanced"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class ReplayState:
    """An agent's online transitions.

    Attributes:
        rows: (capacity, width) f32, a ring; how many are filled follows from the number of the block.
        balanced: what balanced replay learns, or None.
    """

    rows: Array
    balanced: BalancedState | None


class Replay:
    """The replay of all agents of a program.

    Args:
        config: the run; its `block` rows come at a time.
        agents: the agents.
        layout: what a row holds.
        data: the offline rows, or None.
        datasets: index of each agent's dataset.

    Raises:
        UserError: a policy needs offline data and there is none; balanced and other policies in one program.
    """

    def __init__(
        self,
        config: OnlineConfig,
        agents: Sequence[OnlineAgent],
        layout: Layout,
        data: OfflineData | None,
        datasets: Sequence[int],
    ) -> None:
        self.config, self.agents, self.layout = config, agents, layout
        self.block = config.block
        # Whole blocks, and no more than the run will ever fill.
        wanted = min(agents[0].replay.capacity, config.num_steps * config.block)
        self.capacity = -(-wanted // config.block) * config.block
        kinds = {agent.replay.type for agent in agents}
        if "balanced" in kinds and len(kinds) > 1:
            raise UserError("Balanced replay is a program of its own: fine-tune its agents in a separate run.")
        if len({agent.replay.capacity for agent in agents}) > 1:
            raise UserError("Agents of one program have the same replay.capacity: fine-tune them in separate runs.")
        needy = [kind for kind in kinds if kind not in ("drop", "append")]
        if data is None and needy:
            raise UserError(f"Replay {needy[0]!r} needs offline data and none is given: give it, or choose 'drop'.")
        if data is None or "drop" in kinds:
            config.check_first_batch()
        offset, size = [], []
        for agent, dataset in zip(agents, datasets, strict=True):
            if data is None:
                offset.append(0)
                size.append(0)
                continue
            if not 0 <= dataset < data.num_datasets:
                raise UserError(f"An agent needs dataset {dataset}, but there are {data.num_datasets}.")
            offset.append(int(data.offset[dataset]))
            top = 1.0 if isinstance(agent.replay, DropReplay) else agent.replay.top_fraction
            size.append(data.rows_of_top(dataset, top))
        self.offset, self.size = np.array(offset, np.int32), np.array(size, np.int32)
        self.own = {"offset": jnp.asarray(self.offset), "size": jnp.asarray(self.size)}
        self.digest = "" if data is None else data.digest
        self.offline_rows = data.rows if data is not None else jnp.zeros((1, layout.width))
        self.balanced = None
        first = agents[0].replay
        if isinstance(first, BalancedReplay):
            if len({dataclasses.replace(agent.replay, top_fraction=1.0) for agent in agents}) > 1:
                raise UserError(
                    "Agents of one program have the same rho, temperature and ratio_lr of balanced replay: fine-tune "
                    "them in separate runs."
                )
            batch = agents[0].learner.batch_size
            self.balanced = Balanced(first, layout, batch, int(self.size.max()), self.capacity)

    def init(self, keys: Sequence[Array], capacity: int | None = None) -> ReplayState:
        """Return empty buffers, leading axis A; with another capacity than the run's if one is given."""
        capacity = capacity or self.capacity
        rows = jnp.zeros((len(keys), capacity, self.layout.width))
        balanced = None if self.balanced is None else stack([self.balanced.init(key, capacity) for key in keys])
        return ReplayState(rows, balanced)

    def number(self, block: int) -> np.int32:
        """Return a block's number as the device knows it: however long the run, it says where its rows go."""
        ring = self.capacity // self.block
        return np.int32(block if block < ring else ring + block % ring)

    def resize(self, state: ReplayState, filled: int) -> ReplayState:
        """Return a state of another run length in rings of this run's length.

        Raises:
            CheckpointError: more rows are filled than fit, or the ring was full: its order would be lost.
        """
        old = state.rows.shape[1]
        if old == self.capacity:
            return state
        if filled > min(old, self.capacity):
            raise CheckpointError(
                f"The checkpoint's replay holds {min(filled, old)} rows in a ring of {old}; this run's ring has "
                f"{self.capacity} rows: continue with the {setting('replay.capacity')} and {setting('env_steps')} "
                "that it was made with."
            )
        change = self.capacity - old

        def fit(x: Array) -> Array:  # rows that are not filled lie at the end
            return (
                x[:, : x.shape[1] + change]
                if change < 0
                else jnp.pad(x, ((0, 0), (0, change)) + ((0, 0),) * (x.ndim - 2))
            )

        balanced = state.balanced
        if balanced is not None:
            assert self.balanced is not None
            balanced = self.balanced.with_priority(balanced, fit(balanced.priority))
        return ReplayState(fit(state.rows), balanced)

    # On the device

    def insert(self, rings: Array, rows: Array, block: Array) -> Array:
        """Write block number `block` [A, K, width] into the rings [A, capacity, width], over the oldest one if full."""
        return jax.lax.dynamic_update_slice_in_dim(rings, rows, self._at(block), 1)

    def _at(self, block: Array) -> Array:
        return block % (self.capacity // self.block) * self.block

    def filled(self, block: Array) -> Array:
        """Return how many online rows there are after block number `block` was written."""
        return jnp.minimum(block + 1, self.capacity // self.block) * self.block

    # For one agent, on the device

    def enter(self, state: BalancedState | None, block: Array) -> BalancedState | None:
        """Take note of the rows of block number `block`."""
        if self.balanced is None or state is None:
            return None
        return self.balanced.enter(state, self._at(block), self.block)

    def prepare(self, state: BalancedState | None, data: Mapping[str, Any]) -> BalancedState | None:
        """Do what a block needs once before its batches are drawn."""
        if self.balanced is None or state is None:
            return None
        return self.balanced.prepare(state, data["size"], self.filled(data["block"]))

    def sample(
        self,
        state: BalancedState | None,
        online: Callable[[Array], Array],
        offline: Array,
        key: Array,
        shape: tuple[int, int],
        data: Mapping[str, Any],
        updates: Array,
    ) -> tuple[Array, BalancedState | None, Array]:
        """Return rows [*shape, width] of batches, the state (balanced replay learns from them), and the offline share.

        Args:
            state: of balanced replay, the agent's.
            online: ring indices -> the agent's rows there.
            offline: the offline rows of all datasets.
            key: randomness.
            shape: (batches, B).
            data: the agent's `weights`, `offset`, `size` and `block`.
            updates: critic updates so far, for schedules.
        """
        filled = self.filled(data["block"])
        if self.balanced is not None:
            assert state is not None
            return self.balanced.sample(state, offline, online, key, shape, data["offset"], data["size"], filled)
        if not int(self.size.max()):
            return online(draw(key, shape, filled)), None, jnp.zeros(())
        offline_key, online_key, pick_key = jax.random.split(key, 3)
        is_offline = self._offline_elements(pick_key, shape, data["weights"], data["size"], filled, updates)
        there = offline[data["offset"] + draw(offline_key, shape, data["size"])]
        here = online(draw(online_key, shape, filled))
        return jnp.where(is_offline[..., None], there, here), None, is_offline.mean(dtype=jnp.float32)

    def _offline_elements(
        self, key: Array, shape: tuple[int, int], weights: Mapping[str, Array], size: Array, filled: Array,
        updates: Array,
    ) -> Array:  # fmt: skip
        """Return which elements of the batches are offline, booleans of `shape`."""
        rho = ramp(weights["rho"], weights["rho_final"], weights["rho_steps"], updates)
        fixed = jnp.arange(shape[1]) < jnp.floor(rho * shape[1] + 1e-4)
        # One draw from offline and online rows together says which of the two it fell into.
        appended = jax.random.randint(key, shape, 0, size + filled) < size
        return jnp.where(weights["append"] > 0, appended, jnp.broadcast_to(fixed, shape)) & (size > 0)
