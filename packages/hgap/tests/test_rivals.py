"""MPPI and the cross-entropy method against LQR; cloning; the simulator against gymnasium; random search."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from hgap.data.behaviours import Behaviours, learn, read_behaviours, write_behaviours
from hgap.data.motion import Switching, make_motion
from hgap.data.search import LinearPolicy, improve, play, start
from hgap.envs.bodies import BODIES, find_body
from hgap.envs.objectives import Weighted
from hgap.envs.simulator import Rollout, Simulator
from hgap.evaluation.episodes import measure
from hgap.rivals.sampling_mpc import CEM, MPPI, SamplingMPC, path_integral
from paperloop import UserError

A, B = np.array([[1.0, 0.2], [0.0, 1.0]]), np.array([[0.02], [0.2]])
Q, R, HORIZON = np.diag([1.0, 0.1]), np.array([[0.1]]), 8
SLICES = {"all": (0, 2)}


def linear(states, actions):
    out = []
    for t in range(actions.shape[1]):
        states = states @ A.T + actions[:, t] @ B.T
        out.append(states)
    return np.stack(out, 1)


def cost(trajectory):
    s, a = trajectory.states, trajectory.actions
    return -0.5 * (np.einsum("...i,ij,...j", s, Q, s) + np.einsum("...i,ij,...j", a, R, a))


def lqr(state, effort):
    """Return the first action of the least sum of half quadratic costs over the horizon, by Riccati's recursion."""
    value, gain = Q, None
    for _ in range(HORIZON):
        gain = np.linalg.solve(effort + B.T @ value @ B, B.T @ value @ A)
        value = Q + A.T @ value @ (A - B @ gain)
    return -gain @ state


def controller(settings):
    limit = np.full(1, 50.0)
    return SamplingMPC(linear, cost, SLICES, -limit, limit, settings)


def test_mppis_first_action_is_that_of_lqr():
    """One update from zero is the mean of N(0, s^2) weighted by exp(-J / lambda): it minimises J + lambda |u|^2 / 2s^2.

    So it is LQR with the effort R + lambda / s^2, exactly, up to the error of sampling.
    """
    sigma, temperature, state = 1.0, 0.5, np.array([2.0, -0.5])
    acting = controller(MPPI(samples=4096, horizon=HORIZON, sigma=sigma / 50, temperature=None, fixed=temperature))
    acting.begin(16, seed=0)
    found = acting.act(np.tile(state, (16, 1)), np.zeros((16, 2))).mean(0)
    np.testing.assert_allclose(found, lqr(state, R + temperature / sigma**2), rtol=0.05)


def test_the_cross_entropy_method_converges_to_lqr():
    state = np.array([2.0, -0.5])
    acting = controller(CEM(samples=8000, horizon=HORIZON, sigma=2 / 50, rounds=20, elites=0.1, floor=1e-3))
    acting.begin(2, seed=0)
    found = acting.act(np.tile(state, (2, 1)), np.zeros((2, 2)))
    np.testing.assert_allclose(found, np.tile(lqr(state, R), (2, 1)), rtol=0.05)


def test_path_integral_weights_are_a_softmax():
    noise, returns = np.random.default_rng(0).standard_normal((2, 5, 3, 1)), np.array([[1.0, 2, 3, 4, 5]] * 2)
    weights = np.exp(returns / 0.7) / np.exp(returns / 0.7).sum(1, keepdims=True)
    expected = (weights[:, :, None, None] * noise).sum(1)
    np.testing.assert_allclose(path_integral(noise, returns, temperature=0.7), expected)


def test_mpc_keeps_the_rest_of_its_plan():
    acting = controller(CEM(samples=400, horizon=4, sigma=1 / 50, rounds=4))
    acting.begin(1, seed=0)
    state = np.array([[2.0, -0.5]])
    first = acting.act(state, state)
    again = controller(CEM(samples=400, horizon=4, sigma=1 / 50, rounds=4))
    again.begin(1, seed=0)
    plan = again._cem(state, again._settings)
    np.testing.assert_array_equal(first, plan[:, 0])
    np.testing.assert_array_equal(acting._mean[:, :-1], plan[:, 1:])


# The simulator

GYM = [name for name in BODIES if name != "CMUHumanoid"]
PLAIN = {
    f"include_{name}_in_observation": False for name in ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
}  # what Humanoid-v5 observes beyond positions and velocities


@pytest.mark.parametrize("name", GYM)
def test_observations_and_falls_are_those_of_gymnasium(name):
    theirs = gymnasium.make(name, **(PLAIN if name == "Humanoid-v5" else {})).unwrapped
    observation, _ = theirs.reset(seed=0)
    ours = Simulator(find_body(name), threads=1)
    state = np.concatenate([[0.0], theirs.data.qpos, theirs.data.qvel])[None]
    np.testing.assert_array_equal(ours.observe(state)[0], observation)
    assert ours.control_step == pytest.approx(theirs.dt)
    rng = np.random.default_rng(0)
    actions = rng.uniform(ours.action_low, ours.action_high, (1, 200, ours.action_size))
    after = ours.roll(state, actions)
    seen, fallen = after.observations[0], ours.fallen(after.states)[0]
    for t in range(200):
        expected, _, ended, _, _ = theirs.step(actions[0, t])
        np.testing.assert_allclose(seen[t], expected, atol=1e-6)
        assert bool(fallen[t]) == ended
        if ended:
            break
    assert t > 5


def test_resets_are_drawn_as_gymnasium_draws_them():
    for name in GYM:
        ours = Simulator(find_body(name), threads=1)
        theirs = gymnasium.make(name, **(PLAIN if name == "Humanoid-v5" else {})).unwrapped
        many = np.stack([theirs.reset(seed=i)[0] for i in range(300)])
        own = ours.observe(ours.reset(300, np.random.default_rng(0)))
        np.testing.assert_allclose(own.mean(0), many.mean(0), atol=0.03)
        np.testing.assert_allclose(own.std(0), many.std(0), rtol=0.25, atol=1e-3)


def test_unknown_bodies_are_refused():
    with pytest.raises(UserError, match=r"Unknown body 'HalfCheeta-v5'.*HalfCheetah-v5"):
        find_body("HalfCheeta-v5")


class RandomActions:
    def __init__(self, simulator):
        self._simulator = simulator

    def begin(self, copies, seed):
        self._rng = np.random.default_rng(seed)

    def act(self, states, observations):
        low, high = self._simulator.action_low, self._simulator.action_high
        return self._rng.uniform(low, high, (len(states), len(low)))


def test_falls_end_an_episode_and_what_follows_does_not_count():
    simulator = Simulator(find_body("Walker2d-v5"), threads=1)
    alive = Weighted({lambda trajectory: trajectory["height"] * 0 + 1: 1.0})
    measured = measure(simulator, RandomActions(simulator), alive, episodes=6, steps=120, seed=0)
    np.testing.assert_array_equal(measured.returns, measured.lengths)
    assert measured.fell.any()
    np.testing.assert_array_equal(measured.fell, measured.lengths < 120)
    again = measure(simulator, RandomActions(simulator), alive, episodes=6, steps=120, seed=0)
    np.testing.assert_array_equal(measured.returns, again.returns)


def test_a_simulation_that_blows_up_ends_the_episode_and_is_not_averaged():
    simulator = Simulator(find_body("HalfCheetah-v5"), threads=1)
    states = simulator.reset(2, np.random.default_rng(0))
    states[0, -simulator.model.nv :] = 1e11
    after = simulator.roll(states, np.zeros((2, 3, 6)))
    assert np.isnan(after.states[0]).all()
    np.testing.assert_array_equal(simulator.fallen(after.states[:, -1]), [True, False])

    class Bursting:
        action_low, action_high, body = simulator.action_low, simulator.action_high, simulator.body
        observe, fallen = staticmethod(simulator.observe), staticmethod(simulator.fallen)

        def reset(self, count, rng):
            return states

        def roll(self, states, actions):
            return simulator.roll(states, actions)

    measured = measure(Bursting(), RandomActions(simulator), Weighted({"jump": 1.0}), episodes=2, steps=4, seed=0)
    assert np.isfinite(measured.returns).all()
    np.testing.assert_array_equal(measured.lengths, [1, 4])


# Policies and motion

SEARCH = {"top": 2, "sigma": 0.03, "step": 0.02, "alive_bonus": 0.0, "seed": 0}


def test_random_search_has_the_moments_of_all_states():
    simulator = Simulator(find_body("HalfCheetah-v5"), threads=1)
    search, seen = start(simulator), []
    for i in range(4):
        rng = np.random.default_rng([0, i])
        noise = rng.standard_normal((4, *search.weights.shape))
        policy = search.policy._replace(weights=search.weights + 0.03 * np.concatenate([noise, -noise]))
        states = np.tile(simulator.reset(4, rng), (2, 1))
        seen.append(play(simulator, policy, states, 10)[0].reshape(-1, 17))
        search = improve(search, simulator, Weighted({"velocity": 1.0}), **SEARCH | {"directions": 4, "steps": 10})
    everything = np.concatenate(seen)
    np.testing.assert_allclose(search.mean, everything.mean(0), atol=1e-9)
    np.testing.assert_allclose(search.policy.std, everything.std(0), rtol=1e-9)


class Target:
    """A body of one step: states are drawn from N(0, 1), and the best action is half the state."""

    observation_size, action_size, action_low, action_high = 1, 1, -np.ones(1) * 9, np.ones(1) * 9
    body = SimpleNamespace(slices={})

    def fallen(self, states):
        return np.zeros(len(states), bool)

    def reset(self, count, rng):
        return rng.standard_normal((count, 1))

    def observe(self, states):
        return states

    def roll(self, states, actions):
        gap = actions[:, :, 0] - 0.5 * states
        return Rollout(states[:, None], gap[..., None])


def test_random_search_finds_the_best_linear_policy():
    def objective(trajectory):
        return -(trajectory.states[..., 0] ** 2)

    search = start(Target())
    # The states that follow are gaps; normalise by the starts' N(0, 1) instead, or the policy's gain has no meaning.
    for _ in range(150):
        found = improve(search, Target(), objective, **SEARCH | {"directions": 16, "steps": 1})
        search = found._replace(mean=np.zeros(1), second=np.ones(1), count=np.ones(()))
    np.testing.assert_allclose(search.weights, [[0.5]], atol=0.1)


def test_a_search_that_is_continued_equals_one_that_is_not(tmp_path):
    body = find_body("HalfCheetah-v5")
    asked = {"grades": 2, "steps": 4, "seed": 0, "say": lambda line: None}
    learn(body, "jump", tmp_path / "whole", iterations=4, **asked)
    learn(body, "jump", tmp_path / "parts", iterations=2, **asked | {"grades": 1})
    learn(body, "jump", tmp_path / "parts", iterations=4, **asked)
    made = [write_behaviours(body.env_id, tmp_path / n, tmp_path / f"{n}.npz", "x") for n in ("whole", "parts")]
    assert made[0].names == made[1].names == ("jump/2", "jump/4")
    np.testing.assert_array_equal(made[0].policy.weights, made[1].policy.weights)
    read = read_behaviours(tmp_path / "whole.npz")
    np.testing.assert_array_equal(read.policy.mean, made[0].policy.mean)
    with pytest.raises(UserError, match="not a file of policies"):
        read_behaviours(tmp_path / "whole" / "jump.npz")


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Walker2d-v5"])
def test_motion_replays_and_continues(tmp_path, name):
    simulator = Simulator(find_body(name), threads=1)
    size = (2, simulator.action_size, simulator.observation_size)
    weights = np.random.default_rng(0).standard_normal(size)
    flat = np.zeros((2, size[2]))
    behaviours = Behaviours(name, ("a", "b"), LinearPolicy(weights, flat, flat + 1), "x")
    asked = {"steps": 400, "episode": 24, "seed": 3, "switching": Switching(5, 10, (0.1,))}
    whole = make_motion(simulator, behaviours, parts=tmp_path / "a", **asked)
    make_motion(simulator, behaviours, parts=tmp_path / "b", **asked | {"steps": 10})
    assert whole.equals(make_motion(simulator, behaviours, parts=tmp_path / "b", **asked))
    assert whole.num_steps >= 400
    assert not whole.rewards.any()
    assert set(np.unique(whole.extras["behaviour"])) == {0, 1}
    episode = whole[0]
    assert np.abs(episode.next_observations[:-1] - episode.observations[1:]).max() == 0
    # Every stored transition is one of the simulator's.
    root = [0.0] * simulator.body.skip
    states = np.array([[0.0, *root, *row] for row in episode.observations])
    if simulator.body.velocity_limit == np.inf:
        after = simulator.roll(states, episode.actions[:, None].astype(float)).observations[:, 0]
        np.testing.assert_allclose(after, episode.next_observations, atol=0.05)
    else:
        assert whole.terminated.any()
        ends = whole.episode_ends - 1
        final = np.asarray(whole.final_observations)
        fallen = simulator.fallen(np.concatenate([np.zeros((len(final), 1 + simulator.body.skip)), final], 1))
        np.testing.assert_array_equal(fallen, whole.terminated[ends])
