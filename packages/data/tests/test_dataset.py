"""Episodes, transitions, selections: against plain loops and numbers that a reader can check by hand."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset, normalised_score, summary


def line(length: int, *, obs: int = 2, act: int = 1, seed: int = 0, **fields) -> EpisodeDataset:
    """`length` random steps; the flags and boundaries come as fields."""
    rng = np.random.default_rng(seed)
    given_fields = {
        "observations": rng.normal(size=(length, obs)).astype(np.float32),
        "actions": rng.normal(size=(length, act)).astype(np.float32),
        "rewards": rng.normal(size=length).astype(np.float32),
        "terminated": np.zeros(length, bool),
        "truncated": np.zeros(length, bool),
    }
    return EpisodeDataset(**given_fields | fields)


def twelve(**fields) -> EpisodeDataset:
    """Twelve steps: a terminal episode of 4, a timed-out one of 5, one of 3 that the file's end cuts off."""
    terminated, truncated = np.zeros(12, bool), np.zeros(12, bool)
    terminated[3], truncated[8] = True, True
    return line(12, **{"terminated": terminated, "truncated": truncated} | fields)


def loop_qlearning(dataset: dict) -> dict:
    """D4RL 1.1's `qlearning_dataset` for a file with time-outs, as a plain loop; the oracle."""
    out = {"observations": [], "actions": [], "rewards": [], "next_observations": [], "terminals": []}
    for i in range(len(dataset["rewards"]) - 1):
        if dataset["timeouts"][i]:
            continue
        out["observations"].append(np.float32(dataset["observations"][i]))
        out["actions"].append(np.float32(dataset["actions"][i]))
        out["rewards"].append(np.float32(dataset["rewards"][i]))
        out["next_observations"].append(np.float32(dataset["observations"][i + 1]))
        out["terminals"].append(bool(dataset["terminals"][i]))
    return {name: np.array(rows) for name, rows in out.items()}


def assert_same_transitions(ours, expected: dict) -> None:
    assert len(ours.rows) == len(expected["rewards"])
    for name, rows in expected.items():
        if len(rows):  # np.array([]) of the oracle has no shape to compare
            np.testing.assert_array_equal(getattr(ours, name), rows)
            assert getattr(ours, name).dtype == rows.dtype


# Boundaries


def test_boundaries_follow_from_the_flags():
    data = twelve()
    assert data.episode_starts.tolist() == [0, 4, 9]
    assert data.episode_ends.tolist() == [4, 9, 12]
    assert data.lengths.tolist() == [4, 5, 3]
    assert data.cut.tolist() == [False, False, True]
    assert data.episode_of_row.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]
    assert data.step_of_row.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]
    assert (len(data), data.num_episodes, data.num_steps) == (3, 3, 12)


def test_an_end_at_the_last_row_makes_no_empty_episode():
    assert line(2, terminated=[0, 1]).lengths.tolist() == [2]
    assert line(1, terminated=[1]).lengths.tolist() == [1]


def test_arrays_are_read_only_and_the_callers_array_stays_writeable():
    mine = np.zeros((3, 2), np.float32)
    data = line(3, observations=mine, extras={"goal": np.zeros(3)})
    for array in (data.observations, data.rewards, data.episode_starts, data.extras["goal"], data.lengths):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(TypeError):
        data.extras["more"] = mine
    with pytest.raises(ValueError, match="read-only"):
        data.transitions("d4rl").rewards[0] = 1
    mine[0] = 1  # still theirs
    assert np.shares_memory(mine, data.observations)


def test_precision_is_kept_and_integers_rewards_become_floats():
    data = line(2, observations=np.zeros((2, 3), ">f8"), actions=np.array([0, 1]), rewards=[[1], [2]])
    assert data.observations.dtype == np.float64
    assert data.actions.dtype == np.int64
    assert data.rewards.tolist() == [1.0, 2.0]


# Transitions


def test_twelve_steps_give_ten_d4rl_transitions():
    data = twelve()
    got = data.transitions("d4rl")
    assert got.rows.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]  # without the time-out (8) and the last row (11)
    assert got.terminals.tolist() == [False] * 3 + [True] + [False] * 6
    np.testing.assert_array_equal(got.next_observations[3], data.observations[4])  # across the terminal step


def test_twelve_steps_give_twelve_exact_transitions():
    following = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)
    got = twelve(next_observations=following).transitions("exact")
    assert got.rows.tolist() == list(range(12))
    np.testing.assert_array_equal(got.next_observations, following)
    assert got.terminals.tolist() == [i == 3 for i in range(12)]


def test_exact_transitions_from_final_observations():
    final = np.full((3, 2), 7, np.float32) + np.arange(3, dtype=np.float32)[:, None]
    data = twelve(final_observations=final)
    got = data.transitions("exact")
    for episode in range(3):
        start, end = data.episode_starts[episode], data.episode_ends[episode]
        np.testing.assert_array_equal(got.next_observations[start : end - 1], data.observations[start + 1 : end])
        np.testing.assert_array_equal(got.next_observations[end - 1], final[episode])


def test_exact_needs_next_observations():
    with pytest.raises(UserError, match="semantics='d4rl'"):
        twelve().transitions("exact")


@settings(max_examples=200, deadline=None)
@given(
    flags=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
)
def test_d4rl_transitions_equal_the_loop(flags):
    terminals, timeouts = np.array(flags).T
    data = line(len(flags), terminated=terminals, truncated=timeouts)
    raw = {
        "observations": data.observations.astype(np.float64),
        "actions": data.actions,
        "rewards": data.rewards,
        "terminals": terminals,
        "timeouts": timeouts,
    }
    got = data.replace(observations=raw["observations"]).transitions("d4rl")
    assert_same_transitions(got, loop_qlearning(raw))


def test_a_cut_inside_the_data_is_no_transition():
    data = line(6, episode_starts=[0, 3])
    assert data.transitions("d4rl").rows.tolist() == [0, 1, 3, 4]


def test_dtype_of_transitions():
    data = line(3, observations=np.zeros((3, 1)), actions=np.array([1, 2, 3]))
    assert data.transitions("d4rl").observations.dtype == np.float32
    assert data.transitions("d4rl").actions.dtype == np.int64
    assert data.transitions("d4rl", dtype=None).observations.dtype == np.float64


def test_transitions_refuse_nonsense():
    with pytest.raises(UserError, match="'d4rl' or 'exact'"):
        twelve().transitions("D4RL")


# Episodes


def test_returns_equal_a_loop():
    data = twelve()
    for discount in (1.0, 0.9, 0.0):
        expected = [
            sum(discount**t * float(r) for t, r in enumerate(data.rewards[a:b]))
            for a, b in zip(data.episode_starts, data.episode_ends, strict=True)
        ]
        np.testing.assert_allclose(data.returns(discount), expected, rtol=1e-12)


def test_an_episode_is_views():
    data = twelve(next_observations=np.ones((12, 2)), extras={"infos/goal": np.arange(24).reshape(12, 2)})
    episode = data.episode(1)
    assert episode.rewards.shape == (5,)
    assert np.shares_memory(episode.observations, data.observations)
    np.testing.assert_array_equal(episode.extras["infos/goal"], np.arange(8, 18).reshape(5, 2))
    np.testing.assert_array_equal(episode.final_observation, [1, 1])
    assert [len(e.rewards) for e in data] == [4, 5, 3]
    np.testing.assert_array_equal(data[-1].rewards, data.rewards[9:])
    with pytest.raises(UserError, match="from 0 to 2"):
        data.episode(3)


def test_an_episode_with_a_final_observation_has_next_observations():
    data = twelve(final_observations=np.arange(6).reshape(3, 2))
    episode = data.episode(0)
    np.testing.assert_array_equal(episode.next_observations[:-1], data.observations[1:4])
    np.testing.assert_array_equal(episode.next_observations[-1], [0, 1])


@settings(max_examples=100, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    picks=st.lists(st.integers(-100, 100), min_size=1, max_size=8),
    final=st.booleans(),
)
def test_select_and_concatenate_equal_loops(lengths, picks, final):
    steps, episodes = sum(lengths), len(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    fields = {"extras": {"goal": np.arange(steps)}}
    if final:
        fields["final_observations"] = np.random.default_rng(5).normal(size=(episodes, 2)).astype(np.float32)
    else:
        fields["next_observations"] = np.random.default_rng(6).normal(size=(steps, 2)).astype(np.float32)
    data = line(steps, episode_starts=starts, **fields)
    picks = [pick % (2 * episodes) - episodes for pick in picks]
    chosen = data.select(picks)
    joined = EpisodeDataset.concatenate([data.select([pick]) for pick in picks])
    assert chosen.equals(joined)
    assert len(chosen) == len(picks)
    for pick, episode in zip(picks, chosen, strict=True):
        for a, b in zip(episode[:-1], data.episode(pick)[:-1], strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(episode.extras["goal"], data.episode(pick).extras["goal"])


def test_select_by_slice_and_booleans_without_a_copy():
    data = twelve(next_observations=np.ones((12, 2)))
    assert np.shares_memory(data.select(slice(1, None)).observations, data.observations)
    assert data.select(slice(1, None)).equals(data.select(np.array([False, True, True])))
    assert data.select(slice(None, None, -1)).lengths.tolist() == [3, 5, 4]
    with pytest.raises(UserError, match="none of the 3"):
        data.select([])
    with pytest.raises(UserError, match="no episode 3"):
        data.select([0, 3])
    with pytest.raises(UserError, match="float64"):
        data.select([0.5])


def test_top_takes_the_best_first():
    data = line(6, rewards=[1.0, 1.0, 5.0, 0.0, 2.0, 9.0], episode_starts=[0, 2, 3, 4, 5])  # returns 2 5 0 2 9
    assert data.top(3).returns().tolist() == [9, 5, 2]
    assert data.top(3).observations[-1].tolist() == data.observations[1].tolist()  # of equals the earlier episode
    assert data.top(fraction=0.4).returns().tolist() == [9, 5]
    assert data.top(fraction=0.41).num_episodes == 3
    assert data.top(fraction=1e-6).num_episodes == 1
    assert data.top(1, scores=[0, 0, 1, 0, 0]).returns().tolist() == [0]
    for wrong in ({}, {"count": 1, "fraction": 0.5}, {"count": 0}, {"count": 6}, {"fraction": 0.0}, {"fraction": 1.1}):
        with pytest.raises(UserError):
            data.top(**wrong)
    with pytest.raises(UserError, match="5 numbers"):
        data.top(1, scores=[1, 2])


def test_fractions_that_binary_cannot_hold():
    data = line(30, episode_starts=np.arange(30))
    assert [data.top(fraction=f).num_episodes for f in (0.1, 0.3, 0.7)] == [3, 9, 21]


def test_concatenate_keeps_what_all_agree_on():
    one = twelve(attributes={"env": "a", "level": 1}, extras={"goal": np.zeros(12), "mine": np.zeros(12)})
    two = twelve(attributes={"env": "a", "level": 2}, extras={"goal": np.zeros(12)})
    with pytest.raises(UserError, match="'mine'"):
        EpisodeDataset.concatenate([one, two])
    both = EpisodeDataset.concatenate([one.replace(extras={"goal": one.extras["goal"]}), two])
    assert dict(both.attributes) == {"env": "a"}
    assert list(both.extras) == ["goal"]
    assert both.episode_starts.tolist() == [0, 4, 9, 12, 16, 21]
    with pytest.raises(UserError, match=r"shape \(3,\)"):
        EpisodeDataset.concatenate([one, line(12, obs=3)])
    with pytest.raises(UserError, match="stores no next observations"):
        EpisodeDataset.concatenate([twelve(), twelve(next_observations=np.zeros((12, 2)))])
    with pytest.raises(UserError, match="at least one"):
        EpisodeDataset.concatenate([])


def test_concatenate_mixed_storage_of_next_observations():
    final = np.ones((3, 2), np.float32)
    a, b = twelve(final_observations=final), twelve(next_observations=np.zeros((12, 2)))
    both = EpisodeDataset.concatenate([a, b]).transitions("exact")
    np.testing.assert_array_equal(both.next_observations[:12], a.transitions("exact").next_observations)
    np.testing.assert_array_equal(both.next_observations[12:], 0)


def test_replace_relabels_and_records_it():
    data = twelve().replace(rewards=np.arange(12))
    assert data.rewards.tolist() == list(range(12))
    assert data.provenance == ({"action": "replace", "fields": ["rewards"]},)
    with pytest.raises(UserError, match="'reward'"):
        data.replace(reward=0)
    with pytest.raises(UserError, match="5 rows"):
        data.replace(rewards=np.zeros(5))


def test_with_time_limit():
    data = line(8, terminated=[0, 0, 1, 0, 1, 0, 0, 1], truncated=np.zeros(8)).with_time_limit(3)
    assert np.flatnonzero(data.truncated).tolist() == [2, 7]
    assert np.flatnonzero(data.terminated).tolist() == [4]
    assert data.lengths.tolist() == [3, 2, 3]


def test_equals_looks_at_bits():
    data = line(2, rewards=np.array([0.0, 1.0]))
    assert data.equals(line(2, rewards=np.array([0.0, 1.0])))
    assert not data.equals(line(2, rewards=np.array([-0.0, 1.0])))
    assert not data.equals(line(2, rewards=np.array([0.0, 1.0], np.float32)))
    assert not data.equals(data.replace(episode_starts=[0, 1]))
    stored = data.replace(next_observations=np.concatenate([data.observations[1:], [[3, 4]]]))
    assert not data.equals(stored)
    assert stored.equals(data.replace(final_observations=[[3, 4]]))


def test_copies_for_worker_processes_are_equal_and_read_only():
    data = twelve(final_observations=np.ones((3, 2)), extras={"infos/goal": np.arange(12)}, attributes={"env": "a"})
    twin = copy.deepcopy(data)
    assert twin.equals(data)
    assert twin.attributes == data.attributes
    assert not np.shares_memory(twin.observations, data.observations)
    assert not twin.observations.flags.writeable


# Numbers about it


def test_statistics_by_hand():
    data = line(6, rewards=[1.0, 1, 5, 0, 2, 9], terminated=[0, 1, 0, 0, 0, 0], truncated=[0, 0, 1, 0, 0, 0])
    told = data.statistics()
    assert (told["episodes"], told["steps"]) == (3, 6)
    assert (told["terminated_episodes"], told["truncated_episodes"], told["cut_episodes"]) == (1, 1, 1)
    assert told["returns"] == pytest.approx({"mean": 6, "std": np.std([2, 5, 11]), "min": 2, "median": 5, "max": 11})
    assert told["lengths"]["max"] == 3


def test_observation_statistics_of_large_offsets():
    values = np.random.default_rng(0).normal(1e4, 1e-1, size=(500_000, 3)).astype(np.float32)
    data = line(len(values), observations=values)
    mean, std = summary.moments(data.observations)
    np.testing.assert_allclose(mean, values.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, values.astype(np.float64).std(0), rtol=1e-9)


def test_findings_name_what_is_often_a_mistake():
    assert line(50, terminated=np.arange(50) % 7 == 6, seed=3).findings(action_low=-9, action_high=9) == []
    outside = line(3, actions=[[0.0], [1.5], [-2.0]], episode_starts=[0, 1])
    assert any(
        "2 action values" in s and "row 1 (episode 1, step 0)" in s
        for s in outside.findings(action_low=-1, action_high=1)
    )
    assert not any("action values" in s for s in outside.findings())
    still = line(3, observations=[[1.0, 2], [1, 3], [1, 4]], rewards=[2.0, 2, 2])
    assert any("dimensions 0 never" in s for s in still.findings())
    assert any("Every reward is 2.0" in s for s in still.findings())
    limit = line(6, terminated=[0, 0, 1] * 2)
    assert any("with_time_limit(3)" in s for s in limit.findings())
    twins = EpisodeDataset.concatenate([line(3), line(3, seed=1), line(3)])
    assert any("Episodes 0 and 2 are the same" in s for s in twins.findings())
    goals = line(9, terminated=[0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert any("5 of 6" in s for s in goals.findings())
    inside = line(4, terminated=[0, 1, 0, 0], episode_starts=[0])
    assert any("1 steps inside episodes are terminated" in s for s in inside.findings())
    assert any("'x' holds NaN" in s for s in line(2, extras={"x": [0.0, np.nan]}).findings())


def test_normalised_score():
    assert normalised_score(1000.0, "hopper-medium-v2") == pytest.approx(31.349, abs=1e-3)
    assert normalised_score(5000.0, "halfcheetah") == pytest.approx(42.530, abs=1e-3)
    assert normalised_score([3000.0, 1.629008], "walker2d-expert-v2") == pytest.approx([65.314, 0], abs=1e-3)
    assert normalised_score(1.0, "antmaze-large-diverse-v0") == 100
    assert normalised_score(12135.0, "HalfCheetah-v4") == pytest.approx(100)
    for unknown in ("cartpole", "maze2d-umaze-dense-v1", "antelope"):
        with pytest.raises(UserError, match="no reference"):
            normalised_score(0.0, unknown)


# What is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rewards": np.zeros(11)}, "rewards has 11 rows, but observations has 12"),
        ({"actions": np.zeros((13, 1))}, "actions has 13 rows"),
        ({"rewards": np.zeros((12, 2))}, r"rewards is of shape \(12, 2\)"),
        ({"rewards": 1.0}, r"rewards is of shape \(\)"),
        ({"observations": 1.0}, "observations is a single number"),
        ({"observations": np.zeros((0, 2))}, "no steps"),
        ({"observations": [[1, 2], [3]]}, "observations is ragged"),
        ({"observations": np.array(["a"] * 12)}, "observations is of type <U1"),
        ({"actions": np.zeros((12, 1), complex)}, "actions is of type complex128"),
        ({"actions": np.array([None] * 12)}, "actions is of type object"),
        ({"terminated": np.array([0, 1, 2] * 4)}, "terminated holds 2 at row 2"),
        ({"truncated": np.full(12, np.nan)}, "truncated holds nan at row 0"),
        ({"episode_starts": [0, 4, 4]}, "episode 1 starts at row 4 and episode 2 at row 4"),
        ({"episode_starts": [0, 5, 3]}, "episode 1 starts at row 5 and episode 2 at row 3"),
        ({"episode_starts": [1, 5]}, "episode_starts is 1 at first"),
        ({"episode_starts": []}, "episode_starts"),
        ({"episode_starts": [0, 12]}, "episode 1 starts at row 12, but there are only 12 rows"),
        ({"episode_starts": [0.0, 5.0]}, "as integers"),
        ({"next_observations": np.zeros((12, 3))}, r"give shape \(12, 2\)"),
        ({"final_observations": np.zeros((2, 2))}, r"give shape \(3, 2\)"),
        ({"next_observations": np.zeros((12, 2)), "final_observations": np.zeros((3, 2))}, "both given"),
        ({"extras": {"goal": np.zeros(3)}}, "goal has 3 rows"),
        ({"extras": {"a//b": np.zeros(12)}}, "'a//b' cannot name an extra"),
    ],
)
def test_arrays_that_do_not_fit_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        twelve(**fields)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "next_observations"])
def test_non_finite_values_are_named_by_episode_and_row(name, value):
    array = np.zeros({"rewards": 12, "actions": (12, 1)}.get(name, (12, 2)))
    array[10] = value
    array[11] = value
    with pytest.raises(UserError, match=rf"{name} holds {value} at row 10 \(episode 2, step 1\)"):
        twelve(**{name: array})


def test_a_non_finite_final_observation_is_named_by_episode():
    with pytest.raises(UserError, match="final_observations holds nan at episode 1"):
        twelve(final_observations=[[0, 0], [0, np.nan], [0, 0]])


def test_a_non_finite_value_far_into_a_large_array_is_found():
    values = np.zeros((700_000, 3), np.float32)
    values[654_321, 2] = np.nan
    with pytest.raises(UserError, match="row 654321 "):
        line(len(values), observations=values)


def test_importing_the_package_does_not_wait_for_h5py():
    code = "import sys, paperloop_data; print('h5py' in sys.modules); paperloop_data.load; print('h5py' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
