"""npz, detection of formats, round trips between all three, atomic writing, damage."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paperloop.errors import UserError
from paperloop_data import EpisodeDataset, UnusedOptionWarning, read_npz, write_npz
from paperloop_data.formats import writing

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def finite(shape, dtype):
    if np.dtype(dtype).kind == "f":
        width = np.dtype(dtype).itemsize * 8
        return hnp.arrays(dtype, shape, elements=st.floats(allow_nan=False, allow_infinity=False, width=width))
    return hnp.arrays(dtype, shape)


@st.composite
def datasets(draw) -> EpisodeDataset:
    """Any dataset that all three formats hold: every end flagged, except perhaps the last."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    steps, ends = sum(lengths), np.cumsum(lengths) - 1
    kind = np.array(draw(st.lists(st.sampled_from([1, 2, 3]), min_size=len(lengths), max_size=len(lengths))))
    kind[-1] = draw(st.sampled_from([0, 1, 2, 3]))
    terminated, truncated = np.zeros(steps, bool), np.zeros(steps, bool)
    terminated[ends], truncated[ends] = kind & 1 == 1, kind & 2 == 2
    terminated |= np.array(draw(st.lists(st.sampled_from([False] * 9 + [True]), min_size=steps, max_size=steps)))
    obs = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    obs_type = draw(st.sampled_from([np.uint8, np.int64, np.float16, np.float32, np.float64]))
    act = draw(st.sampled_from([((), np.int64), ((2,), np.float32), ((1,), np.float64), ((2,), np.bool_)]))
    fields = {}
    if draw(st.booleans()):
        fields["final_observations"] = draw(finite((len(lengths), *obs), obs_type))
    else:
        fields["next_observations"] = draw(finite((steps, *obs), obs_type))
    extras = {}
    if draw(st.booleans()):
        extras["infos/goal"] = draw(hnp.arrays(np.float32, (steps, 2)))  # NaN allowed
    if draw(st.booleans()):
        extras["plain"] = draw(finite((steps,), np.int32))
    return EpisodeDataset(
        draw(finite((steps, *obs), obs_type)),
        draw(finite((steps, *act[0]), act[1])),
        draw(finite((steps,), draw(FLOATS))),
        terminated,
        truncated,
        episode_starts=np.cumsum([0, *lengths[:-1]]),
        extras=extras,
        attributes={"env": "a", "n": 3, "nested": {"list": [1, 2.5, None]}},
        **fields,
    )


def small(episodes=3, steps=5, seed=0, **fields) -> EpisodeDataset:
    rng = np.random.default_rng(seed)
    n = episodes * steps
    ends = np.arange(n) % steps == steps - 1
    defaults = {
        "observations": rng.normal(size=(n, 3)).astype(np.float32),
        "actions": rng.normal(size=(n, 2)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        "terminated": np.zeros(n, bool),
        "truncated": ends,
        "final_observations": rng.normal(size=(episodes, 3)).astype(np.float32),
    }
    return EpisodeDataset(**defaults | fields)


# Round trips


@settings(max_examples=25, deadline=None)  # of six files each
@given(data=datasets())
def test_every_format_keeps_every_bit(data):
    with tempfile.TemporaryDirectory() as name:
        here, folder = data, Path(name)
        for step, target in enumerate(["a.npz", "a.hdf5", "a-v0", "b.npz", "b-v0", "b.hdf5"]):
            here = EpisodeDataset.load(here.save(folder / target))
            assert here.equals(data), target
            assert {k: v for k, v in here.attributes.items() if k != "minari"} == dict(data.attributes)
            assert len(here.provenance) == 2 * (step + 1)


@settings(max_examples=40, deadline=None)
@given(data=datasets(), starts=st.data())
def test_npz_keeps_any_boundaries_and_cuts(data, starts):
    where = sorted(starts.draw(st.sets(st.integers(1, max(1, data.num_steps - 1)), max_size=5)))
    where = [0, *(w for w in where if w < data.num_steps)]
    data = data.replace(episode_starts=where, final_observations=None, next_observations=None)
    with tempfile.TemporaryDirectory() as name:
        for compress in (False, True):
            again = EpisodeDataset.load(data.save(Path(name) / f"{compress}.npz", compress=compress))
            assert again.equals(data)


def test_equal_datasets_give_equal_archives(tmp_path):
    small().save(tmp_path / "a.npz")
    small().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_numpy_reads_what_is_written(tmp_path):
    data = small()
    with np.load(data.save(tmp_path / "a.npz"), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["observations"], data.observations)
        np.testing.assert_array_equal(archive["episode_starts"], [0, 5, 10])


# npz of others


def test_npz_with_one_group_an_episode(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    lengths = {0: 3, 1: 2, 2: 4, 10: 1}  # 10 comes after 2, not after 1
    for number, length in lengths.items():
        arrays[f"episode_{number}/obs"] = rng.normal(size=(length + 1, 2))
        arrays[f"episode_{number}/action"] = rng.normal(size=(length, 1))
        arrays[f"episode_{number}/reward"] = np.full((length, 1), number)
        arrays[f"episode_{number}/done_by_user"] = np.arange(length)
        arrays[f"episode_{number}/name"] = np.array("x")
    arrays["episode_2/late"] = np.arange(4)
    arrays["episode_1/terminal"] = np.array([False, True])
    np.savez(tmp_path / "a.npz", **arrays)
    data = EpisodeDataset.load(tmp_path / "a.npz")
    assert data.lengths.tolist() == [3, 2, 4, 1]
    assert data.cut.tolist() == [True, False, True, True]
    assert data.rewards.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2, 10]
    assert list(data.extras) == ["done_by_user"]
    assert data.attributes["not_loaded"] == ["episode_*/late", "episode_*/name"]
    np.testing.assert_array_equal(data.final_observations[1], arrays["episode_1/obs"][-1])
    np.testing.assert_array_equal(data.episode(2).observations, arrays["episode_2/obs"][:-1])


def test_npz_with_d4rls_names(tmp_path):
    n = 6
    arrays = {"observations": np.eye(n), "actions": np.zeros((n, 1)), "rewards": np.ones(n)}
    arrays["terminals"] = np.arange(n) == 1
    np.savez(tmp_path / "a.npz", **arrays, timeouts=np.arange(n) == 4, goal=np.arange(n))
    data = EpisodeDataset.load(tmp_path / "a.npz")
    assert data.lengths.tolist() == [2, 3, 1]
    assert data.extras["goal"].tolist() == list(range(n))
    np.savez(tmp_path / "b.npz", **arrays)
    assert read_npz(tmp_path / "b.npz", max_episode_steps=2).lengths.tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="max_episode_steps=1000"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episode_1/action": np.zeros((0, 1))}, "episode 1 has no steps"),
        ({"episode_1/action": np.zeros((3, 1))}, "episode 1 has 2 rows of rewards, but 3 actions|3 actions"),
        ({"episode_1/observation": np.zeros((2, 5))}, r"episode 1 has observations of shape \(5,\) a step"),
        ({"episode_1/reward": np.zeros((2, 2))}, r"episode 1: rewards is of shape \(2, 2\)"),
        ({"episode_0/terminal": np.array([0, 3])}, "episode 0: terminated holds 3 at row 1"),
        ({"episode_1/observation": np.full((2, 3), np.nan)}, r"observations holds nan at row 2 \(episode 1, step 0\)"),
        ({"episode_0/next_observation": np.zeros((2, 3))}, "episode 1 has no next_observations"),
        ({"episode_1/action": None}, r"episode 1 has no actions \(it holds observation, reward\)"),
    ],
)
def test_a_bad_episode_of_an_archive_is_named(tmp_path, change, message):
    arrays = {}
    for number in range(2):
        arrays[f"episode_{number}/observation"] = np.zeros((2, 3))
        arrays[f"episode_{number}/action"] = np.zeros((2, 1))
        arrays[f"episode_{number}/reward"] = np.zeros(2)
    arrays = {name: value for name, value in (arrays | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message) as caught:
        EpisodeDataset.load(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(ran),))

    flags = np.zeros(1, bool)
    np.savez(
        tmp_path / "a.npz",
        observations=np.array([Trap()], object),
        actions=np.zeros(1),
        rewards=np.zeros(1),
        terminated=flags,
        truncated=flags,
    )
    with pytest.raises(UserError, match="pickled objects, which can run code"):
        EpisodeDataset.load(tmp_path / "a.npz")
    assert not ran.exists()
    (tmp_path / "b.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickle, which can run code"):
        EpisodeDataset.load(tmp_path / "b.pkl")


# Which format


def test_load_goes_by_content_and_save_by_suffix(tmp_path):
    data = small()
    for name, odd, kind in (("a.hdf5", "a.data", "d4rl"), ("a.npz", "a.bin", "npz")):
        data.save(tmp_path / name).rename(tmp_path / odd)
        assert EpisodeDataset.load(tmp_path / odd).provenance[-1]["format"] == kind
    folder = data.save(tmp_path / "a-v0")
    for path in (folder, folder / "data", folder / "data" / "main_data.hdf5", str(folder)):
        assert EpisodeDataset.load(path).provenance[-1]["format"] == "minari"
    assert EpisodeDataset.load(data.save(tmp_path / "x.dat", format="npz")).equals(data)
    with pytest.raises(UserError, match=r"'\.csv' is not that of a format"):
        data.save(tmp_path / "a.csv")
    with pytest.raises(UserError, match="format is"):
        data.save(tmp_path / "a", format="csv")


def test_paths_that_are_no_dataset(tmp_path):
    with pytest.raises(UserError, match="no dataset at"):
        EpisodeDataset.load(tmp_path / "absent.hdf5")
    with pytest.raises(UserError, match="not a Minari folder"):
        EpisodeDataset.load(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UserError, match="convert it"):
        EpisodeDataset.load(tmp_path / "a.txt")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        EpisodeDataset.load(tmp_path / "empty.npz")


# Writing: all or nothing


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a-v0"])
def test_overwriting_needs_a_word(tmp_path, name):
    old, new = small(seed=1), small(seed=2)
    old.save(tmp_path / name)
    with pytest.raises(UserError, match="overwrite=True"):
        new.save(tmp_path / name)
    assert EpisodeDataset.load(tmp_path / name).equals(old)
    new.save(tmp_path / name, overwrite=True)
    assert EpisodeDataset.load(tmp_path / name).equals(new)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis-v0").mkdir()
    (tmp_path / "thesis-v0" / "chapter.tex").write_text("years")
    with pytest.raises(UserError, match="not a Minari folder, so it is not overwritten"):
        small().save(tmp_path / "thesis-v0", overwrite=True)
    assert (tmp_path / "thesis-v0" / "chapter.tex").read_text() == "years"


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a-v0"])
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path, name):
    old = small()
    old.save(tmp_path / name)
    code = f"""
        import resource, signal
        import numpy as np
        from paperloop_data import EpisodeDataset
        from paperloop.errors import UserError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        n = 20_000
        big = np.random.default_rng(0).normal(size=(n, 8))
        data = EpisodeDataset(big, big, big[:, 0], np.zeros(n), np.zeros(n), final_observations=big[:1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            data.save({name!r}, overwrite=True)
        except UserError as error:
            print("refused:", error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "refused:" in done.stdout, done.stderr
    assert "cannot be written" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert EpisodeDataset.load(tmp_path / name).equals(old)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="cannot be written"):
            small().save(tmp_path / "a.npz")
    finally:
        tmp_path.chmod(0o700)


def test_a_failed_swap_of_folders_puts_the_old_one_back(tmp_path, monkeypatch):
    old = tmp_path / "a-v0"
    old.mkdir()
    (old / "file").write_text("old")
    rename = Path.rename

    def fail(self, target):
        if self.name.endswith(".tmp"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        writing.write_folder_atomically(old, lambda folder: (folder / "file").write_text("new"))
    assert [p.name for p in tmp_path.iterdir()] == ["a-v0"]
    assert (old / "file").read_text() == "old"


@pytest.mark.parametrize("name", ["a[1].npz", "a[1].hdf5", "a-v0"])
def test_partial_files_of_killed_processes_are_removed_and_no_others(tmp_path, name):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    half = tmp_path / f".{name}.{gone.pid}.tmp"
    if name == "a-v0":
        half.mkdir()
        (half / "main_data.hdf5").touch()
    else:
        half.touch()
    kept = [f".{name}.{os.getppid()}.tmp", f".{name}.x.tmp", f".b.npz.{gone.pid}.tmp", f"{name}.{gone.pid}.tmp"]
    for other in kept:
        (tmp_path / other).touch()
    small().save(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {name, *kept}


def test_attributes_must_be_json(tmp_path):
    data = small(attributes={"rng": np.random.default_rng(0)})
    with pytest.raises(UserError, match="Generator is not JSON"):
        data.save(tmp_path / "a.npz")
    deep = []
    for _ in range(600):
        deep = [deep]
    with pytest.raises(UserError, match="nested more than 500 deep"):
        small(attributes={"a": deep}).save(tmp_path / "a.npz")
    numbers = small(attributes={"a": np.float32(1.5), "b": np.arange(2)})
    assert EpisodeDataset.load(numbers.save(tmp_path / "b.npz")).attributes == {"a": 1.5, "b": [0, 1]}


# Damage


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a-v0"])
def test_a_flipped_bit_is_an_error_or_changes_nothing(tmp_path, name):
    """Wherever one bit of our files flips: refused in one sentence, or the same episodes. Never other data."""
    data = small(extras={"infos/goal": np.arange(15)})
    path = data.save(tmp_path / name)
    file = path / "data" / "main_data.hdf5" if path.is_dir() else path
    content = file.read_bytes()
    refused = []
    step = max(1, len(content) // 400)
    for position in range(0, len(content), step):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        file.write_bytes(damaged)
        try:
            again = EpisodeDataset.load(path)
        except UserError as error:
            refused.append(str(error))
        else:
            assert again.equals(data), position
    assert len(refused) > 20
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a-v0"])
def test_a_truncated_file_is_named(tmp_path, name):
    path = small().save(tmp_path / name)
    file = path / "data" / "main_data.hdf5" if path.is_dir() else path
    content = file.read_bytes()
    for part in (0, 4, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:part])
        with pytest.raises(UserError, match=name):
            EpisodeDataset.load(path)


def test_an_absurd_shape_is_refused_before_memory_is_asked_for(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
            file.create_dataset(name, shape=(2**40, 8), chunks=(1024, 8), dtype="f4")
    with pytest.raises(UserError, match="GiB"):
        EpisodeDataset.load(tmp_path / "a.hdf5")


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a-v0"])
def test_non_finite_episodes_are_named_or_left_out(tmp_path, name):
    """The writers never see NaN, so the file is made whole first and poisoned in the format's own way."""
    data = small()
    path = data.save(tmp_path / name)
    if name == "a.npz":
        with np.load(path) as archive:
            arrays = dict(archive)
        arrays["rewards"][7] = np.inf
        np.savez(path, **arrays)
    elif name == "a.hdf5":
        with h5py.File(path, "r+") as file:
            file["rewards"][7] = np.inf
    else:
        with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
            file["episode_1/rewards"][2] = np.inf
        metadata = path / "data" / "metadata.json"
        metadata.write_text(metadata.read_text().replace("paperloop_sha256", "nothing"))
    with pytest.raises(UserError, match=rf"{name}: rewards holds inf at row 7 \(episode 1, step 2\)"):
        EpisodeDataset.load(path)
    kept = EpisodeDataset.load(path, drop_nonfinite=True)
    assert kept.equals(data.select([0, 2]))
    assert kept.provenance[-1]["dropped_nonfinite_episodes"] == 1


def test_nothing_left_without_non_finite_episodes(tmp_path):
    zeros = np.zeros(3)
    np.savez(
        tmp_path / "a.npz",
        observations=np.full((3, 1), np.nan),
        actions=zeros,
        rewards=zeros,
        terminated=zeros,
        truncated=zeros,
    )
    with pytest.raises(UserError, match="every one of the 1 episodes"):
        EpisodeDataset.load(tmp_path / "a.npz", drop_nonfinite=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.zeros(11)}, "rewards has 11 rows, but observations has 12"),
        ({"terminals": np.zeros((12, 2))}, r"terminals is of shape \(12, 2\)"),
        ({"terminals": None}, "no 'terminals' .* pass the time limit of an environment that ends by time only"),
        ({"actions": None}, "no 'actions'; .* needs observations, actions, rewards and terminals"),
        ({"observations": None}, "no 'observations'"),
        ({"timeouts": np.zeros(3, bool)}, "timeouts has 3 rows"),
        ({"actions": np.full((12, 1), np.nan)}, r"actions holds nan at row 0 \(episode 0, step 0\)"),
        ({"next_observations": np.zeros((12, 5))}, "next_observations is of shape"),
        ({"next_observations": np.full((12, 3), b"x"), "timeouts": None}, "next_observations is of type"),
        ({"observations": np.zeros((0, 3))}, "no steps"),
        ({"rewards": np.array([b"x"] * 12)}, "rewards"),
    ],
)
def test_d4rl_arrays_that_do_not_fit_are_named(tmp_path, change, message):
    arrays = {
        "observations": np.zeros((12, 3)),
        "actions": np.zeros((12, 1)),
        "rewards": np.zeros(12),
        "terminals": np.zeros(12, bool),
        "timeouts": np.zeros(12, bool),
    } | change
    with h5py.File(tmp_path / "bad.hdf5", "w") as file:
        for name, value in arrays.items():
            if value is not None:
                file.create_dataset(name, data=value)
    with pytest.raises(UserError, match=message) as caught:
        EpisodeDataset.load(tmp_path / "bad.hdf5")
    assert str(caught.value).startswith("bad.hdf5")


def saved_arrays(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
        return
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5"])
def test_states_alone(tmp_path, name):
    """Demonstrations of states: actions of width 0, and ends from any array that states them."""
    observations, ends = np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 0, 0, 1], bool)
    options = {"states_only": True, "default_reward": 0.0}
    for flags in ({"timeouts": ends}, {"terminals": ends, "timeouts": ends}, {"terminals": ends}):
        saved_arrays(tmp_path / name, {"observations": observations, **flags})
        data = EpisodeDataset.load(tmp_path / name, **options)
        assert (data.actions.shape, data.lengths.tolist()) == ((6, 0), [3, 3])
        assert data.select([1]).actions.shape == (3, 0)
    saved_arrays(tmp_path / name, {"observations": observations})
    assert EpisodeDataset.load(tmp_path / name, **options, max_episode_steps=2).lengths.tolist() == [2, 2, 2]
    with pytest.raises(UserError, match="does not say where episodes end"):
        EpisodeDataset.load(tmp_path / name, **options)
    with pytest.raises(UserError, match=r"no 'actions'; it holds observations, but .* observations, actions and "):
        EpisodeDataset.load(tmp_path / name, default_reward=0.0)


def test_states_alone_by_our_names_and_by_episode(tmp_path):
    observations, ends = np.arange(12.0).reshape(6, 2), np.array([0, 0, 1, 0, 0, 1], bool)
    options = {"states_only": True, "default_reward": 0.0}
    np.savez(tmp_path / "a.npz", observations=observations, terminated=ends)
    assert EpisodeDataset.load(tmp_path / "a.npz", **options).lengths.tolist() == [3, 3]
    np.savez(tmp_path / "a.npz", **{"episode_0/obs": observations, "episode_1/obs": observations[:3]})
    data = EpisodeDataset.load(tmp_path / "a.npz", **options)
    assert (data.lengths.tolist(), data.actions.shape, data.cut.tolist()) == ([6, 3], (9, 0), [True, True])
    np.savez(tmp_path / "a.npz", **{"episode_0/obs": observations, "episode_0/reward": np.ones(5)})
    data = EpisodeDataset.load(tmp_path / "a.npz", **options)
    assert (data.lengths.tolist(), data.final_observations.tolist()) == ([5], [[10.0, 11.0]])
    with pytest.raises(UserError, match="episode 0 has no actions"):
        EpisodeDataset.load(tmp_path / "a.npz")


def test_a_time_limit_that_makes_no_difference_is_said(tmp_path):
    ends = np.array([0, 0, 1, 0, 0, 1], bool)
    arrays = {"observations": np.arange(12.0).reshape(6, 2), "actions": np.zeros((6, 1)), "rewards": np.ones(6)}
    arrays |= {"terminals": np.zeros(6, bool), "timeouts": ends}
    saved_arrays(tmp_path / "a.hdf5", arrays)
    for options, told in (({}, "its own time-outs say"), ({"episode_ends": "timeouts"}, "the rule 'timeouts' says")):
        with pytest.warns(UnusedOptionWarning, match=f"max_episode_steps=2 makes no difference, because {told}"):
            data = EpisodeDataset.load(tmp_path / "a.hdf5", max_episode_steps=2, **options)
        assert data.lengths.tolist() == [3, 3]
    write_npz(data, tmp_path / "a.npz")
    with pytest.warns(UnusedOptionWarning, match="its own episode starts say"):
        EpisodeDataset.load(tmp_path / "a.npz", max_episode_steps=2)
    for name in ("a.hdf5", "a.npz"):  # without a warning
        cut = EpisodeDataset.load(tmp_path / name, max_episode_steps=2, episode_ends="steps")
        assert cut.lengths.tolist() == [2, 2, 2]


def test_no_episode_of_an_archive_vanishes(tmp_path):
    episode = {"obs": np.zeros((2, 1)), "action": np.zeros((2, 1)), "reward": np.ones(2)}
    arrays = {f"episode_{digits}/{name}": value for digits in ("0", "1", "01") for name, value in episode.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=r"a\.npz: episode_1 and episode_01 are both episode 1; rename one"):
        read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{name: value for name, value in arrays.items() if "01" not in name})
    assert read_npz(tmp_path / "b.npz").lengths.tolist() == [2, 2]
    with zipfile.ZipFile(tmp_path / "b.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("episode_1/reward.npy", archive.read("episode_0/reward.npy"))
    with pytest.raises(UserError, match=r"b\.npz holds episode_1/reward more than once"):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.hdf5"])
def test_the_time_limit_stands_for_ends_that_are_not_there(tmp_path, name):
    arrays = {"observations": np.zeros((5, 2)), "actions": np.zeros((5, 1)), "rewards": np.ones(5)}
    saved_arrays(tmp_path / name, arrays)
    with pytest.warns(UserWarning, match="has no terminals: no step is taken for a terminal one"):
        data = EpisodeDataset.load(tmp_path / name, max_episode_steps=2)
    assert (data.lengths.tolist(), data.cut.tolist()) == ([2, 2, 1], [False, False, True])
    assert not data.terminated.any()
