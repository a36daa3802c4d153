"""What a random policy gets: on record, or measured."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from paperloop.errors import NonFiniteError, UserError
from policy_finetune.envs.references import RANDOM_RETURNS, random_return
from policy_finetune.envs.rollouts import UniformPolicy, evaluate
from policy_finetune.envs.spec import EnvSpec


@pytest.mark.parametrize(
    ("env_id", "episodes", "near"),
    # About four standard errors of the measurement.
    [("Hopper-v5", 300, 5), ("InvertedDoublePendulum-v5", 300, 4), ("HalfCheetah-v5", 8, 110)],
)
def test_recorded_values_are_what_is_measured(env_id, episodes, near):
    assert random_return(env_id) == RANDOM_RETURNS[env_id]
    assert abs(RANDOM_RETURNS[env_id]) > 2 * near  # a return of 0 does not pass
    spec = EnvSpec.of(env_id)
    measured = evaluate(UniformPolicy(spec, 5), spec, episodes=episodes, seed=5).mean[0]
    assert abs(measured - RANDOM_RETURNS[env_id]) < near


def test_a_measurement_agrees_with_a_plain_loop():
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(0)
    returns = []
    for episode in range(40):
        env.reset(seed=episode)
        gained, ended = 0.0, False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            gained, ended = gained + reward, terminated or truncated
        returns.append(gained)
    error = np.std(returns) * np.sqrt(1 / 40 + 1 / 20)
    assert abs(random_return("Pendulum-v1") - np.mean(returns)) < 4 * error


class Counting(gymnasium.Env):
    """Ten steps an episode, each worth the episode's number."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))
    episodes = 0

    def reset(self, *, seed=None, options=None):
        Counting.episodes += 1
        self.step_number = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.step_number += 1
        return np.zeros(1, np.float32), float(Counting.episodes), self.step_number == 10, False, {}


class Broken(Counting):
    def step(self, action):
        return np.zeros(1, np.float32), np.nan, True, False, {}


@pytest.fixture
def counting():
    Counting.episodes = 0
    gymnasium.register("Counting-v0", Counting, max_episode_steps=100)
    gymnasium.register("Broken-v0", Broken, max_episode_steps=100)
    yield
    del gymnasium.registry["Counting-v0"], gymnasium.registry["Broken-v0"]


def test_it_is_measured_once(counting):
    first = random_return("Counting-v0")
    assert Counting.episodes == 20
    assert random_return("Counting-v0") == first
    assert Counting.episodes == 20


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(UserError, match="'Nonesuch-v0' cannot be made"):
        random_return("Nonesuch-v0")


def test_a_reward_that_is_no_number_is_named(counting):
    with pytest.raises(NonFiniteError, match="Broken-v0"):
        random_return("Broken-v0")


def test_neither_looking_up_nor_measuring_needs_jax():
    code = "import sys; from policy_finetune.envs.references import random_return"
    code += "; random_return('Pendulum-v1'); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
