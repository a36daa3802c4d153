"""Files that point elsewhere, promise too much or hold what nobody expects: one sentence each, and nothing read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import re
import zipfile

import h5py
import numpy as np
import pytest

from paperloop.errors import CommandWords, UserError, running_command
from paperloop_data import EpisodeDataset, load

N = 6


def arrays(**changes) -> dict:
    """The arrays of a good flat file; None leaves one out."""
    flat = {
        "observations": np.eye(N),
        "actions": np.zeros((N, 1)),
        "rewards": np.ones(N),
        "terminals": np.zeros(N, bool),
        "timeouts": np.arange(N) % 3 == 2,
    }
    return {name: value for name, value in (flat | changes).items() if value is not None}


def h5(path, more=None, **changes):
    with h5py.File(path, "w") as file:
        for name, value in arrays(**changes).items():
            file[name] = value
        if more is not None:
            more(file)
    return path


def minari(folder, change=lambda file: None, metadata=None):
    (folder / "data").mkdir(parents=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            group["observations"] = np.zeros((4, 3))
            group["actions"] = np.zeros((3, 1))
            group["rewards"] = np.ones(3)
            group["terminations"] = group["truncations"] = np.zeros(3, bool)
        change(file)
    text = metadata if isinstance(metadata, str) else json.dumps({"total_episodes": 2} | (metadata or {}))
    (folder / "data" / "metadata.json").write_text(text)
    return folder


# HDF5 that points to other files, or has nothing where values should be


def outside(tmp_path, kind: str):
    """A function that puts a dataset `name` whose values are not there into an open file."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 1000)
    other = h5(tmp_path / "other.hdf5")

    def put(file, name, rows):
        if kind == "external link":
            file[name] = h5py.ExternalLink(other, "/rewards")
        elif kind == "soft link out":
            file["elsewhere"] = h5py.ExternalLink(other, "/")
            file[name] = h5py.SoftLink("/elsewhere/rewards")
        elif kind == "soft link to nothing":
            file[name] = h5py.SoftLink("/gone")
        elif kind == "soft link to itself":
            file[name] = h5py.SoftLink(f"/{name}")
        elif kind == "external storage":
            file.create_dataset(name, shape=(rows,), dtype="f8", external=[(str(secret), 0, 8 * rows)])
        elif kind in ("virtual", "missing source"):
            layout = h5py.VirtualLayout((rows,), "f8")
            source = other if kind == "virtual" else tmp_path / "absent.hdf5"
            layout[:] = h5py.VirtualSource(source, "rewards", shape=(N,))[:rows]
            file.create_virtual_dataset(name, layout)
        elif kind == "never written":
            file.create_dataset(name, shape=(rows,), dtype="f8")
        else:
            file.create_dataset(name, shape=(rows,), dtype="f8", chunks=(1,))[0] = 1.0

    return put


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external link", "rewards is a link to elsewhere"),
        ("soft link out", "(rewards|elsewhere) is a link to elsewhere"),
        ("soft link to nothing", "rewards is a soft link to /gone, which is not in the file"),
        ("soft link to itself", "rewards goes in a circle"),
        ("external storage", "rewards is in external storage"),
        ("virtual", "rewards is a virtual dataset"),
        ("missing source", "rewards is a virtual dataset"),
        ("never written", "values of (episode_1/)?rewards were never written"),
        ("half written", "values of (episode_1/)?rewards were never written"),
    ],
)
def test_values_that_are_not_in_the_file_are_refused_by_name(tmp_path, kind, message):
    put = outside(tmp_path, kind)
    with pytest.raises(UserError, match=f"a.hdf5: {message}"):
        load(h5(tmp_path / "a.hdf5", lambda file: put(file, "rewards", N), rewards=None))

    def change(file):
        del file["episode_1/rewards"]
        put(file, "episode_1/rewards", 3)

    message = message.replace("(rewards|elsewhere)", "rewards").replace("rewards is", "episode_1/rewards is")
    with pytest.raises(UserError, match=message.replace("rewards goes", "episode_1/rewards goes")):
        load(minari(tmp_path / "m", change))


def test_metadata_and_episodes_of_other_files_are_refused(tmp_path):
    put = outside(tmp_path, "external storage")
    with pytest.raises(UserError, match="metadata/env_id is in external storage"):
        load(h5(tmp_path / "a.hdf5", lambda file: put(file, "metadata/env_id", 8)))

    def change(file):
        del file["episode_1"]
        file["episode_1"] = h5py.ExternalLink(tmp_path / "other.hdf5", "/")

    with pytest.raises(UserError, match="episode_1 is a link to elsewhere"):
        load(minari(tmp_path / "m", change))


def test_links_within_the_file_are_followed(tmp_path):
    """Of a dataset, of a group on the way, relative, and in an episode of Minari."""

    def change(file):
        file.move("rewards", "kept/rewards")
        file["short"] = h5py.SoftLink("kept")
        file["rewards"] = h5py.SoftLink("/short/./rewards")

    plain, linked = load(h5(tmp_path / "a.hdf5")), load(h5(tmp_path / "b.hdf5", change))
    np.testing.assert_array_equal(linked.rewards, plain.rewards)
    assert list(linked.extras) == ["kept/rewards"]  # under its own path, not that of the link to its group

    def move(file):
        file.move("episode_1/rewards", "kept")
        file["episode_1/rewards"] = h5py.SoftLink("/kept")

    assert load(minari(tmp_path / "m", move)).equals(load(minari(tmp_path / "n")))


def test_only_links_among_what_is_read_are_refused(tmp_path):
    def change(file):
        file["infos/far"] = h5py.ExternalLink("absent.hdf5", "/far")
        file["infos/near"] = np.arange(N)
        file["away"] = h5py.ExternalLink("absent.hdf5", "/")

    path = h5(tmp_path / "a.hdf5", change)
    assert list(load(path, extras=False).extras) == []
    assert list(load(path, extras=["infos/near"]).extras) == ["infos/near"]
    for extras, link in ((True, "away"), (["infos/far"], "infos/far"), (["away/x"], "away")):
        with pytest.raises(UserError, match=f"a.hdf5: {link} is a link to elsewhere"):
            load(path, extras=extras)

    def gone(file):
        file["episode_0/infos/far"] = h5py.SoftLink("/gone")

    folder = minari(tmp_path / "m", gone)
    assert load(folder, extras=False).extras == {}
    with pytest.raises(UserError, match="infos/far is a soft link to /gone, which is not in the file"):
        load(folder)


def test_a_group_that_holds_itself_ends(tmp_path):
    assert len(load(h5(tmp_path / "a.hdf5", lambda file: file.__setitem__("loop", file["/"])))) == 2


# Headers that promise too much


def npy_header(shape) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_an_npz_header_of_a_trillion_rows_is_refused_before_memory_is_asked_for(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("observations.npy", npy_header((10**12, 3)) + b"0" * 100)
    with pytest.raises(UserError, match=r"a\.npz is damaged.*claims shape \(1000000000000, 3\)"):
        load(tmp_path / "a.npz")


def test_hdf5_that_claims_a_trillion_rows_is_refused(tmp_path):
    def more(file):
        file.create_dataset("rewards", shape=(10**12,), dtype="f8", chunks=(1000,))

    with pytest.raises(UserError, match="GiB"):
        load(h5(tmp_path / "a.hdf5", more, rewards=None))


@pytest.mark.parametrize("header", [b"(" * 9000, b"{'descr': " + b"[" * 5000, b"\xff" * 50])
def test_an_npy_header_that_is_not_one(tmp_path, header):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("rewards.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UserError, match=r"a\.npz is damaged"):
        load(tmp_path / "a.npz")


# What attributes and metadata may hold

ODD = [
    '{"provenance": 5}',
    '{"provenance": [5]}',
    '{"__arrays__": [[1]]}',
    '{"not_loaded": 5}',
    "[1]",
    "no",
    "[" * 20000,
    '{"a":' * 600 + "1" + "}" * 600,
]


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:20])
def test_attributes_of_odd_types_are_refused(tmp_path, text):
    np.savez(tmp_path / "a.npz", attributes=np.array(text), **arrays())
    stored = np.frombuffer(text.encode(), np.uint8)
    for path in (
        tmp_path / "a.npz",
        h5(tmp_path / "a.hdf5", **{"metadata/paperloop": stored}),
        minari(tmp_path / "a", metadata={"paperloop": text}),
    ):
        with pytest.raises(UserError, match="its attribute"):
            load(path)


def test_metadata_of_odd_types_are_refused_or_left_alone(tmp_path):
    for number, (metadata, message) in enumerate(
        [
            ('{"a":' * 20000, "metadata.json is damaged"),
            ("[1]", "not a JSON object"),
            ({"total_episodes": "x"}, "says x episodes"),
            ({"total_steps": 7}, "says 7 steps"),
            ({"paperloop": 5}, "not JSON"),
            ({"data_format": ["arrow"]}, "is stored as"),
        ]
    ):
        with pytest.raises(UserError, match=message):
            load(minari(tmp_path / str(number), metadata=metadata))
    odd = load(minari(tmp_path / "odd", metadata={"env_spec": 5, "observation_space": [1], "author": None}))
    assert len(load(odd.save(tmp_path / "odd-v0"))) == 2
    for value in (np.int64(10**9), "{}"):
        with pytest.raises(UserError, match="metadata/paperloop is not a text"):
            load(h5(tmp_path / "a.hdf5", **{"metadata/paperloop": value}))
    strange = EpisodeDataset.load(h5(tmp_path / "a.hdf5")).replace(attributes={"metadata": 5, "minari": 7})
    for name in ("b.hdf5", "b.npz"):
        assert load(strange.save(tmp_path / name)).attributes["minari"] == 7


def test_attributes_of_an_hdf5_file_that_are_not_plain_are_left_alone(tmp_path):
    def more(file):
        file.attrs["env_name"] = "Hopper-v4"
        file.attrs["empty"], file.attrs["reference"], file.attrs["large"] = h5py.Empty("f"), file.ref, np.zeros(1000)

    assert load(h5(tmp_path / "a.hdf5", more)).attributes["metadata"] == {"env_name": "Hopper-v4"}


# Names


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    name = "\x1b[31mred\n"
    np.savez(tmp_path / "a.npz", **arrays(actions=None, **{name: np.zeros(N)}))
    paths = [tmp_path / "a.npz", h5(tmp_path / "a\x1b.hdf5", actions=None, **{name: np.zeros(N)})]
    ragged = arrays(**{name: np.full(N, np.nan)})
    np.savez(tmp_path / "b.npz", **ragged)
    said = load(tmp_path / "b.npz").findings()
    for path in [*paths, tmp_path / "missing\x1b", tmp_path / "a\x00b"]:
        with pytest.raises(UserError) as caught:
            load(path)
        said.append(str(caught.value))
    assert sum(r"\x1b[31mred\n" in text for text in said) == 3
    assert all(text.isprintable() for text in said)


# Paths


def test_what_is_not_a_file_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.hdf5")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    folder = minari(tmp_path / "m")
    (folder / "data" / "main_data.hdf5").unlink()
    os.mkfifo(folder / "data" / "main_data.hdf5")
    for path, message in [
        (tmp_path / "pipe.hdf5", "is a named pipe"),
        (folder, r"main_data\.hdf5 is a named pipe"),
        (tmp_path / "a", "cannot be read"),
        (tmp_path / ("a" * 300), "cannot be read"),
        ("/dev/null", "is a device"),
        (tmp_path, "not a Minari folder"),
        (tmp_path / "absent.npz", "no dataset at"),
    ]:
        with pytest.raises(UserError, match=message):
            load(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path):
    path = h5(tmp_path / "a.hdf5")
    path.chmod(0)
    with pytest.raises(UserError, match="you lack the permission"):
        load(path)


# Locks


@contextlib.contextmanager
def locked(path):
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def test_a_locked_file_is_not_called_damaged(tmp_path, monkeypatch):
    path = h5(tmp_path / "a.hdf5")
    with locked(path), pytest.raises(UserError, match=r"a\.hdf5 is locked: another process has it open"):
        load(path)

    def without_locks(*_, **__):
        raise OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37, error message = 'No locks')")

    monkeypatch.setattr(h5py, "File", without_locks)
    with pytest.raises(UserError, match="without file locks; set the environment variable HDF5_USE_FILE_LOCKING=FALSE"):
        load(path)


# Other layouts


def test_robomimics_layout_is_answered_with_what_is_there_and_what_is_expected(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for number in range(3):
            for name in ("obs/joints", "next_obs/joints", "actions", "rewards", "dones"):
                file[f"data/demo_{number}/{name}"] = np.zeros((4, 2))
    with pytest.raises(UserError) as caught:
        load(tmp_path / "a.hdf5")
    said = str(caught.value)
    assert "it holds data/demo_0/actions, data/demo_0/dones, data/demo_0/next_obs/joints" in said
    assert "and 3 more, but a flat dataset needs observations, actions, rewards and terminals at its top" in said


def test_members_of_an_archive_that_are_not_arrays_are_left_alone(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("README", "hello")
    assert len(load(tmp_path / "a.npz")) == 2


# Options


def test_an_option_that_does_not_exist_or_does_not_apply(tmp_path):
    path = h5(tmp_path / "a.hdf5")
    with pytest.raises(UserError, match="'episode_end'; did you mean \"episode_ends\""):
        load(path, episode_end="goal")
    with pytest.raises(UserError, match="observation_keys does not apply to files that are not Minari folders"):
        load(path, observation_keys=("a",))
    with pytest.raises(UserError, match="episode_ends does not apply to Minari folders"):
        load(minari(tmp_path / "m"), episode_ends="goal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_episode_steps": 5.5}, "max_episode_steps is 5.5; it must be at least 1, and whole"),
        ({"max_episode_steps": "5"}, "max_episode_steps is '5'; it must be at least 1, and whole"),
        ({"max_episode_steps": True}, "max_episode_steps is True"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
        ({"drop_nonfinite": "no"}, "drop_nonfinite is 'no'; it must be True or False"),
        ({"states_only": 1}, "states_only is 1; it must be True or False"),
        ({"default_reward": float("nan")}, "default_reward is nan; it must be a number"),
        ({"default_reward": "0"}, "default_reward is '0'; it must be a number"),
        ({"extras": "infos/goal"}, "extras is 'infos/goal'; it must be True, False or several names"),
        ({"extras": [1]}, "extras is"),
        ({"episode_ends": "end"}, "episode_ends is 'end'; it must be one of auto, flags"),
    ],
)
def test_an_option_of_a_wrong_type_is_not_taken_for_another(tmp_path, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load(h5(tmp_path / "a.hdf5"), **options)
    with pytest.raises(UserError, match="action_keys is 'ab'; it must be several names"):
        load(minari(tmp_path / "m"), action_keys="ab")


def test_messages_use_the_words_of_the_running_command(tmp_path):
    paths = ("drop_nonfinite", "max_episode_steps", "default_reward", "observation_keys", "episode_ends")
    options = {f"loading.{name}": f"--loading.{name.replace('_', '-')}" for name in paths}
    words = CommandWords("learn train", options, {"loading.drop_nonfinite": "--loading.no-drop-nonfinite"})

    def parts(file):
        for number in range(2):
            file.move(f"episode_{number}/observations", f"episode_{number}/whole")
            file[f"episode_{number}/observations/state"] = np.zeros((4, 3))

    token = running_command.set(words)
    try:
        for path, advice in [
            (h5(tmp_path / "a.hdf5", rewards=np.full(N, np.nan)), "load it with --loading.drop-nonfinite to leave"),
            (h5(tmp_path / "b.hdf5", timeouts=None), "such as --loading.max-episode-steps 1000."),
            (h5(tmp_path / "c.hdf5", rewards=None), "give --loading.default-reward 0.0 if"),
            (minari(tmp_path / "m", parts), "such as --loading.observation-keys state."),
        ]:
            with pytest.raises(UserError) as caught:
                load(path)
            assert advice in str(caught.value)
    finally:
        running_command.reset(token)
