"""Datasets of our own: what is in them, that they are D4RL files, and that workers do not change a byte."""

import dataclasses
import json
import os
import sys

import gymnasium
import numpy as np
import pytest

import policy_finetune.cli as cli
from paperloop.errors import NonFiniteError, UserError
from paperloop_data import EpisodeDataset
from policy_finetune.data.make import (
    from_replay,
    make_dataset,
    run_episode,
    write_dataset,
)
from policy_finetune.data.plan import DataPlan, Part
from policy_finetune.data.policies import GradedPolicy, save_policy
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.spec import EnvSpec

IDP = "InvertedDoublePendulum-v5"


def policy(obs, act, *, seed=0, spread=False, steps=None, name="p"):
    rng = np.random.default_rng(seed)

    def layer(i, o):
        return rng.normal(size=(i, o)) / i**0.5, rng.normal(size=o) / 10

    about = {} if steps is None else {"env_steps": steps, "algorithm": "TD3"}
    host = HostPolicy.single([layer(obs, 8), layer(8, 8), layer(8, act)])
    return GradedPolicy(host, layer(8, act) if spread else None, metadata=about, name=name)


def plan(steps=60, chunk_steps=10, **options):
    options = {"policies": [policy(9, 1), policy(9, 1, seed=1, spread=True)], **options}
    made = DataPlan.of(IDP, "medium-expert", steps, seed=3, **options)
    return dataclasses.replace(made, chunk_steps=chunk_steps)


def test_a_random_dataset_is_what_gymnasium_gives():
    data = make_dataset(IDP, "random", 50, seed=1)
    assert data.num_steps >= 50 > data.num_steps - data.lengths[-1]  # the last episode is finished, and no more
    assert data.observations.dtype == data.actions.dtype == data.rewards.dtype == np.float32
    assert data.observations.shape == (data.num_steps, 9)
    assert not data.cut.any()
    assert (np.abs(data.actions) <= 1).all()
    assert np.unique(data.actions).size > 45
    env = gymnasium.make(IDP)
    for episode in data:
        env.reset(seed=0)
        for t in range(len(episode.rewards)):
            env.unwrapped.set_state(
                episode.extras["infos/qpos"][t].astype(float), episode.extras["infos/qvel"][t].astype(float)
            )
            seen = env.unwrapped._get_obs()
            np.testing.assert_allclose(seen[:8], episode.observations[t][:8], atol=1e-5)  # [8] is a constraint force
            seen, reward, terminated, _, _ = env.step(episode.actions[t])
            np.testing.assert_allclose(seen[:8], episode.next_observations[t][:8], atol=1e-4)
            assert reward == pytest.approx(episode.rewards[t], abs=1e-4)
            assert terminated == episode.terminated[t]
        np.testing.assert_array_equal(episode.next_observations[:-1], episode.observations[1:])


def test_a_policy_without_noise_has_its_own_return():
    """The start of an episode is all that differs; a plain loop gets the same starts."""
    chosen = policy(3, 1, seed=5)
    data = make_dataset("Pendulum-v1", "expert", 600, policies=[chosen], noise=0.0)
    assert data.num_episodes == 3
    assert data.lengths.tolist() == [200] * 3
    assert data.truncated[data.episode_ends - 1].all()
    assert not data.terminated.any()
    from paperloop.seeds import fold_seed

    env, expected = gymnasium.make("Pendulum-v1"), []
    for episode in range(3):
        seen, _ = env.reset(seed=fold_seed(fold_seed(0, "make-data", 0, 0, episode), "reset"))
        expected.append(0.0)
        for _ in range(200):
            seen, reward, *_ = env.step(2 * chosen.host(np.asarray(seen, np.float32)[None])[0])
            expected[-1] += reward
    np.testing.assert_allclose(data.returns(), expected, rtol=1e-5)  # rewards are stored as float32


def test_actions_are_stored_in_the_units_of_the_environment():
    data = make_dataset("Pendulum-v1", "random", 200)
    assert 1.5 < np.abs(data.actions).max() <= 2.0
    assert not data.extras  # no MuJoCo, no positions


def test_noise_and_samples():
    still, noisy, sampled = (
        make_dataset(IDP, quality, 40, policies=[policy(9, 1, spread=True)], noise=noise)
        for quality, noise in (("expert", 0.0), ("noisy:0.5", None), ("expert", None))
    )
    assert "sample" in str(sampled.provenance)
    assert not np.array_equal(still.actions[:5], noisy.actions[:5])
    assert not np.array_equal(still.actions[:5], sampled.actions[:5])
    np.testing.assert_array_equal(still.observations[0], noisy.observations[0])  # the starts are the same
    spec = EnvSpec.of("Pendulum-v1")
    chosen = policy(3, 1)
    long = make_dataset("Pendulum-v1", "noisy:0.25", 2000, policies=[chosen])
    residual = spec.from_env(long.actions) - chosen.host(long.observations[None])[0]
    inside = np.abs(spec.from_env(long.actions)) < 1
    assert inside.mean() > 0.8
    assert residual[inside].std() == pytest.approx(0.25, rel=0.1)


def test_the_last_step_of_the_time_limit_is_a_time_out_as_in_d4rl():
    class Both(gymnasium.Env):
        spec = None
        observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            return np.zeros(1), {}

        def step(self, action):
            return np.zeros(1), 1.0, True, True, {}

    rows = run_episode(Both(), EnvSpec("both", 1, 1, [-1], [1], 1), Part(None, 1), 0)
    assert (rows["terminated"].tolist(), rows["truncated"].tolist()) == ([False], [True])


def test_a_mixture_has_its_parts_in_order_and_in_proportion():
    snapshots = [policy(3, 1, seed=i, steps=s, name=f"step-{s}") for i, s in enumerate((100, 300, 1000))]
    made = DataPlan.of("Pendulum-v1", "full-replay", 4000, policies=snapshots)
    assert [part.steps for part in made.parts] == [400, 800, 2800]
    assert [part.policy.name for part in made.parts] == ["step-100", "step-300", "step-1000"]
    data = make_dataset("Pendulum-v1", "full-replay", 2000, policies=snapshots, noise=0.0)
    assert data.num_episodes == 1 + 2 + 7
    spec = EnvSpec.of("Pendulum-v1")
    for episode, chosen in zip(data, [0, 1, 1, 2, 2, 2, 2, 2, 2, 2], strict=True):
        expected = spec.to_env(snapshots[chosen].host(episode.observations[None])[0])
        np.testing.assert_array_equal(episode.actions, expected)
    unknown = [policy(3, 1), policy(3, 1, steps=7)]
    assert [p.steps for p in DataPlan.of("Pendulum-v1", "medium-replay", 100, policies=unknown).parts] == [50, 50]


def test_a_written_file_has_the_arrays_and_says_how_it_was_made(tmp_path):
    file = save_policy(policy(9, 1, steps=500), tmp_path / "medium.npz")
    chosen = DataPlan.of(IDP, "medium", 30, seed=4, policies=[file])
    made = write_dataset(chosen, tmp_path / "sub" / "a.hdf5", progress=False)
    read = EpisodeDataset.load(tmp_path / "sub" / "a.hdf5")
    assert read.equals(made)
    assert sorted(os.listdir(tmp_path / "sub")) == ["a.hdf5"]
    record = read.provenance[0]
    assert record["command"].endswith("--quality medium --steps 30 --seed 4 --policies medium.npz")
    assert record["seed"] == 4
    assert record["parts"][0]["policy"] == "medium.npz"
    assert record["parts"][0]["env_steps"] == 500
    assert len(record["parts"][0]["policy_sha256"]) == 64
    assert record["versions"]["mujoco"]
    assert record["versions"]["gymnasium"] == gymnasium.__version__
    assert read.attributes["metadata"]["algorithm"] == "TD3"
    assert str(tmp_path) not in json.dumps(record)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "sub" / "a.hdf5") as f:  # D4RL's own names
        assert {"observations", "actions", "rewards", "terminals", "timeouts", "next_observations"} <= set(f)
        assert f["infos/qpos"].shape == (made.num_steps, 3)
        assert f["terminals"].dtype == bool


@pytest.mark.slow
def test_workers_do_not_change_a_byte(tmp_path):
    one = write_dataset(plan(), tmp_path / "one.hdf5", progress=False)
    two = write_dataset(plan(), tmp_path / "two.hdf5", workers=2, progress=False)
    assert one.equals(two)
    assert (tmp_path / "one.hdf5").read_bytes() == (tmp_path / "two.hdf5").read_bytes()


def test_how_the_command_was_given_does_not_change_a_byte(tmp_path, capsys, monkeypatch):
    file = save_policy(policy(9, 1), tmp_path / "mine.npz")
    (tmp_path / "elsewhere").mkdir()
    moved = save_policy(policy(9, 1), tmp_path / "elsewhere" / "mine.npz")

    def make(out, *arguments, policies=file):
        # What a shell would hand over: provenance must not look at it.
        words = ["make-data", "--env-id", IDP, "--steps", "40", "--policies", str(policies), *arguments]
        monkeypatch.setattr(sys, "argv", ["policy-finetune", *words])
        assert cli.main([*words, "--out", str(tmp_path / out)]) == 0
        return (tmp_path / out).read_bytes()

    plain = make("a.hdf5")
    capsys.readouterr()
    assert make("b.hdf5", "--quiet", "--seed", "0", policies=moved) == plain
    assert capsys.readouterr() == ("", "")
    assert make("c.hdf5", "--noise", "0.1") != plain  # the same numbers, but another command
    record = EpisodeDataset.load(tmp_path / "a.hdf5").provenance[0]
    words = f"policy-finetune make-data --env-id {IDP} --quality medium --steps 40 --seed 0 --policies mine.npz"
    assert record["command"] == words
    assert EpisodeDataset.load(tmp_path / "c.hdf5").provenance[0]["command"] == f"{words} --noise 0.1"


def test_a_file_is_not_overwritten(tmp_path):
    (tmp_path / "a.hdf5").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_dataset(plan(), tmp_path / "a.hdf5", progress=False)
    assert (tmp_path / "a.hdf5").read_text() == "mine"
    with pytest.raises(UserError, match=r"ends in \.hdf5"):
        write_dataset(plan(), tmp_path / "a.csv", progress=False)


@pytest.mark.parametrize(
    ("quality", "options", "says"),
    [
        ("mediocre", {}, "no quality 'mediocre'; known are random, medium, .*noisy:SIGMA"),
        ("mediun", {}, "no quality 'mediun'; did you mean \"medium\""),
        ("noisy:-1", {}, "noise of the quality 'noisy:-1' is '-1'; it must be a number of at least 0"),
        ("noisy:loud", {}, "a number of at least 0"),
        ("noisy:0.1", {"noise": 0.2}, "leave noise out"),
        ("random", {"policies": [policy(9, 1)]}, "takes no policies"),
        ("medium", {"policies": [policy(9, 1)] * 2}, "takes 1 policy; got 2"),
        ("medium-expert", {"policies": [policy(9, 1)]}, "takes 2 policies; got 1"),
        ("medium-replay", {"policies": [policy(9, 1, steps=9), policy(9, 1, steps=3)]}, r"\[9, 3\]; sort them"),
        ("medium", {"policies": [policy(9, 1)], "noise": -1.0}, "at least 0; got -1.0"),
        ("medium", {"policies": [policy(9, 1)], "noise": "sample"}, "no spread of its own"),
        ("medium", {"policies": [policy(9, 1)], "steps": 0}, "at least 1 step"),
        ("medium", {"policies": [policy(9, 1)], "workers": 0}, "at least 1 worker"),
        ("medium", {"policies": [policy(11, 1)]}, "takes 11 observations .* has 9 and 1"),
    ],
)
def test_what_cannot_be_made_is_refused(quality, options, says):
    with pytest.raises(UserError, match=says) as caught:
        make_dataset(IDP, quality, **{"steps": 10, **options})
    assert "\n" not in str(caught.value)


def test_without_policies_of_its_own_the_package_says_so():
    with pytest.raises(UserError, match=r"No 'expert' policy for Pendulum-v1 comes with the package \(it has none\)"):
        make_dataset("Pendulum-v1", "expert", 10)


def test_an_environment_that_breaks_is_named():
    class Broken(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            return np.zeros(1), {}

        def step(self, action):
            return np.array([np.nan]), 0.0, False, False, {}

    with pytest.raises(NonFiniteError, match=r"broken: .* at step 0"):
        run_episode(Broken(), EnvSpec("broken", 1, 1, [-1], [1], 5), Part(None, 1), 0)


def test_a_replay_buffer_becomes_a_dataset():
    spec = EnvSpec("x", 2, 1, [-2], [2], 5)
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    transitions = {
        "observations": rows,
        "actions": np.full((6, 1), 0.5),
        "rewards": np.ones(6),
        "next_observations": rows + 2,
        "terminated": np.array([0, 1, 0, 0, 1, 0], bool),
        "truncated": np.array([0, 0, 0, 0, 1, 0], bool),
    }
    data = from_replay(spec, transitions, record={"algorithm": "TD3"})
    assert data.lengths.tolist() == [2, 3, 1]
    assert (data.actions == 1.0).all()
    assert data.terminated.tolist() == [False, True, False, False, False, False]
    assert data.cut.tolist() == [False, False, True]
    assert data.provenance[0]["algorithm"] == "TD3"
