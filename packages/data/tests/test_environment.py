"""The environment that a file states, wherever it states it."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from paperloop_data import EpisodeDataset, environment_of, load

SPEC = {
    "id": "Pendulum-v1",
    "entry_point": "gymnasium.envs.classic_control.pendulum:PendulumEnv",
    "max_episode_steps": 50,
    "kwargs": {"g": 2.0},
    "additional_wrappers": [],
}


def dataset(**attributes) -> EpisodeDataset:
    zeros = np.zeros(2)
    return EpisodeDataset(zeros, zeros, zeros, zeros, [0, 1], final_observations=[0.0], attributes=attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"env_spec": SPEC},
        {"env_spec": json.dumps(SPEC)},
        {"metadata": {"env_spec": json.dumps(SPEC)}},
        {"minari": {"env_spec": json.dumps(SPEC), "dataset_id": "a-v0"}},
        {"env_id": "Pendulum-v1", "minari": {"env_spec": json.dumps(SPEC)}},
        {"metadata": {"env_id": "Pendulum-v1"}, "minari": {"env_spec": SPEC}},
    ],
)
def test_a_specification_is_kept_whole(attributes):
    found = environment_of(dataset(**attributes))
    assert (found.id, found.kwargs, found.max_episode_steps) == ("Pendulum-v1", {"g": 2.0}, 50)
    assert found.spec == SPEC


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"env_id": "Hopper-v4"}, ("Hopper-v4", {}, None)),
        ({"metadata": {"env_name": "Hopper-v4"}}, ("Hopper-v4", {}, None)),
        ({"env_id": "Hopper-v4", "env_kwargs": {"a": 1}, "max_episode_steps": 9}, ("Hopper-v4", {"a": 1}, 9)),
        ({"env_args": '{"env_name": "Lift", "env_kwargs": {"robots": "Panda"}}'}, ("Lift", {"robots": "Panda"}, None)),
        ({"env_id": "A-v0", "minari": {"env_spec": SPEC}}, ("A-v0", {}, None)),  # the dataset's own word counts
        ({"env_spec": '{"id": "B-v0", "max_episode_steps": true, "kwargs": [1]}'}, ("B-v0", {}, None)),
    ],
)
def test_names_arguments_and_limits(attributes, expected):
    found = environment_of(dataset(**attributes))
    assert (found.id, found.kwargs, found.max_episode_steps) == expected


@pytest.mark.parametrize(
    "attributes", [{}, {"env_id": 5}, {"env_spec": "{"}, {"env_spec": '{"id": 3}'}, {"metadata": 5, "minari": [SPEC]}]
)
def test_nothing_is_stated(attributes):
    assert environment_of(dataset(**attributes)) is None


def test_it_survives_every_format(tmp_path):
    here = dataset(minari={"env_spec": json.dumps(SPEC)})
    for name in ("a.npz", "a.hdf5", "a-v0", "b.hdf5", "b.npz"):
        here = load(here.save(tmp_path / name))
        assert environment_of(here).spec == SPEC, name
    assert environment_of(here.top(1)) == environment_of(here)


def test_files_of_others(tmp_path):
    arrays = {name: np.zeros(3) for name in ("observations", "actions", "rewards", "terminals", "timeouts")}

    def h5(name, **more):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in (arrays | more).items():
                file[key] = value
        return tmp_path / name

    assert environment_of(load(h5("a.hdf5", **{"metadata/env_id": "Hopper-v4"}))).id == "Hopper-v4"
    assert environment_of(load(h5("b.hdf5", env_spec=json.dumps(SPEC)))).spec == SPEC
    path = h5("c.hdf5", metadata=h5py.Empty("f"))
    with h5py.File(path, "r+") as file:
        file.attrs["env_spec"] = json.dumps(SPEC)
    assert environment_of(load(path)).spec == SPEC
    np.savez(tmp_path / "d.npz", **arrays, env_id="Hopper-v3")
    assert environment_of(load(tmp_path / "d.npz")).id == "Hopper-v3"
