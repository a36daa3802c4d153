"""Policies in the environment's units: what a user's own loop does with them."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop.seeds import fold_seed
from policy_finetune.config import ActorNetwork, BCConfig, OfflineConfig
from policy_finetune.envs.acting import HostPolicy, Policy
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.trainers.offline import OfflineTrainer


class Wide(gymnasium.Env):
    """Actions in [-3, 3]; the reward is -(a - 1.5 s)², s in [-1, 1] is observed twice."""

    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        self.action_space = gymnasium.spaces.Box(-3, 3, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def _seen(self):
        self.s = self.np_random.uniform(-1, 1)
        return np.full(2, self.s)

    def step(self, action):
        reward = -float((action[0] - 1.5 * self.s) ** 2)
        return self._seen(), reward, False, False, {}


@pytest.fixture(scope="module")
def spec():
    gymnasium.register("PfWide-v0", entry_point=Wide, max_episode_steps=10)
    yield EnvSpec.of("PfWide-v0")
    del gymnasium.registry["PfWide-v0"]


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    return HostPolicy(
        [(rng.normal(size=(3, 2, 4)), np.zeros((3, 1, 4))), (rng.normal(size=(3, 4, 1)), np.zeros((3, 1, 1)))]
    )


def test_the_obvious_loop_gets_what_evaluation_says(spec, network):
    found = evaluate(Policy(network, spec), spec, episodes=1, seed=3)
    np.testing.assert_array_equal(found.returns, evaluate(network, spec, episodes=1, seed=3).returns)
    for i in range(3):
        policy = Policy(network, spec).agent(i)
        env = gymnasium.make("PfWide-v0")
        observation, _ = env.reset(seed=fold_seed(3, "evaluation", 0))
        total, done = 0.0, False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(policy.predict(observation))
            total, done = total + reward, terminated or truncated
        assert total == pytest.approx(found.returns[i, 0], rel=1e-6)


def test_one_observation_or_a_batch_in_the_environments_units(spec, network):
    rows = np.random.default_rng(1).normal(size=(5, 2))  # float64, as many environments give them
    policy = Policy(network, spec).agent(1)
    batch = policy.predict(rows)
    assert batch.shape == (5, 1)
    np.testing.assert_array_equal(policy.predict(rows[2]), batch[2])
    np.testing.assert_allclose(batch[:, 0], 3 * network(np.tile(rows, (3, 1, 1)))[1, :, 0], rtol=1e-6)
    assert np.abs(batch).max() > 1  # which canonical actions never are


def test_what_cannot_be_asked_is_one_sentence(spec, network):
    policy = Policy(network, spec)
    with pytest.raises(UserError, match=r"3 agents: take one with policy.agent\(0\)"):
        policy.predict(np.zeros(2))
    with pytest.raises(UserError, match="no agent 3: there are 3"):
        policy.agent(3)
    with pytest.raises(UserError, match=r"shape \(3,\), not \(2,\)"):
        policy.agent(0).predict(np.zeros(3))
    with pytest.raises(UserError, match="of another environment"):
        Policy(network, EnvSpec.of("Pendulum-v1"))


def test_a_trainer_without_an_environment_says_what_to_give(spec, make_dataset):
    learner = BCConfig(network=ActorNetwork(hidden=(4,)), batch_size=8)
    config = OfflineConfig(learner=learner, updates=4, updates_per_step=4)
    data = make_dataset(obs=2)
    bare, knows = OfflineTrainer(config, data), OfflineTrainer(config, data, spec=spec)
    state = bare.init(0)
    with pytest.raises(UserError, match=r"trainer.policy\(state, EnvSpec.of.*canonical_policy"):
        bare.policy(state)
    rows = np.ones((4, 2))
    np.testing.assert_array_equal(bare.policy(state, spec).predict(rows), knows.policy(state).predict(rows))
    np.testing.assert_allclose(
        knows.policy(state).predict(rows), 3 * knows.canonical_policy(state)(rows[None])[0], rtol=1e-6
    )


def test_a_dict_observation_goes_in_as_it_is(spec):
    keyed = dataclasses.replace(spec, observation_keys=("a", "b"))
    policy = Policy(HostPolicy.single([(np.eye(2), np.zeros(2)), (np.ones((2, 1)), np.zeros(1))]), keyed)
    parts = {"b": np.array([0.5]), "a": np.array([[0.25]]), "c": np.zeros(7)}
    np.testing.assert_array_equal(policy.predict(parts), policy.predict(np.array([0.25, 0.5])))
    np.testing.assert_allclose(policy.predict(parts), [3 * np.tanh(0.75)], rtol=1e-6)
