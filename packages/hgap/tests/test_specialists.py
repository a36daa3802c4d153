"""Rivals that are trained for one objective: relabelled rewards, TAP's channels and search, IQL and TD3+BC."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgap.config import EMA, AutoencoderConfig, Codes, PriorConfig, TrainConfig, Width, Windows
from hgap.data.windows import Scale
from hgap.envs.objectives import Weighted
from hgap.model.layers import draw_parameters
from hgap.model.prior import Prior
from hgap.rivals.specialists import relabel, train_specialist
from hgap.rivals.tap import Beam, beam_search, train_tap, with_returns
from paperloop import UserError
from paperloop_data import EpisodeDataset

SLICES = {"velocity_x": (1, 2)}


def motion(episodes=4, steps=12, seed=0):
    rng = np.random.default_rng(seed)
    ends = np.zeros(episodes * steps, bool)
    ends[steps - 1 :: steps] = True
    return EpisodeDataset(
        observations=rng.standard_normal((episodes * steps, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, (episodes * steps, 2)).astype(np.float32), rewards=np.zeros(episodes * steps),
        terminated=np.zeros_like(ends), truncated=ends,
        final_observations=rng.standard_normal((episodes, 3)).astype(np.float32),
    )  # fmt: skip


def test_a_step_is_paid_for_the_state_that_follows_it():
    data = relabel(motion(), Weighted({"velocity": 2.0}), SLICES)
    for episode in data:
        np.testing.assert_allclose(episode.rewards, 2 * episode.next_observations[:, 1], rtol=1e-6)
    with pytest.raises(UserError, match="returns totals"):
        relabel(motion(), lambda trajectory: trajectory["velocity_x"].sum(), SLICES)
    with pytest.raises(UserError, match="does not say which state followed"):
        relabel(motion().replace(final_observations=None), Weighted({"velocity": 1.0}), SLICES)


def test_returns_to_go_are_discounted_and_end_with_the_episode():
    data = relabel(motion(), Weighted({"velocity": 1.0}), SLICES)
    for episode, plain in zip(with_returns(data, 0.9), data, strict=True):
        expected = [sum(0.9**k * r for k, r in enumerate(plain.rewards[t:])) for t in range(len(plain.rewards))]
        np.testing.assert_allclose(episode.actions[:, -1], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(episode.actions[:, -2], plain.rewards)
        np.testing.assert_array_equal(episode.actions[:, :-2], plain.actions)


class Paid:
    """Stands for an autoencoder: code k of latent step i pays PAY[k] in both of its control steps, value 10 k."""

    tokens, state_size, action_size, steps = 3, 1, 3, 6

    def vectors(self, weights, codes):
        return codes.astype(jnp.float32)

    def decode(self, weights, vectors, first):
        pay = jnp.asarray(PAY)[vectors.astype(jnp.int32)]
        decoded = jnp.stack([vectors, pay, 10 * vectors], -1).repeat(2, axis=1)
        return jnp.zeros((len(vectors), 6, 1)), decoded


PAY = (0.0, 1.0, -1.0, 3.0)


def test_the_beam_finds_what_brute_force_finds():
    """Without a choice before the end it is the best of all plans; of one plan it is greedy, code by code."""
    prior = Prior(Width(width=16, heads=2, blocks=1), 4, 3)
    params = draw_parameters(prior, jax.random.key(1), jnp.zeros((1, 3), jnp.int32), jnp.zeros((1, 1)))
    params = jax.tree.map(lambda x: 8 * x, params)  # so that codes differ in probability
    scale = Scale(jnp.zeros(3), jnp.ones(3), jnp.ones(3, bool), jnp.asarray(1e6))
    config = TrainConfig(windows=Windows(steps=6), autoencoder=AutoencoderConfig(codes=Codes(latent_step=2)))
    model = SimpleNamespace(
        autoencoder=Paid(), prior=prior, params=params, weights=(), action_scale=scale, config=config
    )
    first = jnp.zeros((1, 1))
    every = jnp.asarray(list(itertools.product(range(4), repeat=3)))
    log_p = jax.nn.log_softmax(prior.apply(params, every, jnp.zeros((64, 1))))
    chosen = np.asarray(jnp.take_along_axis(log_p, every[..., None], -1)[..., 0])

    def worth(prefix, penalty):
        row = next(i for i, codes in enumerate(every.tolist()) if tuple(codes[: len(prefix)]) == prefix)
        pay = [PAY[code] for code in prefix for _ in range(2)]
        value = sum(0.9 ** (t + 1) * paid for t, paid in enumerate(pay[:-1])) + 0.9 ** len(pay) * 10 * prefix[-1]
        return value + penalty * min(chosen[row, : len(prefix)].sum(), 3 * np.log(0.3))

    def search(**settings):
        beam = Beam(discount=0.9, threshold=0.3, **settings)
        actions, score = jax.jit(lambda key: beam_search(model, first, key, beam))(jax.random.key(0))
        return tuple(np.asarray(actions[0, ::2, 0], int)), float(score[0])

    found, score = search(width=2048, expand=1, penalty=5.0)
    values = {tuple(codes): worth(tuple(codes), 5.0) for codes in every.tolist()}
    assert found == max(values, key=values.get)
    assert score == pytest.approx(max(values.values()), rel=1e-4)
    found, score = search(width=1, expand=512, penalty=500.0)
    greedy = ()
    for _ in range(3):
        greedy = max(((*greedy, code) for code in range(4)), key=lambda prefix: worth(prefix, 500.0))
    assert found == greedy
    assert score == pytest.approx(worth(greedy, 500.0), rel=1e-4)


@pytest.mark.slow
def test_tap_trains_and_acts(tmp_path):
    like = TrainConfig(
        windows=Windows(steps=4, held_out=0.25),
        autoencoder=AutoencoderConfig(
            codes=Codes(latent_step=2, per_step=2, quantizer=EMA(codes=8, size=4)),
            size=Width(width=16, heads=2, blocks=1), updates=4, batch=8,
        ),
        prior=PriorConfig(size=Width(width=16, heads=2, blocks=1), updates=4, batch=8), updates_per_step=2,
    )  # fmt: skip
    tap = train_tap(
        relabel(motion(), Weighted({"velocity": 1.0}), SLICES), like, tmp_path, beam=Beam(width=4, expand=2)
    )
    tap.begin(3, seed=0)
    action = tap.act(np.zeros((3, 0)), np.zeros((3, 3), np.float32))
    assert action.shape == (3, 2)
    assert np.isfinite(action).all()


@pytest.mark.slow
def test_offline_learners_learn_what_is_paid():
    """One step decides: the reward is minus the squared distance of the action from the state's half."""
    pytest.importorskip("policy_finetune")
    rng = np.random.default_rng(0)
    states, actions = rng.uniform(-2, 2, (4000, 1)), rng.uniform(-2, 2, (4000, 1))
    data = EpisodeDataset(
        observations=states, actions=actions, rewards=-((actions - 0.5 * states) ** 2)[:, 0],
        terminated=np.ones(4000, bool), truncated=np.zeros(4000, bool), final_observations=states,
    )  # fmt: skip
    body = SimpleNamespace(env_id="Toy", max_steps=1)
    simulator = SimpleNamespace(body=body, observation_size=1, action_low=np.full(1, -2.0), action_high=np.full(1, 2.0))
    acting = train_specialist("iql", data, simulator, updates=500)
    acting.begin(3, seed=0)
    wanted = np.array([[-1.5], [0.0], [1.5]])
    np.testing.assert_allclose(acting.act(wanted, wanted), 0.5 * wanted, atol=0.35)
