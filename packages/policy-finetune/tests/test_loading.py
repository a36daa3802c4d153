"""A run loaded in one call, and its policies exported for plain NumPy."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import paperloop
import policy_finetune.cli as cli
from paperloop.errors import UserError
from policy_finetune import LEARNERS, export_policy, load_policies, load_run
from policy_finetune.config import OfflineConfig, OnlineConfig, SwitchConfig
from policy_finetune.data.make import make_dataset
from policy_finetune.data.policies import load_policy
from policy_finetune.envs.acting import HostPolicy, Policy
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.trainers.sessions import offline_trainer, online_trainer

#: Also in the README, where it is run.
READER = """
import numpy as np

file = np.load("policy.npz")

def act(observation):
    x, i = (np.float32(observation) - file["obs_mean"]) / file["obs_std"], 0
    while f"w{i}" in file:
        x, i = np.maximum(file[f"w{i}"] @ x + file[f"b{i}"], 0), i + 1
    low, high = file["action_low"], file["action_high"]
    return (low + high) / 2 + (high - low) / 2 * np.tanh(file["w_mu"] @ x + file["b_mu"])
""".strip()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with data.npz and r/td3bc, two agents, and from that r/tuned."""
    home = tmp_path_factory.mktemp("home")
    make_dataset("Pendulum-v1", "random", 200).save(home / "data.npz")  # actions in [-2, 2]
    _pretrain(home, "td3bc")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        online = OnlineConfig(
            start="r/td3bc", env_steps=100, block=50, learner=_tiny("td3"), switch=SwitchConfig(warmup_env_steps=50)
        )
        paperloop.run(online_trainer(online)[0], "r/tuned", steps=2, progress=False)
    return home


def _pretrain(home, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        config = OfflineConfig(
            learner=_tiny(name), data=("data.npz",), env_id="Pendulum-v1", updates=2, updates_per_step=2, seeds=2
        )
        paperloop.run(offline_trainer(config)[0], f"r/{name}", steps=1, progress=False)


def _tiny(name):
    learner = LEARNERS[name]
    return dataclasses.replace(learner, network=dataclasses.replace(learner.network, hidden=(8, 8)), batch_size=16)


@pytest.mark.parametrize(
    "name", ["td3bc", "tuned", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bc", "iql", "cql"))]
)
def test_ten_lines_of_numpy_act_as_the_trainer_does(home, tmp_path, monkeypatch, name):
    if not (home / "r" / name).exists():
        _pretrain(home, name)
    run = load_run(home / "r" / name)
    assert len(run.policies) == len(run.agents) == 2
    assert run.config == run.trainer.config
    assert run.pretrained.num_agents == 2
    run.export(tmp_path / "policy.npz", agent=1)
    monkeypatch.chdir(tmp_path)
    reader = {}
    exec(READER, reader)
    rows = np.random.default_rng(0).normal(size=(20, 3))  # float64, as many environments give them
    acted = run.policies[1].predict(rows)
    assert np.abs(acted).max() > 1e-3
    np.testing.assert_allclose(acted, run.trainer.policy(run.state).agent(1).predict(rows))
    # float32 sums in another order, on actions up to 2
    np.testing.assert_allclose([reader["act"](row) for row in rows], acted, rtol=0, atol=1e-5)
    policy, labels = load_policies("policy.npz")
    assert labels == (run.agents[1],)
    assert policy.spec.to_json() == run.spec.to_json()
    np.testing.assert_array_equal(policy.predict(rows), acted)
    assert load_policy("policy.npz").metadata["env_id"] == "Pendulum-v1"  # so that make-data takes it too


def test_the_readme_has_the_reader_that_is_tested_here():
    readme = Path(__file__).parents[1] / "README.md"
    if not readme.exists():
        pytest.skip("the tests were copied without the README")
    assert READER.partition("def ")[2] in readme.read_text(encoding="utf-8")


def test_a_state_that_was_loaded_can_be_trained_on(home):
    run = load_run(home / "r" / "td3bc")
    state, _ = run.trainer.step(run.state)
    assert run.trainer.progress(state) == {"updates": 4}


def test_export_as_a_command(home, tmp_path, capsys):
    out = tmp_path / "made" / "policy.npz"
    command = ["export", str(home / "r" / "tuned"), "--out", str(out)]
    assert cli.main(command) == 0
    assert "agent 0 of 2 (td3 append), Pendulum-v1" in capsys.readouterr().out
    first = out.read_bytes()
    assert cli.main(command) == 2
    assert "exists already; choose another name, or give --overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite"]) == 0
    assert out.read_bytes() == first
    assert cli.main([*command[:2], "--out", str(tmp_path / "x.npz"), "--agent", "2"]) == 2
    assert "has 2 agents, numbered from 0" in capsys.readouterr().err
    assert cli.main(["evaluate", str(out)]) == 2
    assert "is a file, and evaluate takes run folders" in capsys.readouterr().err
    assert cli.main(["export", str(tmp_path), "--out", str(tmp_path / "x.npz")]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_onnx_acts_as_predict_does(home, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    out = tmp_path / "policy.onnx"
    assert cli.main(["export", str(home / "r" / "tuned"), "--agent", "1", "--out", str(out)]) == 0
    assert cli.main(["export", str(home / "r" / "tuned"), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    policy = load_run(home / "r" / "tuned").policies[1]
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    (actions,) = ReferenceEvaluator(str(out)).run(None, {"observation": observations})
    np.testing.assert_allclose(actions, policy.predict(observations), rtol=0, atol=1e-6)
    about = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert about == {"env_id": "Pendulum-v1", "agent": "td3 append"}


def test_what_cannot_be_exported_is_one_sentence(home, tmp_path):
    run = load_run(home / "r" / "td3bc")
    with pytest.raises(UserError, match="There is no agent 2: there are 2"):
        run.export(tmp_path / "x.npz", agent=2)
    spec = EnvSpec.of("Pendulum-v1")
    host = HostPolicy([(np.zeros((2, 3, 1)), np.zeros((2, 1, 1)))])
    with pytest.raises(UserError, match="One agent goes into a file"):
        export_policy(Policy(host, spec), tmp_path / "x.npz")
    np.savez(tmp_path / "bare.npz", w0=np.zeros((4, 3)), b0=np.zeros(4), w_mu=np.zeros((1, 4)), b_mu=np.zeros(1))
    with pytest.raises(UserError, match="does not say in which environment"):
        load_policies(tmp_path / "bare.npz")
