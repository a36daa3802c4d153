"""Minari folders: written by hand, and written and read by the `minari` package where it is installed."""

from __future__ import annotations

import json
import warnings

import h5py
import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset, dataset_path, format_of, is_minari, read_minari

BOX = {"type": "Box", "dtype": "float32", "shape": [3], "low": [-1.0] * 3, "high": [1.0] * 3}


def random_dataset(lengths=(4, 1, 3), seed=0, **fields) -> EpisodeDataset:
    rng = np.random.default_rng(seed)
    n = sum(lengths)
    ends = np.cumsum(lengths) - 1
    terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
    terminated[ends[::2]], truncated[ends[1::2]] = True, True
    defaults = {
        "observations": rng.uniform(-1, 1, size=(n, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(n, 2)).astype(np.float32),
        "rewards": rng.normal(size=n),
        "terminated": terminated,
        "truncated": truncated,
        "final_observations": rng.uniform(-1, 1, size=(len(lengths), 3)).astype(np.float32),
    }
    return EpisodeDataset(**defaults | fields)


def by_hand(folder, episodes, *, count=None, **metadata):
    """A folder as Minari lays it out: `episodes` is a list of name -> array, with "/" for groups."""
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number, episode in enumerate(episodes):
            group = file.create_group(f"episode_{number}")
            for name, value in episode.items():
                group.create_dataset(name, data=value)
    contents = {"total_episodes": len(episodes) if count is None else count, "dataset_id": "a/b-v0"}
    contents |= {"observation_space": json.dumps(BOX), "data_format": "hdf5", "author": ["x"]} | metadata
    (folder / "data" / "metadata.json").write_text(json.dumps(contents))
    return folder


def episode(length: int, **changes) -> dict:
    return {
        "observations": np.arange((length + 1) * 3, dtype=np.float32).reshape(-1, 3) / 100,
        "actions": np.zeros((length, 2), np.float32),
        "rewards": np.ones(length),
        "terminations": np.arange(length) == length - 1,
        "truncations": np.zeros(length, bool),
    } | changes


def test_reads_a_folder_written_by_hand(tmp_path):
    infos = [{"infos/qpos": np.arange(n + 1.0), "infos/deep/x": np.arange(n)} for n in (3, 2)]
    infos[1]["infos/deep/x"] = infos[1]["infos/deep/x"].astype(float)  # of another type: not loaded
    data = EpisodeDataset.load(by_hand(tmp_path / "x", [episode(3) | infos[0], episode(2) | infos[1]]))
    assert data.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(data.episode(0).observations, episode(3)["observations"][:3])
    np.testing.assert_allclose(data.final_observations, [[0.09, 0.10, 0.11], [0.06, 0.07, 0.08]], rtol=1e-6)
    assert data.extras["infos/qpos"].tolist() == [0, 1, 2, 0, 1]
    assert data.attributes["not_loaded"] == ["infos/deep/x"]
    assert data.attributes["minari"]["author"] == ["x"]
    assert data.provenance[-1]["file"] == "x"


def test_dict_observations_are_named_and_flattened(tmp_path):
    def goal_episode(length):
        whole = episode(length)
        rows = whole.pop("observations")
        return whole | {
            "observations/observation": rows,
            "observations/desired_goal": rows[:, :2] + 1,
            "observations/deep/achieved_goal": rows[:, 0],
        }

    folder = by_hand(tmp_path / "x", [goal_episode(3), goal_episode(2)], observation_space='{"type": "Dict"}')
    with pytest.raises(UserError, match=r"deep/achieved_goal, desired_goal, observation.*observation_keys="):
        EpisodeDataset.load(folder)
    data = EpisodeDataset.load(folder, observation_keys=("observation", "desired_goal"))
    assert data.observations.shape == (5, 5)
    np.testing.assert_array_equal(data.observations[:, 3:], data.observations[:, :2] + 1)
    np.testing.assert_array_equal(data.final_observations[:, 3:], data.final_observations[:, :2] + 1)
    np.testing.assert_array_equal(data.extras["observations/deep/achieved_goal"], data.observations[:, 0])
    with pytest.raises(UserError, match="no part 'goal'"):
        EpisodeDataset.load(folder, observation_keys=("goal",))
    with pytest.raises(UserError, match="observation_keys does not apply"):
        EpisodeDataset.load(by_hand(tmp_path / "y", [episode(2)]), observation_keys=("goal",))
    again = EpisodeDataset.load(data.save(tmp_path / "z-v0"))
    assert again.equals(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.zeros(0)}, "episode 1 has no steps"),
        ({"rewards": np.zeros(5)}, r"episode 1 has terminations of shape \(2,\)"),
        ({"observations": np.zeros((2, 3), np.float32)}, r"episode 1 has observations of shape \(2, 3\)"),
        ({"observations": np.zeros((3, 4), np.float32)}, r"episode 1 has observations of shape \(3, 4\)"),
        ({"observations": np.zeros((3, 3))}, "episode 1 has observations of .* type float64"),
        (
            {"observations": np.full((3, 3), np.nan, np.float32)},
            r"observations holds nan at row 2 \(episode 1, step 0\)",
        ),
        ({"actions": None}, "episode 1 has no actions"),
    ],
)
def test_a_bad_episode_is_named(tmp_path, change, message):
    bad = {name: value for name, value in episode(2, **change).items() if value is not None}
    folder = by_hand(tmp_path / "x", [episode(2), bad, episode(2)])
    with pytest.raises(UserError, match=message) as caught:
        EpisodeDataset.load(folder)
    assert str(caught.value).startswith("x: ")


def test_a_non_finite_final_observation_is_named(tmp_path):
    rows = episode(2)["observations"].copy()
    rows[-1] = np.nan
    with pytest.raises(UserError, match="final_observations holds nan at episode 1"):
        EpisodeDataset.load(by_hand(tmp_path / "x", [episode(2), episode(2, observations=rows)]))


def test_incomplete_folders(tmp_path):
    with pytest.raises(UserError, match=r"says 3 episodes, main_data\.hdf5 holds 1"):
        EpisodeDataset.load(by_hand(tmp_path / "a", [episode(2)], count=3))
    with pytest.raises(UserError, match="it has no episodes"):
        EpisodeDataset.load(by_hand(tmp_path / "b", []))
    with pytest.raises(UserError, match="stored as arrow"):
        EpisodeDataset.load(by_hand(tmp_path / "c", [episode(2)], data_format="arrow"))
    folder = by_hand(tmp_path / "d", [episode(2)])
    (folder / "data" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match=r"metadata\.json is damaged"):
        EpisodeDataset.load(folder)
    (folder / "data" / "metadata.json").unlink()
    with pytest.raises(UserError, match=r"metadata\.json is missing"):
        EpisodeDataset.load(folder)
    folder = by_hand(tmp_path / "e", [episode(2)])
    (folder / "data" / "main_data.hdf5").unlink()
    with pytest.raises(UserError, match=r"main_data\.hdf5 is missing"):
        EpisodeDataset.load(folder)


def test_what_changed_after_we_wrote_it_is_named(tmp_path):
    spec = {"env_spec": json.dumps({"id": "Pendulum-v1", "kwargs": {"g": 2.0}}), "counts": {2: "a", 10: "b"}}
    folder = random_dataset().save(tmp_path / "x-v0", metadata=spec)
    metadata, main = folder / "data" / "metadata.json", folder / "data" / "main_data.hdf5"
    written, content = metadata.read_text(), main.read_bytes()
    for changed in (written.replace("2.0", "3.0"), written.replace('"env_spec"', '"env_spek"', 1)):
        metadata.write_text(changed)
        with pytest.raises(UserError, match=r"env_spec in metadata\.json is not what was written"):
            EpisodeDataset.load(folder)
    metadata.write_text(written)
    main.write_bytes(content + b"0")
    with pytest.raises(UserError, match=r"main_data\.hdf5 is not what was written"):
        EpisodeDataset.load(folder)
    changed = json.loads(written)
    del changed["paperloop_sha256"]  # which is what the message advises
    metadata.write_text(json.dumps(changed))
    assert EpisodeDataset.load(folder).equals(random_dataset())


def test_a_local_dataset_is_found_by_its_id(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = random_dataset()
    data.save(tmp_path / "mujoco" / "hopper" / "expert-v0", dataset_id="mujoco/hopper/expert-v0")
    assert EpisodeDataset.load("mujoco/hopper/expert-v0").equals(data)
    assert format_of("mujoco/hopper/expert-v0") == "minari"
    assert is_minari("mujoco/hopper/expert-v0")
    assert not is_minari("mujoco/hopper/nonesuch-v0")
    assert dataset_path("mujoco/hopper/expert-v0") == tmp_path / "mujoco" / "hopper" / "expert-v0"
    with pytest.raises(UserError, match=r"no Minari dataset of that id in .*`minari download mujoco/hopper/medium-v0`"):
        EpisodeDataset.load("mujoco/hopper/medium-v0")
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    data.save(tmp_path / ".minari" / "datasets" / "a-v0")
    assert EpisodeDataset.load("a-v0").equals(data)


def test_jpeg_images_are_refused(tmp_path):
    space = json.dumps({"type": "Box", "dtype": "uint8", "shape": [64, 64, 3], "low": 0, "high": 255})
    images = episode(2, observations=np.zeros((3, 700), np.uint8))
    with pytest.raises(UserError, match="jpeg_encoding=False"):
        EpisodeDataset.load(by_hand(tmp_path / "x", [images], observation_space=space))


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="replace\\(final_observations="):
        random_dataset(final_observations=None).save(tmp_path / "x-v0")
    with pytest.raises(UserError, match="'namespace/name-v0'; got 'x'"):
        random_dataset().save(tmp_path / "x")
    twins = {"goal": np.zeros(8), "infos/goal": np.zeros(8)}
    with pytest.raises(UserError, match="'infos/goal'; rename"):
        random_dataset(extras=twins).save(tmp_path / "x-v0")
    assert list(tmp_path.iterdir()) == []


def test_next_observations_that_are_not_the_next_rows_are_kept(tmp_path):
    following = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    data = random_dataset(final_observations=None, next_observations=following)
    again = EpisodeDataset.load(data.save(tmp_path / "x-v0"))
    np.testing.assert_array_equal(again.next_observations, following)
    assert again.equals(data)


# The package itself


@pytest.fixture
def minari():
    pytest.importorskip("PIL", reason="minari's HDF5 storage needs pillow")
    return pytest.importorskip("minari", reason="needs the package minari")


@pytest.mark.parametrize("discrete", [False, True])
def test_minari_reads_what_we_write(tmp_path, monkeypatch, minari, discrete):
    fields = {"actions": np.array([0, 2, 1, 2, 0, 1, 2, 2])} if discrete else {}
    data = random_dataset(extras={"infos/qpos": np.arange(16.0).reshape(8, 2), "plain": np.arange(8)}, **fields)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data.save(
        tmp_path / "mine" / "walker" / "medium-v1", dataset_id="mine/walker/medium-v1", metadata={"author": ["x"]}
    )
    assert list(minari.list_local_datasets()) == ["mine/walker/medium-v1"]
    theirs = minari.load_dataset("mine/walker/medium-v1")
    assert (theirs.total_episodes, theirs.total_steps) == (3, 8)
    assert theirs.observation_space.shape == (3,)
    for number, read in enumerate(theirs.iterate_episodes()):
        ours = data.episode(number)
        np.testing.assert_array_equal(read.observations, [*ours.observations, ours.final_observation])
        np.testing.assert_array_equal(read.actions, ours.actions)
        np.testing.assert_array_equal(read.rewards, ours.rewards)
        np.testing.assert_array_equal(read.terminations, ours.terminated)
        np.testing.assert_array_equal(read.truncations, ours.truncated)
        np.testing.assert_array_equal(read.infos["qpos"], ours.extras["infos/qpos"])
        assert all(theirs.action_space.contains(action) for action in read.actions)
        assert all(theirs.observation_space.contains(row) for row in read.observations)


def test_we_read_what_minari_writes_and_write_it_back(tmp_path, monkeypatch, minari):
    spaces = pytest.importorskip("gymnasium").spaces
    from minari.data_collector import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = random_dataset(extras={"infos/speed": np.arange(8.0)})
    buffers = [
        EpisodeBuffer(
            id=number,
            seed=number,
            observations=np.concatenate([e.observations, e.final_observation[None]]),
            actions=e.actions,
            rewards=list(e.rewards),
            terminations=list(e.terminated),
            truncations=list(e.truncated),
            infos={"speed": e.extras["infos/speed"]},
        )
        for number, e in enumerate(data)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for authors and permalinks
        minari.create_dataset_from_buffers(
            "walker/theirs-v0",
            buffers,
            observation_space=spaces.Box(-1, 1, (3,), np.float32),
            action_space=spaces.Box(-1, 1, (2,), np.float32),
        )
    read = EpisodeDataset.load(tmp_path / "walker" / "theirs-v0")
    assert read.equals(data)
    read.save(tmp_path / "walker" / "ours-v0", dataset_id="walker/ours-v0")
    one, two = (minari.load_dataset(f"walker/{name}-v0") for name in ("theirs", "ours"))
    assert one.observation_space == two.observation_space  # the bounds came along
    assert one.action_space == two.action_space
    for a, b in zip(one.iterate_episodes(), two.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.rewards, b.rewards)
    assert read_minari(tmp_path / "walker" / "ours-v0").equals(data)


def test_we_read_what_minaris_collector_records(tmp_path, monkeypatch, minari):
    """A real environment with Dict observations of different shapes, infos of T+1 rows, and a time limit."""
    gymnasium = pytest.importorskip("gymnasium")

    class Walk(gymnasium.Env):
        observation_space = gymnasium.spaces.Dict(
            {
                "where": gymnasium.spaces.Box(-99, 99, (2,), np.float64),
                "goal": gymnasium.spaces.Box(0, 1, (1,), np.float64),
            }
        )
        action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

        def _state(self):
            return {"where": self.at.copy(), "goal": np.array([0.5])}, {"speed": float(self.at.sum())}

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.at = self.np_random.normal(size=2)
            return self._state()

        def step(self, action):
            self.at += action
            return self._state()[0], float(self.at[0]), bool(self.at[0] > 1), False, self._state()[1]

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    seen, env = [], minari.DataCollector(gymnasium.wrappers.TimeLimit(Walk(), 5), record_infos=True)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(6):
            state, _ = env.reset(seed=number)
            done = False
            while not done:
                action = rng.uniform(-1, 1, 2).astype(np.float32)
                following, reward, terminated, truncated, _ = env.step(action)
                seen.append((state["where"], action, reward, following["where"], terminated, truncated))
                state, done = following, terminated or truncated
        env.create_dataset("walk/test-v0")
    data = EpisodeDataset.load(tmp_path / "walk" / "test-v0", observation_keys=("where",))
    got = data.transitions("exact", dtype=None)
    assert data.terminated.any()
    assert data.truncated.any()
    for row, (s, a, r, following, terminated, truncated) in enumerate(seen):
        np.testing.assert_array_equal(got.observations[row], s)
        np.testing.assert_array_equal(got.actions[row], a)
        assert got.rewards[row] == r
        np.testing.assert_array_equal(got.next_observations[row], following)
        assert got.terminals[row] == terminated
        assert data.truncated[row] == truncated
    np.testing.assert_allclose(data.extras["infos/speed"], data.observations.sum(axis=1))
    assert (data.extras["observations/goal"] == 0.5).all()
