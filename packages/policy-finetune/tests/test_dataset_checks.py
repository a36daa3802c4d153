"""A dataset against its environment: each refusal, each doubt, and silence where nothing is wrong."""

import re
from pathlib import Path

import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset
from policy_finetune.config import DataOptions
from policy_finetune.data.checks import load_for, load_options
from policy_finetune.data.policies import load_policy
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.replay.packing import OfflineData

SPEC = EnvSpec("Toy-v1", 3, 2, [-1, 0], [1, 4], 5)


def toy(episodes=4, length=5, spec=SPEC, **changes):
    """Every episode meets the time limit of 5 steps."""
    rng = np.random.default_rng(0)
    steps = episodes * length
    rows = rng.normal(size=(episodes, length + 1, spec.obs_dim)).astype(np.float32)
    ends = np.zeros((episodes, length), bool)
    ends[:, -1] = True
    fields = {
        "observations": rows[:, :-1].reshape(steps, -1),
        "next_observations": rows[:, 1:].reshape(steps, -1),
        "actions": rng.uniform(spec.low, spec.high, (steps, spec.act_dim)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "terminated": np.zeros(steps, bool),
        "truncated": ends.reshape(-1),
    }
    return EpisodeDataset(**{**fields, **changes})


def test_what_is_in_order_is_silent_and_canonical():
    before = toy()
    data, said = load_for(SPEC, before, batch_size=20)
    assert said == []
    np.testing.assert_allclose(data.actions, before.actions / [1, 2] - [0, 1], atol=1e-6)
    assert np.abs(data.actions).max() <= 1
    again, said = load_for(SPEC, data)  # not converted a second time
    np.testing.assert_array_equal(again.actions, data.actions)
    assert said == []


def test_a_file_is_read_and_checked(tmp_path):
    path = toy().save(tmp_path / "a.npz")
    data, said = load_for(SPEC, path)
    assert said == []
    np.testing.assert_array_equal(data.actions, load_for(SPEC, toy())[0].actions)
    assert data.provenance[-1] == {"action": "canonical actions", "clipped": 0}
    np.testing.assert_array_equal(load_for(SPEC, toy())[0].actions, data.actions)


def test_a_file_without_time_outs(tmp_path):
    data = toy()
    np.savez(
        tmp_path / "a.npz",
        observations=data.observations,
        actions=data.actions,
        rewards=data.rewards,
        next_observations=data.next_observations,
        terminals=data.terminated,
    )
    found, said = load_for(SPEC, tmp_path / "a.npz")
    assert found.lengths.tolist() == [5] * 4
    assert said == ["The file has no time-outs: an episode is taken to end at a terminal and after 5 steps."]
    found, said = load_for(SPEC, tmp_path / "a.npz", max_episode_steps=None)
    assert found.lengths.tolist() == [5] * 4
    assert len([sentence for sentence in said if "episodes are cut where" in sentence]) == 1


def test_episodes_with_nan(tmp_path):
    rewards = toy().rewards.copy()
    rewards[7] = np.nan
    np.savez(
        tmp_path / "a.npz",
        **{n: getattr(toy(), n) for n in ("observations", "actions", "terminated", "truncated", "next_observations")},
        rewards=rewards,
    )
    with pytest.raises(UserError, match=r"a\.npz: rewards holds nan at row 7 \(episode 1, step 2\)"):
        load_for(SPEC, tmp_path / "a.npz")
    data, said = load_for(SPEC, tmp_path / "a.npz", drop_nonfinite=True)
    assert data.num_episodes == 3
    assert said == ["Left out because of NaN or infinity: 1 episode."]


def test_options_of_a_configuration_are_those_of_the_reader(tmp_path):
    assert load_options(DataOptions()) == {}
    data = toy()
    raw = data.actions.copy()
    raw[3, 0] = 9.0
    np.savez(
        tmp_path / "a.npz", observations=data.observations, actions=raw, rewards=data.rewards,
        next_observations=data.next_observations, terminals=data.terminated, timeouts=data.truncated,
    )  # fmt: skip
    clipped, _ = load_for(SPEC, tmp_path / "a.npz", **load_options(DataOptions(semantics="d4rl")))
    assert clipped.lengths.tolist() == [5] * 4
    with pytest.raises(UserError, match="outside the bounds"):
        load_for(SPEC, tmp_path / "a.npz", **load_options(DataOptions(out_of_bounds="error")))
    other = DataOptions(actions="canonical", episode_ends="steps", drop_nonfinite=True, time_limits=False)
    found, _ = load_for(SPEC, tmp_path / "a.npz", max_episode_steps=2, **load_options(other))
    assert set(found.lengths) <= {1, 2}
    np.testing.assert_array_equal(found.actions, np.clip(raw, -1, 1))
    (tmp_path / "minari").mkdir()
    (tmp_path / "minari" / "main_data.hdf5").touch()
    with pytest.raises(UserError, match="Minari, which keeps episodes apart: leave episode_ends out"):
        load_for(SPEC, tmp_path / "minari", episode_ends="goal")


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"observations": np.zeros((20, 4)), "next_observations": None}, {}, r"shape \(4,\) a step, but Toy-v1 has 3"),
        ({"observations": np.zeros(20), "next_observations": None}, {}, r"shape \(\) a step"),
        ({"actions": np.zeros((20, 3))}, {}, r"actions are of shape \(3,\) a step, but Toy-v1 has 2 actions"),
        ({"actions": np.zeros(20, int)}, {}, "actions are discrete"),
        ({}, {"batch_size": 21}, "20 steps, fewer than the batch size of 21"),
        ({"actions": np.full((20, 2), 9.0)}, {"out_of_bounds": "error"}, r"40 of 40 .*row 0 .* 9 in \[-1, 1\]; fix"),
        ({"attributes": {"env_id": "Hopper-v5"}}, {}, "is of Hopper-v5, not of Toy-v1"),
        ({"attributes": {"metadata": {"env_id": "Hopper-v5"}}}, {}, "is of Hopper-v5"),
        ({"attributes": {"minari": {"env_spec": '{"id": "Hopper-v5"}'}}}, {}, "is of Hopper-v5"),
        ({}, {"out_of_bounds": "ignore"}, "out_of_bounds is 'clip' or 'error'; got 'ignore'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, options, says):
    with pytest.raises(UserError, match=says) as caught:
        load_for(SPEC, toy(**changes), **options)
    assert "\n" not in str(caught.value)


def shuffled():
    rows = toy().next_observations.copy()
    rows[7] += 1
    return rows


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rewards": np.zeros(20)}, "Every reward is 0.0"),
        ({"observations": np.ones((20, 3)), "next_observations": np.ones((20, 3))}, "dimensions 0, 1, 2 never change"),
        ({"next_observations": shuffled()}, "1 steps inside episodes .* the first at row 7: the rows are shuffled"),
        ({"next_observations": None}, "No next observations are stored"),
        ({"attributes": {"env_id": "Toy-v0"}}, "The data are of Toy-v0 and will be used in Toy-v1"),
        ({"episode_starts": [0, 10]}, "2 episodes are longer than the time limit of 5 steps, .* episode 0 with 10"),
        ({"truncated": np.zeros(20, bool), "episode_starts": [0, 5, 10, 15]}, "4 episodes just stop"),
        ({"observations": toy().observations.astype(np.float16)}, "stored as float16"),
        ({"observations": np.arange(60).reshape(20, 3), "next_observations": None}, "stored as int64"),
    ],
)
def test_what_is_doubtful_is_said_in_one_sentence(changes, says):
    data, said = load_for(SPEC, toy(**changes))
    assert len([s for s in said if re.search(says, s)]) == 1, said
    assert all(s.endswith(".") and "\n" not in s for s in said)
    assert data.num_steps == 20


def test_actions_out_of_bounds_are_clipped_and_counted():
    actions = toy().actions.copy()
    actions[3] = [-2, 4.5]
    actions[4, 0] = np.float32(1 + 3e-6)  # rounding
    data, said = load_for(SPEC, toy(actions=actions))
    assert len(said) == 1
    assert "2 of 40 action values lie outside" in said[0]
    assert "row 3 (episode 0, step 3), which is -2 in [-1, 1]" in said[0]
    np.testing.assert_array_equal(data.actions[3], [-1, 1])
    assert data.actions.max() == 1
    assert data.provenance[-1]["clipped"] == 2


def test_canonical_actions_of_an_environment_with_wider_bounds():
    spec = EnvSpec("Toy-v1", 3, 2, [-2, -2], [2, 2], 5)
    actions = np.random.default_rng(0).uniform(-1, 1, (200, 2)).astype(np.float32)
    data, said = load_for(spec, toy(episodes=40, spec=spec, actions=actions))
    assert any("load them with actions='canonical'" in sentence for sentence in said)
    np.testing.assert_allclose(data.actions, actions / 2)
    data, said = load_for(spec, toy(episodes=40, spec=spec, actions=actions), actions="canonical")
    assert said == []
    np.testing.assert_array_equal(data.actions, actions)


def test_time_limits_that_are_called_terminal():
    """All of them, or only those at the limit where others end by themselves."""
    data = toy()
    fixed, said = load_for(SPEC, toy(terminated=data.truncated, truncated=np.zeros(20, bool)))
    assert said == [
        "4 of 4 episodes are called terminated at the time limit of 5 steps; they are taken for truncated, so that "
        "value targets bootstrap there."
    ]
    np.testing.assert_array_equal(fixed.truncated, data.truncated)
    assert not fixed.terminated.any()
    ends = np.zeros(20, bool)
    ends[[2, 7, 12, 17, 19]] = True
    options = {"terminated": ends, "truncated": np.zeros(20, bool), "next_observations": toy().observations + 1}
    fixed, said = load_for(SPEC, toy(**options))
    assert fixed.lengths.tolist() == [3, 5, 5, 5, 2]
    assert fixed.terminated[[2, 7, 12, 17, 19]].tolist() == [True, False, False, False, True]
    assert said[0].startswith("3 of 5 episodes are called terminated at the time limit")
    kept, _ = load_for(SPEC, toy(**options), time_limits=False)
    np.testing.assert_array_equal(kept.terminated, ends)


def test_single_numbers_a_step_become_vectors():
    spec = EnvSpec("Toy-v1", 1, 1, [-1], [1], 5)
    rng = np.random.default_rng(0)
    flat = toy(spec=spec, actions=rng.uniform(-1, 1, 20), observations=rng.normal(size=20), next_observations=None)
    data, _ = load_for(spec, flat)
    assert data.observations.shape == data.actions.shape == (20, 1)


def test_real_demonstrations_call_the_time_limit_terminal():
    folder = next(
        (
            parent / "shared" / "data"
            for start in (Path(__file__).resolve(), Path.cwd() / "here")
            for parent in start.parents
            if (parent / "shared" / "data" / "demonstrations").is_dir()
        ),
        None,
    )
    if folder is None:
        pytest.skip("shared/data/demonstrations is not next to the repository")
    data, said = load_for(EnvSpec.of("Hopper-v4"), folder / "demonstrations" / "hopper-v4-expert.npz")
    assert data.truncated[data.episode_ends - 1].all()
    assert not data.terminated.any()
    assert any("2 of 2 episodes are called terminated at the time limit of 1000 steps" in s for s in said)
    assert any("action values lie outside the bounds" in s for s in said)
    assert np.abs(data.actions).max() <= 1
    policy = load_policy(folder / "policies" / "tqc-hopper-v3.npz")
    policy.check_fits(EnvSpec.of("Hopper-v4"))


def test_the_four_transitions_that_d4rl_drops(tmp_path):
    """Twelve steps, one terminal, one time-out: D4RL's reader keeps 12 - 1 (last row) - 1 (time-out)."""
    rows = np.arange(36, dtype=np.float32).reshape(12, 3)
    terminated, truncated = np.zeros(12, bool), np.zeros(12, bool)
    terminated[3] = truncated[8] = True
    data = toy(
        observations=rows,
        next_observations=rows + 3,
        actions=np.tile(np.float32([0.5, 1.0]), (12, 1)),
        rewards=np.arange(12.0),
        terminated=terminated,
        truncated=truncated,
    )
    data.save(tmp_path / "a.npz")
    found, _ = load_for(SPEC, tmp_path / "a.npz")
    assert found.transitions("d4rl").rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert found.transitions("exact").rows.size == 12
    assert found.transitions("exact").terminals.sum() == 1


def test_one_step_episodes_load():
    """Each step is an episode of its own, so that no step lies inside one."""
    one = toy(episodes=12, length=1, terminated=np.ones(12, bool), truncated=np.zeros(12, bool))
    assert one.next_observations is not None
    data, said = load_for(SPEC, one)
    assert data.lengths.tolist() == [1] * 12
    assert not [s for s in said if "shuffled" in s]
    packed = OfflineData.pack([data])
    best_first = np.sort(one.rewards.astype(np.float32))[::-1]
    np.testing.assert_allclose(np.asarray(packed.rows)[:, -1], best_first, rtol=1e-6)  # the returns to go, for Cal-QL
