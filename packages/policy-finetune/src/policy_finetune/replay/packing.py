"""Datasets as one array of rows on the device: one gather fetches everything about a transition.

A row is [obs | action | next_obs | reward | mask | to_go]. Observations are standardised when they are packed, rewards
scaled, actions canonical. Episodes are laid down best first, so that "the best 10 %" is a shorter prefix.

Several datasets lie one after another; an agent knows where its own begins and how long it is, so that agents on
different datasets run in one program.

Actions must be canonical already: `policy_finetune.load_for` makes them so. A dataset in the environment's own units is
noticed here only where an action lies outside [-1, 1]; narrower bounds pass unseen.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paperloop.errors import UserError, setting
from paperloop_data import EpisodeDataset
from policy_finetune.config import OfflineConfig
from policy_finetune.learners.base import Batch

__all__ = ["Layout", "OfflineData", "discounted_to_go", "moments"]

#: Added to a standard deviation before dividing by it, as in sfujim/TD3_BC.
STD_EPSILON = 1e-3


@dataclass(frozen=True)
class Layout:
    """Where the parts of a row are."""

    obs_dim: int
    act_dim: int

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return 2 * self.obs_dim + self.act_dim + 3

    def split(self, rows: Any) -> Batch:
        """Return the parts of rows [..., width]; views of them, where they are NumPy's."""
        o, a = self.obs_dim, self.act_dim
        return Batch(
            obs=rows[..., :o],
            action=rows[..., o : o + a],
            next_obs=rows[..., o + a : 2 * o + a],
            reward=rows[..., -3],
            mask=rows[..., -2],
            to_go=rows[..., -1],
        )


def moments(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what observations (N, obs) are standardised with: mean, and standard deviation + 1e-3, float32."""
    mean = observations.mean(0, dtype=np.float64).astype(np.float32)
    return mean, (observations.std(0, dtype=np.float64) + STD_EPSILON).astype(np.float32)


def discounted_to_go(rewards: np.ndarray, starts: np.ndarray, discount: float) -> np.ndarray:
    """Return Σ_k γ^k r_{t+k} up to the end of each episode, (N,) float64. Nothing is added after a time limit."""
    out = np.zeros(len(rewards))
    ends = np.append(starts[1:], len(rewards))
    lengths = ends - starts
    running = np.zeros(len(starts))
    # Backwards through all episodes at once: as many steps as the longest one has.
    for back in range(1, int(lengths.max()) + 1):
        alive = lengths >= back
        rows = ends[alive] - back
        running[alive] = rewards[rows] + discount * running[alive]
        out[rows] = running[alive]
    return out


@dataclass(frozen=True, eq=False)
class OfflineData:
    """D datasets on the device.

    Attributes:
        rows: (N, width) f32, all datasets.
        layout: what a row holds.
        offset: (D,) where each begins.
        size: (D,) its rows.
        row_after: for each dataset (E + 1,), the rows that its best e episodes take.
        mean: (D, obs) f32, what observations were standardised with ...
        std: (D, obs) f32, ... the standard deviation with its ε added.
        scale: (D,) what rewards were multiplied by.
        bias: what was added to them.
        returns: for each dataset (E,) the episode returns in its own units, best first.
        discount: γ of the returns to go.
    """

    rows: Array
    layout: Layout
    offset: np.ndarray
    size: np.ndarray
    row_after: tuple[np.ndarray, ...]
    mean: np.ndarray
    std: np.ndarray
    scale: np.ndarray
    bias: float
    returns: tuple[np.ndarray, ...]
    discount: float = 0.99

    @classmethod
    def pack(
        cls,
        datasets: Sequence[EpisodeDataset],
        *,
        discount: float = 0.99,
        normalize_observations: bool = True,
        normalize_rewards: bool = False,
        reward_scale: float = 1.0,
        reward_bias: float = 0.0,
        mean: np.ndarray | None = None,
        std: np.ndarray | None = None,
        scales: np.ndarray | None = None,
        semantics: Literal["exact", "d4rl"] = "exact",
    ) -> OfflineData:
        """Pack datasets whose actions are canonical (in [-1, 1]).

        Args:
            datasets: one or more, of the same dimensions; "exact" needs stored next (or final) observations.
            discount: γ of the returns to go.
            normalize_observations: standardise by each dataset's own mean and standard deviation.
            normalize_rewards: scale by 1000 / (best - worst episode return), as IQL does.
            reward_scale: multiply rewards by this.
            reward_bias: then add this.
            mean: (D, obs), to standardise with instead: a frozen normaliser of an earlier phase.
            std: (D, obs), with its ε added.
            scales: (D,), what to multiply rewards by instead of `reward_scale`: that of an earlier phase.
            semantics: which steps become rows, and what their next observation is (`EpisodeDataset.transitions`).
                Returns to go count every stored reward, also that of a last step that "d4rl" leaves out.

        Raises:
            UserError: dimensions differ, an action is outside [-1, 1], returns that should scale are all equal, or
                next observations are needed and there are none.
        """
        if not datasets:
            raise UserError("There is no dataset to pack: give at least one.")
        blocks, used_scales, means, stds, prefixes, returns = [], [], [], [], [], []
        layout = None
        for number, dataset in enumerate(datasets):
            here = Layout(int(np.prod(dataset.observations.shape[1:])), int(np.prod(dataset.actions.shape[1:])))
            layout = layout or here
            if here != layout:
                raise UserError(
                    f"{dataset.where} has observations of {here.obs_dim} and actions of {here.act_dim} numbers, the "
                    f"first dataset {layout.obs_dim} and {layout.act_dim}: train them in separate runs."
                )
            beyond = float(np.abs(dataset.actions).max())
            if beyond > 1 + 1e-5:
                raise UserError(
                    f"{dataset.where}: an action is {beyond:g}, outside [-1, 1]: load the dataset for its environment "
                    "(policy_finetune.load_for), which rescales actions."
                )
            if semantics == "exact" and dataset.next_observations is None and dataset.final_observations is None:
                raise UserError(
                    f"{dataset.where}: no next observations are stored: use {setting('semantics', 'd4rl')}, which "
                    "leaves out the last step of an episode unless it is terminal."
                )
            gains = dataset.returns()
            order = np.argsort(-gains, kind="stable")
            gains = gains[order]
            scale = reward_scale if scales is None else float(scales[number])
            if normalize_rewards:
                if gains[0] <= gains[-1]:
                    raise UserError(
                        f"{dataset.where}: all episodes have the return {gains[0]:g}, so rewards cannot be scaled by "
                        f"their range: use {setting('normalize_rewards', False)}."
                    )
                scale = reward_scale * 1000.0 / (gains[0] - gains[-1])
            flat = dataset.transitions(semantics)
            if not len(flat.rows):
                raise UserError(f"{dataset.where}: no transition is left under the semantics {semantics!r}.")
            place = np.empty(dataset.num_episodes, np.int64)  # of each episode, best first
            place[order] = np.arange(dataset.num_episodes)
            places = place[dataset.episode_of_row[flat.rows]]
            sort = np.argsort(places, kind="stable")
            obs, following = flat.observations[sort].reshape(-1, layout.obs_dim), flat.next_observations[sort]
            m = np.zeros(layout.obs_dim, np.float32) if mean is None else mean[number]
            s = np.ones(layout.obs_dim, np.float32) if std is None else std[number]
            if mean is None and normalize_observations:
                m, s = moments(obs)
            rewards = dataset.rewards.astype(np.float32).astype(np.float64) * scale + reward_bias
            to_go = discounted_to_go(rewards, dataset.episode_starts, discount)
            rows = flat.rows[sort]
            block = np.empty((len(rows), layout.width), np.float32)
            o, a = layout.obs_dim, layout.act_dim
            block[:, :o] = (obs - m) / s
            block[:, o : o + a] = np.clip(flat.actions[sort].reshape(-1, a), -1.0, 1.0)
            block[:, o + a : 2 * o + a] = (following.reshape(-1, o) - m) / s
            block[:, -3] = rewards[rows]
            block[:, -2] = 1.0 - flat.terminals[sort]
            block[:, -1] = to_go[rows]
            blocks.append(block)
            used_scales.append(scale)
            means.append(m)
            stds.append(s)
            prefixes.append(np.append(0, np.cumsum(np.bincount(places, minlength=dataset.num_episodes))))
            returns.append(gains)
        assert layout is not None
        size = np.array([len(block) for block in blocks], np.int32)
        return cls(
            rows=jnp.asarray(np.concatenate(blocks)),
            layout=layout,
            offset=(np.cumsum(size) - size).astype(np.int32),
            size=size,
            row_after=tuple(prefixes),
            mean=np.stack(means).astype(np.float32),
            std=np.stack(stds).astype(np.float32),
            scale=np.array(used_scales),
            bias=reward_bias,
            returns=tuple(returns),
            discount=discount,
        )

    @classmethod
    def of(cls, datasets: Sequence[EpisodeDataset], config: OfflineConfig) -> OfflineData:
        """Pack as an offline configuration says."""
        return cls.pack(
            datasets,
            discount=getattr(config.structure, "discount", 0.99),  # which cloning has none of
            normalize_observations=config.normalize_observations,
            normalize_rewards=config.normalize_rewards,
            reward_scale=config.reward_scale,
            reward_bias=config.reward_bias,
            semantics=config.loading.semantics or "exact",
        )

    @functools.cached_property
    def digest(self) -> str:
        """Hexadecimal digits that tell the rows apart: whether a run continues with the data that it began with."""
        return hashlib.sha256(np.asarray(self.rows).tobytes()).hexdigest()[:16]

    @property
    def num_datasets(self) -> int:
        """D."""
        return len(self.size)

    def rows_of_top(self, dataset: int, fraction: float) -> int:
        """Return how many rows the best `fraction` of a dataset's episodes take (at least one episode)."""
        ends = self.row_after[dataset]
        return int(ends[max(1, int(np.ceil(fraction * (len(ends) - 1) - 1e-9)))])

    def mean_to_go(self, dataset: int, fraction: float = 1.0) -> float:
        """Return the mean discounted return to go over the best `fraction` of a dataset's episodes, scaled rewards."""
        first = int(self.offset[dataset])
        rows = self.rows[first : first + self.rows_of_top(dataset, fraction), -1]
        return float(np.asarray(rows).mean(dtype=np.float64))


def draw(key: Array, shape: tuple[int, ...], size: Array) -> Array:
    """Return integers uniform in [0, size), i32."""
    return jax.random.randint(key, shape, 0, jnp.maximum(size, 1))
