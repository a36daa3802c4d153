from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("policy_finetune", reason="otr train needs policy-finetune, the extra otr[train]")
pytest.importorskip("gymnasium")

from scipy.stats import spearmanr

from otr import label, load_run, preset
from otr.cli import main
from otr.commands.demo import pendulum_data
from otr.episodes.demonstrations import best_episodes
from otr.labels import keys
from otr.labels.keys import content_digest
from otr.training import data as training_data
from otr.training import train as training
from otr.training.config import SCHEMA, TrainConfig
from otr.training.data import read_inputs
from otr.training.programs import learner_config, make_programs, offline_config
from otr.training.report import ArmResult, arms_notes, read_arms, report, share_of_oracle
from otr.training.train import train
from paperloop.errors import NonFiniteError, UserError
from paperloop.settings import load_config, save_config
from paperloop_data import EpisodeDataset
from policy_finetune import SCHEMA as LEARNER_SCHEMA
from policy_finetune import OfflineConfig, OfflineTrainer, load_policies, load_start
from policy_finetune import load_run as load_learner

LABELS = ("oracle", "otr", "constant")


def ragged(episodes: int = 30, seed: int = 0) -> EpisodeDataset:
    """Swing-ups of Pendulum-v1, in no order, some cut short."""
    rng = np.random.default_rng(seed)
    whole = pendulum_data(rng, episodes=episodes, steps=60)
    parts = []
    for index in rng.permutation(episodes):
        episode = whole.episode(int(index))
        n = int(rng.integers(20, 61))
        truncated = np.zeros(n, bool)
        truncated[-1] = True
        following = np.concatenate([episode.observations[1:], whole.final_observations[index][None]])
        parts.append(
            EpisodeDataset(
                observations=episode.observations[:n],
                actions=episode.actions[:n],
                rewards=episode.rewards[:n],
                terminated=np.zeros(n, bool),
                truncated=truncated,
                final_observations=following[n - 1 : n],
            )
        )
    return EpisodeDataset.concatenate(parts).replace(attributes={"env_id": "Pendulum-v1"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pendulum.hdf5"
    ragged().save(path)
    return path


def tiny(path=None, **changes) -> TrainConfig:
    settings = {
        "data": str(path), "labels": LABELS, "learners": ("bc", "bc10", "bc10-labels", "iql"), "seeds": 2,
        "updates": 40, "updates_per_step": 10, "hidden": (8, 8), "batch_size": 32, "evaluations": 2,
        "eval_episodes": 1,
    }  # fmt: skip
    return TrainConfig(**(settings | changes))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """(configuration, folder, arms) of a training that ran through."""
    out = tmp_path_factory.mktemp("runs") / "x"
    config = tiny(data)
    return config, out, train(config, out, device="cpu", quiet=True, save_every=1)


# --- who learns from what ---


def test_arms_agents_and_programs(trained):
    _, out, arms = trained
    expected = [("bc", ""), ("bc10", "oracle")]
    expected += [("bc10-labels", name) for name in LABELS] + [("iql", name) for name in LABELS]
    assert [(arm.learner, arm.labels) for arm in arms] == expected
    cloning, iql = (load_config(OfflineConfig, out / name, LEARNER_SCHEMA) for name in ("bc", "iql"))
    assert [(a.label, a.seed) for a in iql.agents] == [(f"iql {name}", s) for name in LABELS for s in (0, 1)]
    assert [a.top_fraction for a in cloning.agents] == [1.0, 1.0] + [0.1] * 8
    for agent in (*cloning.agents, *iql.agents):
        run = cloning if agent in cloning.agents else iql
        file = run.data[agent.dataset].rsplit("/", 1)[1].removesuffix(".hdf5")
        learner, _, labels = agent.label.partition(" ")
        assert file == ("original" if learner in ("bc", "bc10") else labels)
    recorded = json.loads((out / "iql" / "run.json").read_text())["agents"]  # what reports group by
    assert recorded == [f"iql {name}" for name in LABELS for _ in range(2)]
    recorded = json.loads((out / "bc" / "run.json").read_text())["agents"]
    assert len(recorded) == 10
    assert len(set(recorded)) == 5
    assert not iql.normalize_rewards
    assert (iql.learner.actor_lr_steps, iql.learner.batch_size, iql.learner.network.hidden) == (40, 32, (8, 8))
    for arm in arms:
        assert arm.updates.tolist() == [0, 20, 40]
        assert arm.curve.shape == (3, 2)
        np.testing.assert_array_equal(arm.curve[-1], arm.returns)
        assert arm.scores is None  # D4RL has no reference scores for the pendulum


def test_each_agent_sees_the_rewards_of_its_arm(trained):
    config, out, _ = trained
    start, spec, run = load_start(out / "iql")  # what `policy-finetune finetune --start OUT/iql` begins with
    assert spec.env_id == "Pendulum-v1"
    assert len(start.dataset) == 6
    assert not run.normalize_rewards
    trainer = load_learner(out / "iql").trainer
    true = EpisodeDataset.load(config.data)
    demos = best_episodes(true, 1)
    returns = true.returns()
    wanted = {
        "oracle": true.rewards.astype(np.float64) * 1000 / (returns.max() - returns.min()),
        "otr": label(true, demos, preset("otr")).dataset.rewards,
        "constant": np.full(true.num_steps, 1000 / (true.lengths.max() - true.lengths.min())),
    }
    for agent in trainer.members:
        first = int(trainer.data.offset[agent.dataset])
        rows = np.asarray(trainer.data.rows)[first : first + int(trainer.data.size[agent.dataset])]
        rewards = wanted[agent.label.split()[1]]
        np.testing.assert_allclose(np.sort(rows[:, -3]), np.sort(rewards), rtol=1e-5)
        # ... and each next to its own state.
        states = (
            trainer.data.layout.split(rows).obs * trainer.data.std[agent.dataset] + trainer.data.mean[agent.dataset]
        )
        at = int(np.abs(states - true.observations[7]).sum(1).argmin())
        np.testing.assert_allclose(rows[at, -3], rewards[7], rtol=1e-5)


def test_a_training_is_loaded_in_one_call(trained, tmp_path):
    config, out, _ = trained
    shutil.copytree(out, tmp_path / "moved")
    assert str(out) not in (tmp_path / "moved" / "iql" / "config.json").read_text()  # data are named from OUT
    training = load_run(tmp_path / "moved")
    assert training.config == config
    assert list(training.runs) == ["bc", "iql"]
    assert training.arms[-3:] == tuple(f"iql {name}" for name in LABELS)
    states = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    acted = training.policy("iql otr", seed=1).predict(states)
    run = training.runs["iql"]
    agent = [i for i, label in enumerate(run.agents) if label == "iql otr"][1]
    np.testing.assert_array_equal(acted, run.trainer.policy(run.state).agent(agent).predict(states))
    run.export(tmp_path / "policy.npz", agent=agent)
    exported, labels = load_policies(tmp_path / "policy.npz")
    assert labels == ("iql otr",)
    np.testing.assert_array_equal(exported.predict(states), acted)
    with pytest.raises(UserError, match=r"There is no arm 'iql ott'.*iql otr"):
        training.policy("iql ott")
    with pytest.raises(UserError, match="has the seeds 0 to 1, and not 2"):
        training.policy("bc", seed=2)
    with pytest.raises(UserError, match=r"train\.json"):
        load_run(tmp_path)


def test_ten_percent_is_by_true_or_by_labelled_return(trained):
    config, out, _ = trained
    trainer = load_learner(out / "bc").trainer
    true = EpisodeDataset.load(config.data)
    sizes = dict(zip((a.label for a in trainer.members), np.asarray(trainer._own["size"]), strict=True))
    best = np.argsort(-true.returns(), kind="stable")[:3]
    assert sizes["bc"] == true.num_steps
    assert sizes["bc10 oracle"] == true.lengths[best].sum() == sizes["bc10-labels oracle"]
    assert sizes["bc10-labels constant"] == np.sort(true.lengths)[-3:].sum()  # the longest ones
    assert sizes["bc10-labels constant"] != sizes["bc10 oracle"]


def test_agents_of_equal_seeds_start_equal_in_all_arms_of_a_learner(trained):
    *_, arms = trained
    for learner in ("bc10-labels", "iql"):
        first = [arm.curve[0] for arm in arms if arm.learner == learner]
        assert all(np.array_equal(first[0], other) for other in first)
    assert len({float(value) for value in first[0]}) == 2


def test_learners_take_their_published_settings():
    antmaze = learner_config("iql", TrainConfig(domain="antmaze"))
    assert (antmaze.expectile, antmaze.temperature) == (0.9, 10.0)
    adroit = learner_config("iql", TrainConfig(domain="adroit", updates=500_000))
    assert (adroit.expectile, adroit.temperature, adroit.actor_dropout) == (0.7, 0.5, 0.1)
    assert adroit.actor_lr_steps == 500_000
    assert adroit.network.init == "orthogonal"
    td3bc = learner_config("td3bc", TrainConfig(hidden=(32,), batch_size=16))
    assert (td3bc.q_weight, td3bc.bc_weight, td3bc.batch_size, td3bc.network.hidden) == (2.5, 1.0, 16, (32,))
    assert td3bc.actor_lr_steps == 0


def test_what_a_program_is_made_of():
    config = tiny("x.hdf5", learners=("td3bc", "bc"), labels=("otr",), devices=4, reward_scale=0.1, reward_bias=-1.0)
    cloning, td3bc = make_programs(config)
    assert (cloning.name, td3bc.name) == ("bc", "td3bc")
    run = offline_config(td3bc, config)
    assert run.data == ("data/otr.hdf5",)
    assert (run.devices, run.reward_scale, run.reward_bias) == (2, 0.1, -1.0)  # two agents: two devices of the four
    assert run.loading.semantics is None
    assert offline_config(td3bc, config, "d4rl").loading.semantics == "d4rl"


# --- resuming ---


def rows_of(folder):
    return [
        {k: v for k, v in json.loads(line).items() if k != "wall"} for line in (folder / "metrics.jsonl").open()
    ]  # fmt: skip


class Killed(BaseException):
    pass


def killer(function, after: int):
    """The function, which kills its caller once it was called so often."""
    calls = []

    def call(*args, **kwargs):
        calls.append(None)
        if len(calls) > after:
            raise Killed
        return function(*args, **kwargs)

    return call


@pytest.mark.slow
def test_killed_twice_and_called_again_it_ends_the_same(trained, tmp_path, monkeypatch):
    config, whole, arms = trained
    out = tmp_path / "x"
    arguments = {"device": "cpu", "quiet": True, "save_every": 1}

    with monkeypatch.context() as patch:  # while it labels
        patch.setattr(EpisodeDataset, "save", killer(EpisodeDataset.save, 2))
        with pytest.raises(Killed):
            train(config, out, **arguments)
    assert len(list((out / "data").glob("*.hdf5"))) == 2
    stopped(config, out, monkeypatch)
    assert json.loads((out / "bc" / "run.json").read_text())["status"] == "complete"
    assert json.loads((out / "iql" / "run.json").read_text())["status"] == "failed"
    again = train(config, out, **arguments)
    for mine, other in zip(again, arms, strict=True):
        np.testing.assert_array_equal(mine.curve, other.curve)
    for name in ("bc", "iql"):
        assert rows_of(out / name) == rows_of(whole / name)
    for name in ("original", *LABELS):
        assert (out / "data" / f"{name}.hdf5").read_bytes() == (whole / "data" / f"{name}.hdf5").read_bytes()
    assert not list((out / "data").glob(".*"))


def test_a_complete_one_is_only_reported(trained, monkeypatch, capsys):
    config, out, arms = trained
    before = (out / "report.json").read_bytes()
    (out / "report.json").unlink()
    monkeypatch.setattr(training, "read_inputs", lambda *_, **__: pytest.fail("the data were read again"))
    again = train(config, out)
    assert [arm.name for arm in again] == [arm.name for arm in arms]
    assert (out / "report.json").read_bytes() == before
    shown = capsys.readouterr().out
    assert "bc10-labels" in shown
    for name in ("arms.png", "iql.png"):
        assert (out / "plots" / name).stat().st_size > 10_000
        assert str(out / "plots" / name) in shown


def test_out_alone_shows_what_is_there(trained, tmp_path, capsys):
    _, out, _ = trained
    assert main(["train", "--out", str(out)]) == 0
    assert "bc10-labels" in capsys.readouterr().out
    assert main(["train", "--config", str(out), "--out", str(out), "--quiet"]) == 0  # the folder is a configuration
    capsys.readouterr()
    assert main(["train", "--out", str(tmp_path / "y")]) == 2
    assert "No dataset is given: name one with --data" in capsys.readouterr().err


@pytest.mark.slow
def test_out_alone_resumes_what_was_killed(data, tmp_path, monkeypatch):
    config = tiny(data, labels=("otr",), learners=("bc", "iql"), evaluations=1)
    with monkeypatch.context() as patch:
        patch.setattr(OfflineTrainer, "step", killer(OfflineTrainer.step, 6))
        with pytest.raises(Killed):
            train(config, tmp_path / "x", seed=3, device="cpu", quiet=True, save_every=1)
    with pytest.warns(UserWarning, match="iql is not complete: call otr train again"):
        assert [arm.name for arm in read_arms(tmp_path / "x")] == ["bc"]
    assert main(["train", "--out", str(tmp_path / "x"), "--device", "cpu", "--quiet"]) == 0
    assert [arm.name for arm in read_arms(tmp_path / "x")] == ["bc", "iql otr"]
    assert json.loads((tmp_path / "x" / "train.json").read_text())["seed"] == 3


def test_what_differs_is_named_by_its_option(trained, capsys):
    config, out, _ = trained
    other = ["--data", config.data, "--env-id", "Pendulum-v1", "--labels", "oracle", "otr", "--seed", "4"]
    assert main(["train", "--config", str(out), "--out", str(out), *other]) == 2
    said = capsys.readouterr().err
    assert "--labels (oracle otr constant there, oracle otr here), --env-id (none there, Pendulum-v1 here)" in said
    assert "--seed (0 there, 4 here): choose another --out, or give --out alone" in said


def test_another_configuration_in_the_folder_is_refused(trained, monkeypatch, tmp_path):
    config, out, _ = trained
    with pytest.raises(UserError, match=r"another training, which differs in eval_episodes \(1 there, 2 here\)"):
        train(tiny(config.data, eval_episodes=2), out, quiet=True)
    with pytest.raises(UserError, match=r"seed \(0 there, 5 here\)"):
        train(config, out, seed=5, quiet=True)
    assert train(tiny(config.data, devices=2), out, quiet=True)  # results do not depend on it
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not a folder of otr train"):
        train(config, tmp_path, quiet=True)


def stopped(config, out, monkeypatch, after: int = 6) -> None:
    """Train, and be killed while IQL learns: bc takes four dispatches."""
    with monkeypatch.context() as patch:
        patch.setattr(OfflineTrainer, "step", killer(OfflineTrainer.step, after))
        with pytest.raises(Killed):
            train(config, out, device="cpu", quiet=True, save_every=1)


@pytest.mark.slow
def test_data_that_changes_between_two_calls_is_refused_at_once(data, tmp_path, monkeypatch):
    out, file, demos = tmp_path / "x", tmp_path / "data.hdf5", tmp_path / "demos.npz"
    shutil.copy(data, file)
    true = EpisodeDataset.load(data)
    best_episodes(true, 1).save(demos)
    config = tiny(file, demos=str(demos), labels=("otr",), learners=("bc", "iql"), evaluations=1)
    stopped(config, out, monkeypatch)
    shutil.rmtree(out / "data")  # as somebody does who is told to remove what does not fit

    def refused(match: str) -> None:
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(UserError, match=match):
            train(config, out, device="cpu", quiet=True)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    ragged(seed=1).save(file, overwrite=True)
    refused(r"began with other data, demonstrations, .*, for original and otr: restore them, or choose another out")
    shutil.copy(data, file)
    best_episodes(true, 2).save(demos, overwrite=True)
    refused(r"began with other data, demonstrations, .*, for otr: restore")
    best_episodes(true, 1).save(demos, overwrite=True)
    with monkeypatch.context() as patch:
        patch.setattr(keys, "otr_version", lambda: "9.9")
        refused(r"began with other .* version of otr, for otr")
    with monkeypatch.context() as patch:
        patch.setattr(keys, "make_solver", lambda one: SimpleNamespace(name="other"))
        refused(r"began with other .* solvers")
    assert [arm.name for arm in train(config, out, device="cpu", quiet=True)] == ["bc", "iql otr"]


def test_a_labelled_file_that_is_another_is_refused(trained, tmp_path):
    config, whole, _ = trained
    out = tmp_path / "x"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("iql"))
    shutil.copy(out / "data" / "otr.hdf5", out / "data" / "constant.hdf5")
    with pytest.raises(UserError, match=r"constant.hdf5 is not the file that this training made there: restore it"):
        train(config, out, device="cpu", quiet=True)


@pytest.mark.slow
def test_an_interrupted_one_goes_on_where_it_was_moved(trained, tmp_path, monkeypatch):
    config, _, arms = trained
    stopped(config, tmp_path / "x", monkeypatch)
    (tmp_path / "x").rename(tmp_path / "y")
    monkeypatch.chdir(tmp_path)
    again = train(config, Path("y"), device="cpu", quiet=True, save_every=1)
    for mine, other in zip(again, arms, strict=True):
        np.testing.assert_array_equal(mine.curve, other.curve)


@pytest.mark.slow
def test_what_killed_processes_leave_is_no_obstacle_and_does_not_stay(data, tmp_path, monkeypatch):
    out = tmp_path / "x"
    config = tiny(data, labels=("otr", "constant"), learners=("iql",), updates=10, evaluations=1)
    out.mkdir()
    (out / ".train.json.123.tmp").write_text("{")  # killed while the first file was written
    with monkeypatch.context() as patch:  # killed between a labelled file and the removal of its chunks
        patch.setattr(training_data, "remove", killer(training_data.remove, 0))
        with pytest.raises(Killed):
            train(config, out, device="cpu", quiet=True)
    assert (out / "data" / ".otr.labels").is_dir()
    (out / "data" / ".constant.hdf5.123.tmp").write_text("half")
    unfinished = out / "data" / ".constant.labels" / "key"  # labelling resumes from it
    unfinished.mkdir(parents=True)
    seen = []

    def watched(*args, **kwargs):
        seen.extend([unfinished.exists(), (out / "data" / ".otr.labels").exists()])
        return label(*args, **kwargs)

    monkeypatch.setattr(training_data, "label", watched)
    assert len(train(config, out, device="cpu", quiet=True)) == 2
    assert seen == [True, False]
    assert sorted(path.name for path in (out / "data").iterdir()) == ["constant.hdf5", "otr.hdf5"]
    assert not list(out.glob(".*.tmp"))


@pytest.mark.slow
def test_a_learner_that_diverges_does_not_stop_the_others(data, tmp_path, monkeypatch, capsys):
    step = OfflineTrainer.step

    def breaks(self, state):
        state, metrics = step(self, state)
        broken = self.config.learner.type == "bc"
        return state, {name: value * np.nan if broken else value for name, value in metrics.items()}

    monkeypatch.setattr(OfflineTrainer, "step", breaks)
    out = tmp_path / "x"
    config = tiny(data, labels=("otr",), learners=("bc", "iql"), updates=10, evaluations=1)
    with pytest.raises(NonFiniteError, match=r"bc diverged and is not in the report .*at step 1\): train again"):
        train(config, out, device="cpu", quiet=True)
    document = json.loads((out / "report.json").read_text())
    assert [row["learner"] for row in document["arms"]] == ["iql"]
    assert "bc diverged, and is left out." in document["notes"]
    save_config(config, tmp_path / "config.json", SCHEMA)
    command = ["train", "--config", str(tmp_path / "config.json"), "--out", str(out), "--quiet", "--device", "cpu"]
    assert main(command) == 2
    assert "bc diverged" in capsys.readouterr().err


# --- data of other kinds ---


def test_data_without_next_observations(data, tmp_path):
    whole = EpisodeDataset.load(data)
    file = tmp_path / "flat.npz"
    whole.replace(next_observations=None, final_observations=None).save(file)
    config = tiny(file, learners=("bc",), updates=10, evaluations=1)
    (arm,) = train(config, tmp_path / "x", device="cpu", quiet=True)
    assert arm.updates.tolist() == [0, 10]
    assert sorted(path.name for path in (tmp_path / "x" / "data").iterdir()) == ["original.hdf5"]  # bc reads no labels
    trainer = load_learner(tmp_path / "x" / "bc").trainer
    assert int(trainer.data.size[0]) == whole.num_steps - whole.num_episodes


def test_of_data_that_was_labelled_before_the_first_rewards_are_true(data, tmp_path):
    true = EpisodeDataset.load(data)
    labelled = label(true, best_episodes(true, 1), "constant").dataset
    labelled.save(tmp_path / "labelled.hdf5")
    config = tiny(tmp_path / "labelled.hdf5")
    _, found, demos, _, _ = read_inputs(config, ("oracle",), quiet=True)
    assert content_digest(found) == content_digest(true)
    np.testing.assert_array_equal(found.rewards, true.rewards)
    np.testing.assert_array_equal(demos.observations, best_episodes(true, 1).observations)
    oracle = label(labelled, demos, preset("oracle")).dataset
    np.testing.assert_array_equal(oracle.rewards, label(true, demos, preset("oracle")).dataset.rewards)


def test_the_oracle_is_a_labeller(data, tmp_path, capsys):
    true = EpisodeDataset.load(data)
    demos = best_episodes(true, 1)
    assert main(["label", str(data), "--demos", "top:1", "--out", str(tmp_path / "o.hdf5"), "--preset", "oracle"]) == 0
    capsys.readouterr()
    found = EpisodeDataset.load(tmp_path / "o.hdf5")
    returns = true.returns()
    np.testing.assert_allclose(found.rewards, true.rewards * (1000 / np.ptp(returns)), rtol=1e-5)
    assert np.ptp(found.returns()) == pytest.approx(1000, rel=1e-4)
    maze = label(true, demos, preset("oracle", "antmaze")).dataset
    np.testing.assert_allclose(maze.rewards, true.rewards - 1, rtol=1e-6)
    with pytest.raises(UserError, match="every reward is 0"):
        label(true.replace(rewards=np.zeros_like(true.rewards)), demos, preset("oracle"))


@pytest.mark.slow
def test_labels_of_ones_own(data, tmp_path, monkeypatch):
    true = EpisodeDataset.load(data)
    mine = label(true, best_episodes(true, 1), dataclasses.replace(preset("otr"), aggregate="mean")).dataset
    file = tmp_path / "mine.hdf5"
    mine.save(file)
    mine.save(tmp_path / "folded-v0", format="minari")
    labels = ("otr", str(file), str(tmp_path / "folded-v0"))
    config = tiny(data, labels=labels, learners=("bc10-labels", "iql"), evaluations=1)
    out = tmp_path / "x"
    with monkeypatch.context() as patch:
        patch.setattr(OfflineTrainer, "step", killer(OfflineTrainer.step, 6))
        with pytest.raises(Killed):
            train(config, out, device="cpu", quiet=True, save_every=1)
    wrong = mine.replace(rewards=mine.rewards * 2)
    wrong.save(file, overwrite=True)
    with pytest.raises(UserError, match=r"began with other data, .*labels.*, for mine"):
        train(config, out, device="cpu", quiet=True)
    mine.save(file, overwrite=True)
    arms = train(config, out, device="cpu", quiet=True)
    assert [arm.name for arm in arms] == [
        f"{learner} {name}" for learner in ("bc10-labels", "iql") for name in ("otr", "mine", "folded-v0")
    ]
    for name in ("mine", "folded-v0"):
        seen = EpisodeDataset.load(out / "data" / f"{name}.hdf5")
        np.testing.assert_array_equal(seen.rewards, mine.rewards)
        np.testing.assert_array_equal(seen.extras["infos/original_rewards"], true.rewards)
        np.testing.assert_array_equal(seen.observations, true.observations)
    found = json.loads((out / "report.json").read_text())["labels"]["mine"]
    assert found["by_episode"] == pytest.approx(spearmanr(true.returns(), mine.returns()).statistic)
    assert set(json.loads((out / "train.json").read_text())["made_from"]) == {"otr", "mine", "folded-v0"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.select(slice(1, None)), "num steps differ"),
        (lambda one: one.select(np.arange(one.num_episodes)[::-1]), "episode starts differ"),
        (lambda one: one.replace(observations=one.observations + 1), "observations differ"),
        (lambda one: one.replace(actions=-one.actions), "actions differ"),
    ],
)
def test_labels_of_other_data_are_refused(data, tmp_path, change, message):
    change(EpisodeDataset.load(data)).save(tmp_path / "mine.npz")
    config = tiny(data, labels=(str(tmp_path / "mine.npz"),), learners=("iql",))
    with pytest.raises(UserError, match=rf"mine.npz: these are not labels of .*pendulum.hdf5, because {message}"):
        train(config, tmp_path / "x", device="cpu", quiet=True)
    assert not (tmp_path / "x").exists()


# --- what is wrong ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("otr", "orakle")}, r"no labels 'orakle'; did you mean \"oracle\""),
        ({"labels": ("otr", "otr")}, "names 'otr' twice"),
        ({"learners": ("bc", "bc")}, "names 'bc' twice"),
        ({"learners": ()}, "learners is"),
        ({"labels": ()}, "labels is"),
        ({"labels": ("mine.hdf5",)}, "mine.hdf5"),
        ({"labels": ("a/mine.hdf5", "b/mine.npz")}, "names 'mine' twice"),
        ({"labels": ("a/otr.hdf5",)}, "'otr' means something else: rename the file"),
        ({"labels": ("original.npz",)}, "'original' means something else"),
        ({"learners": ("iqk",)}, r"no learner 'iqk'; did you mean \"iql\""),
        ({"domain": "kitchen"}, "domain is 'kitchen'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"data": ""}, "No dataset is given"),
        ({"data": "nowhere.hdf5"}, "nowhere.hdf5"),
        ({"demos": "nowhere.hdf5"}, "nowhere.hdf5"),
        ({"demos": "top:99"}, "top:99 of 30 episodes"),
        ({"env_id": "Nowhere-v0"}, "'Nowhere-v0' cannot be made"),
        ({"env_id": "MountainCarContinuous-v0"}, "is of Pendulum-v1, not of MountainCarContinuous-v0"),
        ({"batch_size": 10**6}, "fewer than the batch size of 1000000"),
        (
            {"learners": ("td3bc",), "updates": 25, "updates_per_step": 1000},
            "updates is 25; it must be a multiple of 2, because",
        ),
        ({"learners": ("td3bc",), "updates_per_step": 15}, "updates_per_step is 15; it must be a multiple of 2"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(data, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        train(tiny(**{"path": data} | changes), tmp_path / "x", device="cpu", quiet=True)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learners": ("iql",), "demos": "demos"}, "which the oracle needs"),
        ({"labels": ("otr",)}, "which the learner 'bc10' needs"),
        ({"labels": ("otr",), "learners": ("iql",)}, "top:1 chooses by the true rewards"),
    ],
)
def test_what_needs_true_rewards_says_so(data, tmp_path, changes, message):
    true = EpisodeDataset.load(data)
    true.replace(rewards=np.zeros_like(true.rewards)).save(tmp_path / "bare.hdf5")
    if "demos" in changes:
        changes = changes | {"demos": str(best_episodes(true, 1).save(tmp_path / "demos.npz"))}
    with pytest.raises(UserError, match=message):
        train(tiny(tmp_path / "bare.hdf5", **changes), tmp_path / "x", device="cpu", quiet=True)
    assert not (tmp_path / "x").exists()


def test_what_needs_next_observations_says_so(data, tmp_path):
    true = EpisodeDataset.load(data)
    true.replace(next_observations=None, final_observations=None).save(tmp_path / "flat.npz")
    with pytest.raises(UserError, match="there are no stored next observations"):
        train(tiny(tmp_path / "flat.npz", labels=("otr", "seabo")), tmp_path / "x", device="cpu", quiet=True)
    assert not (tmp_path / "x").exists()


def test_demonstrations_that_labels_cannot_use_are_refused_before_anything_is_written(data, tmp_path):
    other = ragged(seed=3)
    other.save(tmp_path / "demos.npz")
    config = tiny(data, demos=str(tmp_path / "demos.npz"), labels=("otr", "uds"), learners=("iql",))
    with pytest.raises(UserError, match="no demonstration is among its episodes"):
        train(config, tmp_path / "x", device="cpu", quiet=True)
    assert not (tmp_path / "x").exists()


def test_data_that_names_no_environment(data, tmp_path):
    EpisodeDataset.load(data).replace(attributes={}).save(tmp_path / "plain.hdf5")
    with pytest.raises(UserError, match="name it with env_id"):
        train(tiny(tmp_path / "plain.hdf5"), tmp_path / "x", device="cpu", quiet=True)


def test_without_policy_finetune_the_command_says_what_to_install(data, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "policy_finetune"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "policy_finetune", None)
    assert main(["train", "--data", str(data), "--out", str(tmp_path / "x")]) == 2
    assert "pip install 'otr[train]'" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# --- the report ---


def arm(learner: str, labels: str, scores) -> ArmResult:
    values = np.array(scores, float)
    curve = np.stack([0 * values, values])
    return ArmResult(learner, labels, np.array([0, 5]), 10 * curve, curve)


def test_intervals_and_shares_by_hand():
    oracle, otr = arm("iql", "oracle", [80, 100]), arm("iql", "otr", [60, 66])
    # Of two values a resample is (a, a), (a, b), (b, a) or (b, b): the outer two have a quarter each.
    assert tuple(otr.interval) == (63.0, 60.0, 66.0)
    assert share_of_oracle(otr, [oracle, otr]) == pytest.approx(63 / 90)
    assert share_of_oracle(oracle, [oracle, otr]) == 1.0
    assert share_of_oracle(otr, [otr]) is None
    assert share_of_oracle(otr, [arm("iql", "oracle", [-5, 3]), otr]) is None
    assert (
        share_of_oracle(arm("td3bc", "otr", [1, 2]), [oracle, otr]) is None
    )  # another learner's oracle does not count
    assert share_of_oracle(arm("bc10", "oracle", [1, 2]), [arm("bc10", "oracle", [1, 2])]) is None


def test_the_controls_speak_up():
    arms = [
        arm("bc", "", [50, 60]), arm("bc10", "oracle", [90, 95]), arm("iql", "oracle", [80, 100]),
        arm("iql", "otr", [65, 75]), arm("iql", "seabo", [85, 95]), arm("iql", "pwil", [10, 20]),
        arm("iql", "constant", [60, 70]),
    ]  # fmt: skip
    assert arms_notes(arms) == [
        "iql: not above the constant reward: otr and pwil.",
        "iql: not above bc, which reads no rewards: pwil.",
        "iql: not above bc10, which is told the true returns: otr, seabo and pwil.",
    ]
    even = [arm("iql", "otr", [5, 6]), arm("iql", "oracle", [60, 75]), arm("iql", "constant", [70, 80])]
    assert arms_notes(even) == [
        "iql: the oracle is not above the constant reward, so this dataset and this budget cannot rank labels.",
        "iql: not above the constant reward: otr.",
    ]
    below = [arm("td3bc", "oracle", [1, 2]), arm("td3bc", "constant", [70, 80])]
    assert arms_notes([*arms, *below])[0].startswith(
        "td3bc: the oracle is not above the constant reward, so this dataset"
    )
    assert "one seed" in arms_notes([arm("iql", "otr", [1])])[0]
    assert arms_notes([arm("bc", "", [1, 2]), arm("iql", "otr", [5, 6]), arm("iql", "constant", [1, 2])]) == []


def test_the_report_holds_what_was_measured(trained):
    config, out, _ = trained
    document = report(out, quiet=True)
    assert json.loads((out / "report.json").read_text()) == document
    rows = [row for row in rows_of(out / "iql") if row["split"] == "evaluation"]
    otr = next(row for row in document["arms"] if (row["learner"], row["labels"]) == ("iql", "otr"))
    assert otr["returns"] == rows[-1]["return"][2:4]
    assert otr["mean"] == pytest.approx(np.mean(rows[-1]["return"][2:4]))
    assert (otr["low"], otr["high"]) == pytest.approx((min(otr["returns"]), max(otr["returns"])))
    assert otr["share_of_oracle"] is None  # returns are negative: a share would mean nothing
    assert document["measure"] == "return"
    assert document["labels"]["oracle"]["by_episode"] == pytest.approx(1.0)
    true, found = EpisodeDataset.load(config.data).returns(), EpisodeDataset.load(out / "data" / "otr.hdf5").returns()
    assert document["labels"]["otr"]["by_episode"] == pytest.approx(spearmanr(true, found).statistic)
    assert document["config"]["seed"] == 0


def test_the_table_says_what_bc10_is(trained, capsys):
    report(trained[1])
    assert "its episodes are the best by true return" in " ".join(capsys.readouterr().out.split())


def test_an_arm_that_is_not_complete_is_left_out_and_named(trained, tmp_path):
    _, whole, _ = trained
    out = tmp_path / "x"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("iql", "data"))
    with pytest.warns(UserWarning, match="x: iql is not complete: call otr train again"):
        assert {a.learner for a in read_arms(out)} == {"bc", "bc10", "bc10-labels"}
    document = report(out, quiet=True)
    assert document["labels"] == {}  # the files were removed
    assert document["notes"][-1] == "iql is not complete: call otr train again, which resumes it."
    shutil.rmtree(out / "bc")
    with pytest.raises(UserError, match="holds no complete training"):
        read_arms(out)
    with pytest.raises(UserError, match=r"is not a folder of otr train"):
        read_arms(tmp_path)


def test_the_command(trained, capsys, tmp_path):
    config, out, _ = trained
    assert main(["train", "--config", str(out / "train.json"), "--out", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    bad = ["train", "--data", config.data, "--out", str(tmp_path / "y"), "--labels", "otr", "konstant"]
    assert main(bad) == 2
    assert 'did you mean "constant"?' in capsys.readouterr().err
    assert main(["train", "--out", str(tmp_path / "y"), "--save-every", "0"]) == 2
    assert "--save-every is 0" in capsys.readouterr().err
