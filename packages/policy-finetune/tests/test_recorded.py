"""The environment that data were recorded in: made as it was then, or what differs is said."""

import gymnasium
import numpy as np
import pytest

import policy_finetune.cli as cli
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset, RecordedEnvironment, environment_of
from policy_finetune.config import DataOptions, OfflineConfig
from policy_finetune.data.checks import load_for
from policy_finetune.data.make import from_replay, make_dataset
from policy_finetune.envs.recorded import differences, spec_of_recorded
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.trainers.sessions import spec_of

HEAVY = {"env_id": "Pendulum-v1", "env_spec": {"id": "Pendulum-v1", "kwargs": {"g": 2.0}, "max_episode_steps": 50}}


@pytest.fixture(scope="module")
def pendulum():
    data = make_dataset("Pendulum-v1", "random", 400)
    return data.replace(attributes={})


def stated(**spec):
    return environment_of(_Stub({"env_spec": {"id": "Pendulum-v1", **spec}}))


class _Stub:
    def __init__(self, attributes):
        self.attributes = attributes


def test_arguments_and_time_limit_are_those_on_record():
    spec = spec_of_recorded(stated(kwargs={"g": 2.0, "render_mode": "rgb_array"}, max_episode_steps=50), "data")
    assert (spec.kwargs, spec.max_episode_steps, spec.arguments) == ({"g": 2.0}, 50, "g=2.0, max_episode_steps=50")
    env = spec.make()
    assert env.unwrapped.g == 2.0
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[3] for _ in range(50)]
    assert ends == [False] * 49 + [True]
    assert not spec.is_default
    assert EnvSpec.of("Pendulum-v1").is_default


def test_a_spec_survives_json():
    spec = EnvSpec.of("Pendulum-v1", {"g": 2.0}, max_episode_steps=50)
    again = EnvSpec.from_json(spec.to_json(), "here")
    assert again.to_json() == spec.to_json()
    assert again.make().unwrapped.g == 2.0
    with pytest.raises(UserError, match="here: the environment in it is not complete"):
        EnvSpec.from_json({"env_id": "Pendulum-v1"}, "here")


@pytest.mark.parametrize("where", ["minari", "npz", "metadata"])
def test_a_run_on_a_dataset_uses_what_is_on_record(pendulum, tmp_path, where):
    pytest.importorskip("h5py")
    path = tmp_path / {"minari": "heavy-v0", "npz": "heavy.npz", "metadata": "heavy.hdf5"}[where]
    if where == "minari":
        import json

        pendulum.replace(attributes={"minari": {"env_spec": json.dumps(HEAVY["env_spec"])}}).save(path, format="minari")
    elif where == "npz":
        pendulum.replace(attributes=HEAVY).save(path)
    else:  # a name alone, as D4RL files have it
        pendulum.replace(attributes={"metadata": {"env_id": "Pendulum-v1"}}).save(path)
    spec = spec_of(OfflineConfig(data=(str(path),)))
    expected = ({}, 200) if where == "metadata" else ({"g": 2.0}, 50)
    assert (spec.env_id, spec.kwargs, spec.max_episode_steps) == ("Pendulum-v1", *expected)


def test_what_differs_from_the_record_is_said(pendulum):
    heavy = pendulum.replace(attributes=HEAVY)
    said = [s for s in load_for(EnvSpec.of("Pendulum-v1"), heavy)[1] if "recorded" in s]
    assert said == [
        "The data were recorded in Pendulum-v1 with g 2.0 and a time limit of 50 steps, and will be used with the "
        "default g and one of 200: returns are not comparable; leave out env_id to use the environment as recorded."
    ]
    same = EnvSpec.of("Pendulum-v1", {"g": 2.0}, max_episode_steps=50)
    assert not [s for s in load_for(same, heavy)[1] if "recorded" in s]


def test_of_a_name_alone_nothing_is_known_to_differ():
    heavy = EnvSpec.of("Pendulum-v1", {"g": 2.0}, max_episode_steps=50)
    assert differences(RecordedEnvironment("Pendulum-v1"), heavy) == []
    (said,) = differences(stated(), heavy)  # a whole specification without arguments says that there were none
    assert "with the default g, and will be used with g 2.0" in said
    tuples = RecordedEnvironment("Pendulum-v1", {"box": [1, 2]}, None, {"id": "Pendulum-v1"})
    spec = EnvSpec.from_json({**heavy.to_json(), "kwargs": {"box": (1, 2)}}, "")
    assert differences(tuples, spec) == []  # a list is how JSON keeps a tuple


def test_wrappers_on_record_are_named():
    (said,) = differences(stated(additional_wrappers=[{"name": "RescaleAction"}]), EnvSpec.of("Pendulum-v1"))
    assert "inside RescaleAction, and will be used without" in said


def test_an_environment_that_is_not_here_names_data_and_way_out():
    with pytest.raises(UserError, match=r"^d\.npz was recorded in Nonesuch-v0, which cannot be used here.*with env_id"):
        spec_of_recorded(RecordedEnvironment("Nonesuch-v0"), "d.npz")
    with pytest.raises(UserError, match="'Pendulum-v1', gravity=2 cannot be made: TypeError"):
        spec_of_recorded(RecordedEnvironment("Pendulum-v1", {"gravity": 2}), "d.npz")


def test_replay_data_keep_what_the_environment_was(pendulum):
    spec = EnvSpec.of("Pendulum-v1", {"g": 2.0})
    n = 4
    transitions = {"observations": np.zeros((n, 3)), "actions": np.zeros((n, 1)), "rewards": np.zeros(n)}
    transitions |= {"next_observations": np.zeros((n, 3)), "terminated": np.zeros(n, bool)}
    data = from_replay(spec, transitions | {"truncated": np.arange(n) == n - 1}, record={})
    assert spec_of_recorded(environment_of(data), "data").to_json() == spec.to_json()


# Observations made of parts


class Goal(gymnasium.Env):
    """A point on a line that should be where `desired_goal` is."""

    def __init__(self):
        box = gymnasium.spaces.Box
        inner = {"achieved": box(-9, 9, (1,)), "desired": box(-9, 9, (1,))}
        parts = {"observation": box(-9, 9, (2,)), "goal": gymnasium.spaces.Dict(inner)}
        self.observation_space = gymnasium.spaces.Dict(parts)
        self.action_space = box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.goal = 0.0, self.np_random.uniform(-1, 1)
        return self._seen(), {}

    def _seen(self):
        goal = {"achieved": np.array([self.x]), "desired": np.array([self.goal])}
        return {"observation": np.array([self.x, 7.0]), "goal": goal}

    def step(self, action):
        self.x += 0.1 * float(action[0])
        return self._seen(), -abs(self.x - self.goal), False, False, {}


KEYS = ("goal/desired", "observation")


@pytest.fixture
def goals(tmp_path):
    """The environment, and a Minari dataset of it made by hand."""
    h5py = pytest.importorskip("h5py")
    import json

    gymnasium.register("PfGoal-v0", entry_point=Goal, max_episode_steps=5)
    folder = tmp_path / "goals-v0"
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    env = gymnasium.make("PfGoal-v0", disable_env_checker=True)
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as file:
        for number in range(3):
            seen, actions, rewards = [env.reset(seed=number)[0]], [], []
            for _ in range(5):
                actions.append(rng.uniform(-1, 1, 1).astype(np.float32))
                step = env.step(actions[-1])
                seen.append(step[0])
                rewards.append(step[1])
            group = file.create_group(f"episode_{number}")
            group["observations/observation"] = np.stack([s["observation"] for s in seen])
            for name in ("achieved", "desired"):
                group[f"observations/goal/{name}"] = np.stack([s["goal"][name] for s in seen])
            group["actions"], group["rewards"] = np.stack(actions), np.array(rewards)
            group["terminations"], group["truncations"] = np.zeros(5, bool), np.arange(5) == 4
    metadata = {"total_episodes": 3, "total_steps": 15, "env_spec": json.dumps({"id": "PfGoal-v0", "kwargs": {}})}
    (folder / "data" / "metadata.json").write_text(json.dumps(metadata))
    yield folder
    del gymnasium.registry["PfGoal-v0"]


def test_parts_of_observations_are_joined_alike_in_data_and_environment(goals):
    loading = DataOptions(observation_keys=KEYS)
    spec = spec_of(OfflineConfig(data=(str(goals),), loading=loading))
    assert (spec.obs_dim, spec.observation_keys) == (3, KEYS)
    data, said = load_for(spec, goals, observation_keys=KEYS)
    env = spec.make()
    first = env.reset(seed=2)[0]
    np.testing.assert_allclose(data.observations[data.episode_starts[2]], first, rtol=1e-6)
    assert first.dtype == np.float32
    assert first[2] == 7.0
    assert not [s for s in said if "recorded" in s]


def test_parts_that_are_not_named_or_not_there_are_one_sentence(goals):
    with pytest.raises(UserError, match=r"goal/achieved, goal/desired, observation.*_keys=\('goal/achieved'"):
        EnvSpec.of("PfGoal-v0")
    with pytest.raises(UserError, match=r"no part 'goal' of real numbers; they have 'goal/achieved'"):
        EnvSpec.of("PfGoal-v0", observation_keys=("goal",))
    with pytest.raises(UserError, match="not made of parts, so observation_keys does not apply"):
        EnvSpec.of("Pendulum-v1", observation_keys=("goal",))


def test_the_command_line_names_its_own_option(goals, tmp_path, capsys):
    assert cli.main(["pretrain", "--data", str(goals), "--out", str(tmp_path / "run")]) == 2
    assert "--loading.observation-keys" in capsys.readouterr().err
    assert cli.main(["train", "--env-id", "PfGoal-v0", "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "--loading.observation-keys goal/achieved goal/desired observation" in capsys.readouterr().err


def test_a_flat_file_of_joined_observations_is_read_as_it_is(goals, tmp_path):
    spec = EnvSpec.of("PfGoal-v0", observation_keys=KEYS)
    data, _ = load_for(spec, goals, observation_keys=KEYS)
    data.save(tmp_path / "flat.npz")
    again, _ = load_for(spec, tmp_path / "flat.npz", observation_keys=KEYS)
    np.testing.assert_array_equal(again.observations, data.observations)
    assert isinstance(again, EpisodeDataset)
