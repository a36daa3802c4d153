"""Learning co-players: the closed-form table against the general learner, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from opshape.agents import credit
from opshape.agents.encoders import OneHot
from opshape.agents.learners import Learner, PPOSettings
from opshape.agents.players import Episode, MemoryOne, PolicyPlayer
from opshape.agents.policies import Recurrent, Tabular
from opshape.agents.strategies import STRATEGIES
from opshape.agents.tabular import TabularLearner
from opshape.games.matrix import IteratedMatrixGame
from opshape.games.payoffs import PAYOFFS
from opshape.play.trial import Trial

TRIAL = Trial(IteratedMatrixGame(PAYOFFS["ipd"]), steps=10, episodes=4, games=2)
ALL_D = MemoryOne(STRATEGIES["all_d"])


def run(trial, first, second, **options):
    """Play a trial from fresh minds, compiled as one program."""
    players = (first, second)

    def play(key):
        minds = tuple(player.init(jax.random.key(0)) for player in players)
        return trial(players, minds, key, **options)

    return jax.jit(play)(jax.random.key(1))


def test_advantages_by_hand():
    # gamma 0.5, lambda 0.5: delta = (1 + 1 - 1, 2 + 4 - 2) = (1, 4); A = (1 + 0.25 * 4, 4)
    found = credit.advantages(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0]), jnp.array(8.0), gamma=0.5, lam=0.5)
    np.testing.assert_allclose(found, [2.0, 4.0])


def test_alignment_by_hand():
    own, other = jnp.array([1.0, 2.0, 4.0]), jnp.array([5.0, 6.0, 7.0])
    # past = (0, 0.5 * 1, 0.25 * 1 + 0.5 * 2); A* = own + 2 * 0.5 * past * other
    np.testing.assert_allclose(credit.discounted_past(own, gamma=0.5), [0, 0.5, 1.25])
    np.testing.assert_allclose(credit.aligned(own, other, weight=2.0, gamma=0.5), [1, 2 + 3, 4 + 8.75])


@pytest.mark.parametrize("clip", [0.2, None])
def test_the_closed_form_makes_the_updates_of_automatic_differentiation(clip):
    settings = PPOSettings(clip=clip, lr=0.3)
    general, table = Learner(Tabular(5, 2), settings), TabularLearner(settings=settings)
    rewards = [run(TRIAL, ALL_D, learner) for learner in (general, table)]
    np.testing.assert_allclose(rewards[0].other_rewards, rewards[1].other_rewards)
    there, here = rewards[0].minds[1].params["policy"], rewards[1].minds[1].table
    np.testing.assert_allclose(here.logits, there["logits"], atol=2e-5)
    np.testing.assert_allclose(here.value, there["value"], atol=2e-5)
    assert np.abs(here.logits - 0.5).max() > 0.1


def test_mapped_tables_learn_as_each_would_alone():
    """Over seeds and co-players, whose samples are shuffled differently, and candidates, whose are shuffled alike."""
    learner, shape = TabularLearner(), (2, 3, 2)  # seeds, candidates, co-players
    key = jax.random.key(0)
    record = tuple(jax.random.randint(key, (*shape, 4, 2), 0, n) for n in (5, 2))
    rewards, after = jax.random.normal(key, (*shape, 4, 2)), jax.random.randint(key, (*shape, 2), 0, 5)
    keys = jax.random.split(key, (2, 2))

    def learn(key, record, rewards, after):
        episode = Episode(record, rewards, rewards, after, jnp.zeros(()))
        return learner.between(learner.init(key), (), episode, key)[0]

    over_co_players = jax.vmap(learn)
    over_candidates = jax.vmap(over_co_players, in_axes=(None, 0, 0, 0))
    mapped = jax.jit(jax.vmap(over_candidates))(keys, record, rewards, after)
    alone = jax.jit(learn)
    for s, p, k in np.ndindex(shape):
        one = alone(keys[s, k], tuple(x[s, p, k] for x in record), rewards[s, p, k], after[s, p, k])
        jax.tree.map(lambda x, y, at=(s, p, k): np.testing.assert_allclose(x[at], y, rtol=1e-5, atol=1e-6), mapped, one)


@pytest.mark.parametrize(
    "learner",
    [
        TabularLearner(),
        Learner(Recurrent(OneHot(5), 2, 4), PPOSettings(lr=0.1)),
        Learner(Tabular(5, 2), PPOSettings(clip=None, epochs=1, minibatches=1, max_norm=1.0)),
    ],
    ids=["table", "recurrent", "reinforce"],
)
def test_learners_come_to_defect_against_a_defector(learner):
    trial = Trial(IteratedMatrixGame(PAYOFFS["ipd"]), steps=20, episodes=15, games=4)
    played = run(trial, ALL_D, learner)
    assert played.other_rewards[0] < -2.2  # from a coin's toss, -2.5
    assert played.other_rewards[-3:].mean() > -2.15


def test_a_stop_freezes_the_learner():
    learner = TabularLearner()
    fresh = learner.init(jax.random.key(0))
    play = jax.jit(lambda stop: TRIAL((ALL_D, learner), ((), fresh), jax.random.key(1), stop=stop).minds[1])
    frozen, once, late, never = (play(stop) for stop in (0, 1, 4, 99))
    jax.tree.map(np.testing.assert_array_equal, frozen, fresh)
    jax.tree.map(np.testing.assert_array_equal, late, never)
    assert once.count == 8  # two epochs of four minibatches
    assert never.count == 32


def test_a_stable_softmax_keeps_a_table_with_huge_logits_finite():
    learner = TabularLearner(settings=PPOSettings(minibatches=1, epochs=1))
    mind = learner.init(jax.random.key(0))
    mind = mind._replace(table=mind.table._replace(logits=jnp.array([[1e4, -1e4]] * 5)))
    episode = Episode((jnp.zeros((3, 2), int), jnp.zeros((3, 2), int)), jnp.ones((3, 2)), jnp.ones((3, 2)),
                      jnp.zeros(2, int), jnp.ones(()))  # fmt: skip
    after, _ = jax.jit(learner.between)(mind, (), episode, jax.random.key(0))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


@pytest.mark.parametrize("unrolled", [False, True])
def test_the_gru_is_haikus(unrolled):
    from opshape.agents.nets import gru

    rng = np.random.default_rng(0)
    x, h = rng.normal(size=(2, 3)), rng.normal(size=(2, 4))
    w_i, w_h, b = rng.normal(size=(3, 12)), rng.normal(size=(4, 12)), rng.normal(size=12)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    z = sigmoid(x @ w_i[:, :4] + h @ w_h[:, :4] + b[:4])
    r = sigmoid(x @ w_i[:, 4:8] + h @ w_h[:, 4:8] + b[4:8])
    a = np.tanh(x @ w_i[:, 8:] + (r * h) @ w_h[:, 8:] + b[8:])
    found = gru({"w_h": jnp.array(w_h)}, jnp.array(x @ w_i + b), jnp.array(h), unrolled=unrolled)
    np.testing.assert_allclose(found, (1 - z) * h + z * a, atol=1e-5)


def test_hidden_states_last_over_episodes_only_with_context():
    class Shifted(Recurrent):
        """Parameters that are far from 0, so that hidden states matter."""

        def init(self, key):
            noise = lambda x: x + jax.random.normal(jax.random.key(3), x.shape)  # noqa: E731
            return jax.tree.map(noise, super().init(key))

    kept, dropped = (
        run(TRIAL, PolicyPlayer(Shifted(OneHot(5), 2, 4, context=context)), ALL_D).rewards for context in (True, False)
    )
    assert kept[0] == dropped[0]
    assert (kept != dropped).any()
