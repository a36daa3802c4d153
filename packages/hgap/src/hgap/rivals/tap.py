"""TAP, the planner that H-GAP grew from, as a rival that is trained for one objective.

Jiang et al., Efficient Planning in a Compact Latent Action Space (ICLR 2023), https://arxiv.org/abs/2208.10291: one
code a latent step, an autoencoder of states, actions, rewards and returns to go, and a beam search for the plan of the
highest return that is likely enough. Autoencoder and prior are ours, of the same sizes as the rival's; rewards and
returns to go travel as two more numbers of an action, and so are decoded without being given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hgap.config import Data, TrainConfig
from hgap.fitting import fit
from hgap.loading import Model
from paperloop.settings import replace_in
from paperloop_data import EpisodeDataset

__all__ = ["TAP", "Beam", "beam_search", "train_tap", "with_returns"]


class Beam(NamedTuple):
    """Settings of the search, with TAP's values.

    Attributes:
        width: plans that are kept after each code.
        expand: codes drawn for each of them.
        discount: gamma, of rewards and of the returns to go.
        threshold: a plan is likely enough where its codes have this probability each, on average.
        penalty: of a plan's missing log-probability.
    """

    width: int = 64
    expand: int = 4
    discount: float = 0.99
    threshold: float = 0.05
    penalty: float = 500.0


def with_returns(data: EpisodeDataset, discount: float) -> EpisodeDataset:
    """Return the data with the reward and the discounted return to go of each step at the end of its action."""
    extra = []
    for episode in data:
        to_go = np.zeros(len(episode.rewards))
        after = 0.0
        for t in reversed(range(len(to_go))):
            after = to_go[t] = float(episode.rewards[t]) + discount * after
        extra.append(np.stack([episode.rewards, to_go], 1))
    actions = np.concatenate([np.asarray(data.actions), np.concatenate(extra)], 1).astype(np.float32)
    return data.replace(actions=actions)


def train_tap(data: EpisodeDataset, like: TrainConfig, out: Path, *, beam: Beam | None = None, seed: int = 0) -> TAP:
    """Return the planner that is trained on relabelled data; continues what is in `out`.

    Args:
        data: of `hgap.rivals.specialists.relabel`.
        like: sizes and training of the model that it is a rival of.
        out: a folder for the data and the runs.
        beam: settings of the search.
        seed: everything random follows from it.
    """
    beam = beam or Beam()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "data.npz"
    if not path.exists():
        with_returns(data, beam.discount).save(path)
    config = replace_in(like, {"autoencoder.codes.per_step": 1, "seeds": 1})
    return TAP(fit(Data(path=str(path), model=config), out, seed=seed, progress=False)[0], beam)


class TAP:
    """The beam search as a controller."""

    def __init__(self, model: Model, beam: Beam) -> None:
        self._model, self._beam = model, beam
        self._search = jax.jit(lambda first, key: beam_search(model, first, key, beam))

    def begin(self, copies: int, seed: int) -> None:
        """Seed the draws."""
        self._key, self._done = jax.random.key(seed), 0

    def act(self, states: np.ndarray, observations: np.ndarray) -> np.ndarray:
        """Return the first actions of the best plans."""
        self._done += 1
        first = self._model.state_scale.normalise(jnp.asarray(observations, jnp.float32))
        actions, _ = self._search(first, jax.random.fold_in(self._key, self._done))
        return np.asarray(actions[:, 0, :-2])


def beam_search(model: Model, first: Array, key: Array, beam: Beam) -> tuple[Array, Array]:
    """Return the best plans' actions with reward and return to go [E, T, A + 2], and their scores [E].

    A prefix of i codes, i L steps long, is worth sum_{t < iL} gamma^t r_t + gamma^{iL} R_{iL}, minus the penalty where
    its log-probability is below that of the threshold for a whole plan. Networks are causal, so the decoded
    beginning does not depend on the codes that are not drawn yet.

    Args:
        model: of `train_tap`.
        first: normalised states [E, S].
        key: of the draws.
        beam: settings.
    """
    environments, tokens = len(first), model.autoencoder.tokens
    likely = tokens * jnp.log(beam.threshold)
    codes = jnp.zeros((environments, beam.width, tokens), jnp.int32)
    log_prob = jnp.zeros((environments, beam.width))
    actions = scores = jnp.zeros(0)
    for i in range(tokens):
        rows = codes.reshape(-1, tokens)
        logits: Any = model.prior.apply(model.params, rows, jnp.repeat(first, codes.shape[1], axis=0))
        log_p = jax.nn.log_softmax(logits[:, i])
        drawn = jax.random.categorical(jax.random.fold_in(key, i), log_p[:, None], shape=(len(rows), beam.expand))
        shape = (environments, beam.width * beam.expand)
        codes = jnp.repeat(codes, beam.expand, axis=1).at[..., i].set(drawn.reshape(shape))
        log_prob = jnp.repeat(log_prob, beam.expand, axis=1)
        log_prob = log_prob + jnp.take_along_axis(log_p, drawn, -1).reshape(shape)
        vectors = model.autoencoder.vectors(model.weights, codes.reshape(-1, tokens))
        _, decoded = model.autoencoder.decode(model.weights, vectors, jnp.repeat(first, shape[1], axis=0))
        actions = model.action_scale.restore(decoded).reshape(*shape, *decoded.shape[1:])
        steps = (i + 1) * model.config.autoencoder.codes.latent_step
        discounts = beam.discount ** jnp.arange(1, steps + 1)
        paid = (actions[:, :, : steps - 1, -2] * discounts[:-1]).sum(-1)
        scores = paid + discounts[-1] * actions[:, :, steps - 1, -1]
        scores = scores + beam.penalty * jnp.minimum(log_prob, likely)
        scores, best = jax.lax.top_k(scores, beam.width if i < tokens - 1 else 1)
        codes, log_prob, actions = (
            jax.vmap(lambda row, at: row[at])(x, best) for x in (codes, log_prob, actions)
        )  # fmt: skip
    return actions[:, 0], scores[:, 0]
