"""Invariances of trials."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from opshape.agents.encoders import OneHot
from opshape.agents.mfos import MFOS
from opshape.agents.players import MemoryOne, PolicyPlayer
from opshape.agents.policies import Mixer, Recurrent
from opshape.agents.strategies import STRATEGIES
from opshape.agents.tabular import TabularLearner
from opshape.games.coin_game import CoinGame
from opshape.games.matrix import IteratedMatrixGame
from opshape.games.payoffs import PAYOFFS, swap
from opshape.play.trial import Trial

IPD = IteratedMatrixGame(PAYOFFS["ipd"])


def fixed(name):
    return MemoryOne(STRATEGIES[name])


def play(first, second, *, game=IPD, steps=10, episodes=2, games=2, **more):
    trial = Trial(game, steps, episodes, games, statistics=True, **more)
    minds = first.init(jax.random.key(0)), second.init(jax.random.key(1))
    return jax.jit(lambda minds, key: trial((first, second), minds, key))(minds, jax.random.key(2))


def test_fixed_strategies_pay_what_they_must():
    played = play(fixed("tit_for_tat"), fixed("all_d"))
    np.testing.assert_allclose(played.rewards, [-2.1, -2.1], atol=1e-6)  # -3 once, then -2 nine times
    np.testing.assert_allclose(played.other_rewards, [-1.8, -1.8], atol=1e-6)
    np.testing.assert_allclose(played.statistics["visits"][0], [0, 1, 0, 8, 1])  # CD, eight times DD, START
    np.testing.assert_allclose(played.statistics["cooperations"][0], [0, 0, 0, 0, 1])


def test_the_last_step_can_be_without_pay():
    played = play(fixed("all_d"), fixed("all_d"), last_pays=False)
    np.testing.assert_allclose(played.rewards, [-1.8, -1.8], atol=1e-6)


def test_swapping_the_players_swaps_what_they_get():
    imp = IteratedMatrixGame(PAYOFFS["imp"])
    other = IteratedMatrixGame(swap(PAYOFFS["imp"]))
    there = play(fixed("tit_for_tat"), fixed("win_stay_lose_shift"), game=imp)
    back = play(fixed("win_stay_lose_shift"), fixed("tit_for_tat"), game=other)
    np.testing.assert_allclose(there.rewards, back.other_rewards)
    np.testing.assert_allclose(there.other_rewards, back.rewards)


def test_averaging_follows_a_permutation_of_the_games_and_does_nothing_to_one():
    h = jax.random.normal(jax.random.key(0), (4, 16))
    order = jnp.array([2, 0, 3, 1])
    for kind in ("avg", "att"):
        mixer = Mixer(kind, 16)
        params, mix = jax.jit(mixer.init)(jax.random.key(1)), jax.jit(mixer.apply)
        np.testing.assert_allclose(mix(params, h)[order], mix(params, h[order]), atol=1e-5)
    np.testing.assert_array_equal(Mixer("avg", 16).apply({}, h[:1]), h[:1])
    # half of itself and half of the mean
    np.testing.assert_allclose(Mixer("avg", 1).apply({}, jnp.array([[0.0], [4.0]])), [[1.0], [3.0]])


def test_context_reaches_the_next_episode_and_history_does_not():
    policies = {
        (context, history): Recurrent(OneHot(5), 2, 4, context=context, history=history)
        for context in (True, False)
        for history in (True, False)
    }
    params = jax.jit(policies[True, True].init)(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), params)
    seen = jnp.array([3])

    @partial(jax.jit, static_argnums=0)
    def logits(policy, first, second):
        """What the policy does with the second observation of an episode, after an episode of one step."""
        memory = policy.start(params, 1)
        memory, *_ = policy.apply(params, memory, jnp.array([first]))
        memory = policy.turn(params, memory)
        memory, *_ = policy.apply(params, memory, jnp.array([second]))
        return policy.apply(params, memory, seen)[1]

    for (context, history), policy in policies.items():
        before, during = logits(policy, 0, 1) - logits(policy, 2, 1), logits(policy, 0, 1) - logits(policy, 0, 2)
        assert bool(jnp.any(before != 0)) == context
        assert bool(jnp.any(during != 0)) == history


def test_mfos_passes_context_through_theta_only():
    policy = MFOS(OneHot(5), 2, 4)
    params = jax.jit(policy.init)(jax.random.key(0))
    memory, *_ = jax.jit(policy.apply)(params, policy.start(params, 2), jnp.array([0, 1]))
    turned = policy.turn(params, memory)
    assert not turned.hidden.any()
    assert not np.allclose(turned.theta, 1)
    assert np.all(MFOS(OneHot(5), 2, 4, context=False).turn(params, memory).theta == 1)


def test_a_blind_shaper_sees_the_first_observation():
    """Tit for tat that sees START cooperates for ever."""
    trial = Trial(IPD, 10, 1, 2)
    players, minds = (fixed("tit_for_tat"), fixed("all_d")), ((), ())
    found = [trial(players, minds, jax.random.key(0), blind=blind).rewards[0] for blind in (2, 1)]
    np.testing.assert_allclose(found, [-3, (-3 - 2.1) / 2], atol=1e-6)


def test_candidates_share_games_and_co_players():
    """Equal candidates get equal rewards: common random numbers."""
    player, learner = PolicyPlayer(Recurrent(OneHot(5), 2, 4)), TabularLearner()
    params = jax.jit(player.init)(jax.random.key(0))
    two = jax.tree.map(lambda x: jnp.stack([x, x]), params)
    trial = Trial(IPD, 10, 3, 2)
    play = jax.vmap(lambda p: trial((player, learner), (p, learner.init(jax.random.key(1))), jax.random.key(2)).rewards)
    rewards = jax.jit(play)(two)
    np.testing.assert_array_equal(rewards[0], rewards[1])


class RandomWalk:
    """Every action alike."""

    def init(self, key):
        return ()

    def start(self, mind, games):
        return ()

    def act(self, mind, memory, observation, noise):
        return memory, (noise * 5).astype(int), ()

    def between(self, mind, memory, episode, key):
        return mind, memory


def test_rewards_of_the_coin_game_are_what_was_counted():
    played = play(RandomWalk(), RandomWalk(), game=CoinGame(), steps=50, episodes=2, games=20)
    own, foreign, stolen = (
        played.statistics[name].mean() / 50 for name in ("own_coins", "foreign_coins", "foreign_coins_other")
    )
    assert own > 0.05
    np.testing.assert_allclose(played.rewards.mean(), own + foreign - 2 * stolen, atol=1e-5)
