"""D4RL files written by hand with h5py."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset, read_d4rl


def write(path, **arrays):
    """A file as D4RL's own collectors write it: plain datasets, no checksums."""
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value)
    return path


def hopper_like(steps=12, terminal=(3,), timeout=(8,), seed=0) -> dict:
    rng = np.random.default_rng(seed)
    terminals, timeouts = np.zeros(steps, bool), np.zeros(steps, bool)
    terminals[list(terminal)], timeouts[list(timeout)] = True, True
    observations = rng.normal(size=(steps, 3)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    for end in (*terminal, *timeout, steps - 1):
        following[end] = rng.normal(size=3)
    return {
        "observations": observations,
        "actions": rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
        "rewards": rng.normal(size=steps).astype(np.float32),
        "next_observations": following,
        "terminals": terminals,
        "timeouts": timeouts,
    }


def without(arrays: dict, *names: str) -> dict:
    return {name: value for name, value in arrays.items() if name not in names}


def test_reads_every_array(tmp_path):
    arrays = hopper_like()
    goal = np.repeat([[1.0, 2], [3, 4], [5, 6]], 4, axis=0)
    path = write(
        tmp_path / "hopper.hdf5",
        **arrays,
        **{
            "infos/goal": goal,
            "infos/qpos": np.zeros((12, 6), np.float32),
            "metadata/algorithm": np.bytes_("SAC"),
            "metadata/iteration": np.int32(7),
            "metadata/policy/fc0/weight": np.zeros((20, 20)),
            "virtual/0/observations": np.zeros((12, 3)),
        },
    )
    data = EpisodeDataset.load(path)
    for name in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(getattr(data, name), arrays[name])
        assert getattr(data, name).dtype == np.float32
    np.testing.assert_array_equal(data.terminated, arrays["terminals"])
    np.testing.assert_array_equal(data.truncated, arrays["timeouts"])
    assert data.lengths.tolist() == [4, 5, 3]
    assert sorted(data.extras) == ["infos/goal", "infos/qpos"]
    np.testing.assert_array_equal(data.extras["infos/goal"], goal)
    assert data.attributes["metadata"] == {"algorithm": "SAC", "iteration": 7}
    assert data.attributes["not_loaded"] == ["metadata/policy/fc0/weight"]
    assert read_d4rl(path, extras=False).extras == {}
    assert list(read_d4rl(path, extras=["infos/goal"]).extras) == ["infos/goal"]
    with pytest.raises(UserError, match="no extra 'infos/gaol'"):
        read_d4rl(path, extras=["infos/gaol"])


def test_the_two_semantics(tmp_path):
    arrays = hopper_like()
    data = read_d4rl(write(tmp_path / "a.hdf5", **arrays))
    assert len(data.transitions("d4rl").rows) == 12 - 1 - 1
    exact = data.transitions("exact")
    assert len(exact.rows) == 12
    np.testing.assert_array_equal(exact.next_observations, arrays["next_observations"])


def test_columns_and_numeric_flags_are_squeezed(tmp_path):
    arrays = hopper_like()
    columns = {n: arrays[n].astype(np.float32)[:, None] for n in ("rewards", "terminals", "timeouts")}
    a = read_d4rl(write(tmp_path / "a.hdf5", **arrays))
    b = read_d4rl(write(tmp_path / "b.hdf5", **arrays | columns))
    assert a.equals(b)


def test_provenance_says_where_it_comes_from(tmp_path):
    import hashlib

    path = write(tmp_path / "a.hdf5", **without(hopper_like(), "timeouts"))
    data = read_d4rl(path, max_episode_steps=5)
    (record,) = data.provenance
    assert record["file"] == "a.hdf5"
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["options"] == {"max_episode_steps": 5}
    assert record["episode_ends"] == "steps"
    assert str(tmp_path) not in str(record)


# Files without time-outs


def test_counted_time_outs_are_exact_by_default(tmp_path):
    # Episodes of 3 (terminal), 4 (limit), 4 (limit), 2 (terminal at its second step), 3 (file ends).
    arrays = without(hopper_like(16, terminal=(2, 12), timeout=()), "timeouts")
    data = read_d4rl(write(tmp_path / "a.hdf5", **arrays), max_episode_steps=4)
    assert data.lengths.tolist() == [3, 4, 4, 2, 3]
    assert np.flatnonzero(data.truncated).tolist() == [6, 10]


def test_a_terminal_step_at_the_limit_has_both_flags(tmp_path):
    arrays = without(hopper_like(6, terminal=(3,), timeout=()), "timeouts")
    data = read_d4rl(write(tmp_path / "a.hdf5", **arrays), max_episode_steps=4)
    assert data.terminated[3]
    assert data.truncated[3]


def test_mismatch_finds_the_ends_that_the_flags_would(tmp_path):
    arrays = hopper_like(200, terminal=(30, 77), timeout=(50, 120, 121))
    expected = read_d4rl(write(tmp_path / "a.hdf5", **arrays))
    with pytest.warns(UserWarning, match="such as max_episode_steps=1000, to cut by it"):
        found = read_d4rl(write(tmp_path / "b.hdf5", **without(arrays, "timeouts")))
    assert found.equals(expected)
    assert found.provenance[-1]["episode_ends"] == "mismatch"


def test_nothing_tells_the_time_outs(tmp_path):
    path = write(tmp_path / "a.hdf5", **without(hopper_like(), "timeouts", "next_observations"))
    with pytest.raises(UserError, match="max_episode_steps=1000"):
        EpisodeDataset.load(path)
    with pytest.raises(UserError, match="needs 'timeouts'"):
        EpisodeDataset.load(path, episode_ends="timeouts")
    with pytest.raises(UserError, match="needs the time limit"):
        EpisodeDataset.load(path, episode_ends="steps")
    with pytest.raises(UserError, match="at least 1"):
        EpisodeDataset.load(path, max_episode_steps=0)


# AntMaze: the terminal flag stays on at the goal


def antmaze_like() -> dict:
    arrays = hopper_like(12, terminal=(), timeout=(5, 11))
    arrays["terminals"][3:6] = True
    arrays["infos/goal"] = np.repeat([[1.0, 1], [2, 2]], 6, axis=0)
    return arrays


def test_antmaze_episodes(tmp_path):
    path = write(tmp_path / "a.hdf5", **antmaze_like())
    assert read_d4rl(path).lengths.tolist() == [4, 1, 1, 6]
    by_time_out = read_d4rl(path, episode_ends="timeouts")
    assert by_time_out.lengths.tolist() == [6, 6]
    by_goal = read_d4rl(path, episode_ends="goal", extras=False)
    assert by_goal.lengths.tolist() == [6, 6]
    assert np.flatnonzero(by_goal.truncated).tolist() == [5]
    assert by_goal.terminated.sum() == 3


def test_goals_that_cannot_tell_episodes_apart_are_refused(tmp_path):
    arrays = antmaze_like()
    bare = without(arrays, "timeouts", "next_observations")
    for whole, goals, message in [
        (arrays, 1.0, "infos/goal never changes.*; read it with episode_ends='timeouts'"),
        (arrays, np.nan, "infos/goal holds NaN.*; read it with episode_ends='timeouts'"),
        (without(arrays, "timeouts"), 1.0, "never changes.*; read it with episode_ends='mismatch'"),
        (bare, 1.0, "never changes.*; read it with episode_ends='steps' and the time limit, such as max_episode"),
    ]:
        path = write(tmp_path / "a.hdf5", **whole | {"infos/goal": np.full((12, 2), goals)})
        with pytest.raises(UserError, match=message):
            read_d4rl(path, episode_ends="goal")
    # Four episodes of three steps, of which the second and third have the same goal.
    ends = {"timeouts": np.arange(12) % 3 == 2, "infos/goal": np.repeat([1.0, 2, 2, 3], 3)[:, None]}
    merged = r"ends at row 5 \(episode 1, step 2\), where infos/goal does not change"
    with pytest.raises(UserError, match=merged):
        read_d4rl(write(tmp_path / "b.hdf5", **without(arrays, "next_observations") | ends), episode_ends="goal")
    following = np.roll(arrays["observations"], -1, axis=0)
    following[[2, 5, 8, 11]] += 1
    told = without(arrays, "timeouts") | {"infos/goal": ends["infos/goal"], "next_observations": following}
    with pytest.raises(UserError, match=merged):
        read_d4rl(write(tmp_path / "c.hdf5", **told), episode_ends="goal")


def test_time_outs_out_of_step_with_the_goals_do_not_count_against_them(tmp_path):
    """AntMaze v0 marks a time-out every 10 rows, say, where episodes have 11."""
    arrays = without(hopper_like(121, terminal=(), timeout=()), "next_observations")
    arrays |= {"timeouts": np.arange(121) % 10 == 9, "infos/goal": np.repeat(np.arange(11.0), 11)}
    data = read_d4rl(write(tmp_path / "a.hdf5", **arrays), episode_ends="goal")
    assert data.lengths.tolist() == [11] * 11


def test_findings_recognise_flags_that_stay_on_at_the_goal(tmp_path):
    """Six episodes of 30 steps, of which the last 10 each are at the goal."""
    arrays = without(hopper_like(180, terminal=(), timeout=()), "timeouts", "next_observations")
    arrays |= {"terminals": np.arange(180) % 30 >= 20, "timeouts": np.arange(180) % 30 == 29}
    path = write(tmp_path / "a.hdf5", **arrays)
    data = read_d4rl(path)
    assert data.num_episodes == 60
    (said,) = (said for said in data.findings() if "54 of 60 episodes are one terminal step right after" in said)
    assert said.endswith("as in AntMaze, read the file with episode_ends='timeouts'.")
    right = read_d4rl(path, episode_ends="timeouts")
    assert right.num_episodes == 6
    assert not any("right after another" in said for said in right.findings())


def test_antmaze_episodes_survive_writing(tmp_path):
    data = read_d4rl(write(tmp_path / "a.hdf5", **antmaze_like()), episode_ends="timeouts")
    again = EpisodeDataset.load(data.save(tmp_path / "b.hdf5"))
    assert again.equals(data)
    assert again.provenance[-1]["episode_ends"] == "stored"


# Writing


def test_written_files_have_d4rls_layout(tmp_path):
    data = read_d4rl(
        write(tmp_path / "a.hdf5", **hopper_like(), **{"infos/qpos": np.zeros(12), "metadata/algorithm": "SAC"})
    )
    path = data.save(tmp_path / "deep" / "b.hdf5")
    with h5py.File(path) as file:
        assert set(file) == {*hopper_like(), "infos", "metadata"}
        assert file["terminals"].dtype == bool
        assert file["observations"].fletcher32
        assert file["metadata/algorithm"][()] == b"SAC"
        for name, value in hopper_like().items():
            np.testing.assert_array_equal(file[name][()], value)
    again = EpisodeDataset.load(path)
    assert again.equals(data)
    assert [step["action"] for step in again.provenance] == ["read", "write", "read"]
    assert again.attributes["metadata"] == {"algorithm": "SAC"}


def test_compressed_files_hold_the_same_and_are_smaller(tmp_path):
    data = read_d4rl(write(tmp_path / "a.hdf5", **hopper_like())).select([1] * 500)
    plain, packed = data.save(tmp_path / "b.h5"), data.save(tmp_path / "c.h5", compress=True)
    assert packed.stat().st_size < 0.5 * plain.stat().st_size
    assert EpisodeDataset.load(packed).equals(EpisodeDataset.load(plain))


def test_a_cut_becomes_a_time_out_except_at_the_end(tmp_path):
    data = read_d4rl(write(tmp_path / "a.hdf5", **hopper_like(terminal=(), timeout=()))).replace(
        episode_starts=[0, 5, 9]
    )
    again = EpisodeDataset.load(data.save(tmp_path / "b.hdf5"))
    assert again.episode_starts.tolist() == [0, 5, 9]
    assert np.flatnonzero(again.truncated).tolist() == [4, 8]
    assert again.transitions("d4rl").rows.tolist() == data.transitions("d4rl").rows.tolist()


@pytest.mark.parametrize("name", ["a.hdf5", "a.npz", "a-v0"])
def test_episodes_of_one_step_are_read(tmp_path, name):
    ones = np.ones(3)
    data = EpisodeDataset(np.eye(3), ones, ones, ones, np.zeros(3), next_observations=np.eye(3)[::-1])
    again = EpisodeDataset.load(data.save(tmp_path / name))
    assert again.equals(data)
    assert again.lengths.tolist() == [1, 1, 1]
    assert not any("one terminal step" in said for said in again.findings())


def test_extras_with_d4rls_names_are_refused(tmp_path):
    data = read_d4rl(write(tmp_path / "a.hdf5", **hopper_like()))
    for name in ("timeouts", "metadata/x"):
        with pytest.raises(UserError, match=name):
            data.replace(extras={name: np.zeros(12)}).save(tmp_path / "b.hdf5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hdf5"]


def test_missing_rewards_need_a_word(tmp_path):
    path = write(tmp_path / "a.hdf5", **without(hopper_like(), "rewards"))
    with pytest.raises(UserError, match=r"default_reward=0\.0"):
        EpisodeDataset.load(path)
    assert EpisodeDataset.load(path, default_reward=-1.0).rewards.tolist() == [-1.0] * 12
