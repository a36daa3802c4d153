"""Environments on the host: what they show, their facts, and what is refused."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cascade_explore.config import Actor, Cheetah, Crafter, Gym, Plan2Explore, TrainConfig, Walker, WorldModel
from cascade_explore.envs import planar
from cascade_explore.envs.gymnasium_envs import _spaces, to_square
from cascade_explore.envs.host import HostEnvs
from cascade_explore.envs.planar import PlanarEnv
from cascade_explore.envs.spec import Actions, Numbers
from cascade_explore.trainer import ExploreTrainer
from paperloop import UserError

WORLD = WorldModel(deter=8, groups=2, classes=3, hidden=8, units=8, layers=1, heads=2, batch=2, length=4, depth=1)
ACTOR = Actor(horizon=2, starts=4, units=8, layers=1)


def test_images_are_reduced_by_means_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (128, 192, 3)).astype(np.uint8)
    expected = image.reshape(64, 2, 64, 3, 3).mean((1, 3))
    np.testing.assert_allclose(to_square(image), np.floor(expected))
    assert to_square(image[:70, :65]).shape == (64, 64, 3)


def test_the_walker_falls_and_is_cut_and_starts_from_its_seed():
    pytest.importorskip("mujoco")
    pytest.importorskip("dm_control")
    envs = HostEnvs(Walker(seconds=1), 2)
    assert envs.limit == 20
    envs.begin(np.array([3, 3]))
    rows = [envs.step(np.zeros((2, 6))) for _ in range(23)]
    assert [bool(row.first[0]) for row in rows] == [True, *[False] * 20, True, False]
    assert not any(row.terminal.any() for row in rows)
    np.testing.assert_array_equal(rows[7].observation[0], rows[7].observation[1])
    assert np.abs(rows[21].observation[0] - rows[0].observation[0]).max() > 0.1  # another pose
    height, upright, speed, _ = rows[20].facts[0]
    assert height == rows[20].observation[0, 14] < rows[0].facts[0, 0]
    assert upright == pytest.approx(rows[20].observation[0, 0], abs=1e-5)  # in the plane, zz of the torso is xx
    assert abs(speed) < 5


def test_the_cheetah_comes_to_rest_before_it_starts():
    pytest.importorskip("mujoco")
    pytest.importorskip("dm_control")
    env = PlanarEnv(Cheetah())
    assert env.limit == 500
    first = env.reset(1)
    assert first.shape == (17,)
    assert np.abs(first[8:]).max() < 1.0  # it fell to the ground in the two seconds before
    assert np.abs(first - env.reset(2)).max() > 1e-3
    np.testing.assert_array_equal(first, env.reset(1))
    seen = [env.step(np.ones(6))[0] for _ in range(3)]
    assert env.measure()[2] == pytest.approx(seen[-1][8], abs=1.0)  # the torso's speed is nearly that of the body


def test_bodies_are_drawn_where_they_can_be(monkeypatch):
    mujoco = pytest.importorskip("mujoco")
    pytest.importorskip("dm_control")
    drawn = []

    class Renderer:
        def __init__(self, model, height, width):
            self.size = (height, width, 3)

        def update_scene(self, data, camera):
            drawn.append((data, camera))

        def render(self):
            return np.full(self.size, len(drawn), np.uint8)

    planar._renderer.cache_clear()
    monkeypatch.setattr(mujoco, "Renderer", Renderer, raising=False)
    envs = HostEnvs(Walker(pixels=True), 2)
    rows = [envs.step(np.zeros((2, 6))) for _ in range(2)]
    assert rows[1].observation.dtype == np.uint8
    assert rows[1].observation[:, 7].tolist() == [3, 4]
    assert drawn[0][0] is drawn[2][0] is not drawn[1][0]
    planar._renderer.cache_clear()

    def fail(*_):
        raise RuntimeError("no display\nand more")

    monkeypatch.setattr(mujoco, "Renderer", fail, raising=False)
    with pytest.raises(UserError, match=r"pixels needs OpenGL.*\(no display\): set MUJOCO_GL=egl"):
        HostEnvs(Walker(pixels=True), 1)


def test_crafters_facts_are_its_new_achievements():
    pytest.importorskip("crafter")
    envs = HostEnvs(Crafter(max_steps=30), 1)
    assert len(envs.facts) == 22
    envs.begin(np.array([1]))
    rows = [envs.step(np.array([6])) for _ in range(32)]  # sleep, and wake up at some time
    assert rows[0].observation.shape == (1, 64 * 64 * 3)
    assert [bool(row.first[0]) for row in rows].count(True) == 2
    assert all(row.facts.sum(0).max() <= 1 for row in rows)


class Faulty:
    """A host environment that returns what it is given."""

    observation, actions, limit, facts = Numbers(2), Actions(2, discrete=True), 9, ()

    def __init__(self, observation, reward):
        self.returned = (observation, reward, False, False)

    def reset(self, seed):
        return np.zeros(2)

    def step(self, action):
        return self.returned

    def measure(self):
        return ()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (([0.0, np.nan], 0.0), "an observation that is not finite in step"),
        (([0.0, 0.0], np.inf), "a reward that is not finite in step"),
        (([0.0], 0.0), "returns 1 numbers in step"),
        ((["a", "b"], 0.0), "fails in step: ValueError"),
    ],
)
def test_environments_that_fail_are_named(monkeypatch, returned, message):
    monkeypatch.setattr("cascade_explore.envs.host.make_one", lambda _: Faulty(*returned))
    envs = HostEnvs(Gym(), 1)
    envs.step(np.array([0]))
    with pytest.raises(UserError, match=f"CartPole-v1.*{message}"):
        envs.step(np.array([0]))


@pytest.mark.parametrize("space", ["observation_space", "action_space"])
def test_spaces_that_hold_nothing_are_refused(space):
    gymnasium = pytest.importorskip("gymnasium")
    spaces = {name: gymnasium.spaces.Box(-1, 1, (0 if name == space else 2,)) for name in
              ("observation_space", "action_space")}  # fmt: skip
    with pytest.raises(UserError, match="empty"):
        _spaces(SimpleNamespace(**spaces), "mine")


@pytest.mark.slow
def test_crafter_is_explored_in_pixels():
    pytest.importorskip("crafter")
    config = TrainConfig(env=Crafter(max_steps=6), world=WORLD, explorer=Plan2Explore(actor=ACTOR), deployments=2,
                         env_steps=8, envs=1, updates=2, updates_per_step=2)  # fmt: skip
    trainer = ExploreTrainer(config)
    state = trainer.init(0)
    for _ in range(3):
        state, metrics = trainer.step(state)
    assert state.replay.observation.dtype == np.uint8
    assert state.replay.facts.shape == (1, 2, 1, 8, 22)
    assert all(np.isfinite(value).all() for value in jax.device_get(metrics).values())
