"""The diagnosis: measures against closed forms and SciPy, every branch of the rules, and whole runs on a pendulum."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import scipy.spatial
import scipy.stats

from paperloop.errors import CheckpointError, UserError
from paperloop.settings import save_config
from paperloop_data import EpisodeDataset, write_d4rl
from paperloop_lab.stats import Interval
from policy_finetune import cli
from policy_finetune.config import (
    SCHEMA,
    BCConfig,
    OfflineConfig,
    OnlineConfig,
    SwitchConfig,
    SymmetricReplay,
    TD3Config,
)
from policy_finetune.data.make import make_dataset
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.diagnosis.diagnose import diagnose_data, diagnose_run
from policy_finetune.diagnosis.measures import (
    TwoKinds,
    action_spread,
    difference_of_means,
    mean_of,
    nearest,
    two_kinds,
)
from policy_finetune.diagnosis.rollouts import Greedy
from policy_finetune.diagnosis.rules import AgentDiagnosis, DataDiagnosis, Diagnosis, Recommendation, recommend
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.presets import LEARNERS

RNG = np.random.default_rng


# Measures


def test_intervals_are_students_and_welchs():
    x, y = RNG(0).normal(3, 1, 12), RNG(1).normal(1, 4, 30)
    low, high = scipy.stats.t.interval(0.95, 11, x.mean(), scipy.stats.sem(x))
    np.testing.assert_allclose(mean_of([x]), (x.mean(), low, high))
    welch = scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(difference_of_means([x], [y]), (x.mean() - y.mean(), welch.low, welch.high))


def test_agents_at_hand_are_no_sample():
    """Two agents far apart, whose episodes are all alike: their mean is known."""
    assert mean_of([np.full(5, 1.0), np.full(5, 9.0)]) == (5, 5, 5)
    # Equal variances: half the variance of one agent's mean.
    x = RNG(0).normal(size=10)
    one, two = mean_of([x]), mean_of([x, x + 4])
    assert two.point == pytest.approx(one.point + 2)
    ratio = scipy.stats.t.ppf(0.975, 18) / scipy.stats.t.ppf(0.975, 9) / 2**0.5
    assert (two.high - two.low) / (one.high - one.low) == pytest.approx(ratio)


def test_nearest_against_a_tree(monkeypatch):
    monkeypatch.setattr("policy_finetune.diagnosis.measures.CELLS", 700)  # several blocks
    rows, group = RNG(0).normal(size=(200, 3)), np.arange(200) % 2
    queries = np.arange(0, 200, 4)  # all of group 0
    distance, row = nearest(queries, rows, group)
    expected, index = scipy.spatial.KDTree(rows[1::2]).query(rows[queries])
    np.testing.assert_array_equal(row, 2 * index + 1)
    np.testing.assert_allclose(distance * 3**0.5, expected, rtol=1e-6)


def test_nearest_leaves_out_the_own_group():
    rows, every = np.array([[0.0], [0.1], [5.0]]), np.arange(3)
    distance, row = nearest(every, rows, np.array([0, 0, 1]))
    np.testing.assert_array_equal(row, [2, 2, 1])
    np.testing.assert_allclose(distance, [5, 4.9, 4.9])
    assert np.isinf(nearest(every, rows, np.zeros(3))[0]).all()


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_action_spread_is_the_noise_and_not_the_policy(sigma):
    state = RNG(0).uniform(-2, 2, (6000, 1))
    noise = RNG(1).normal(size=(6000, 2)) * [sigma, 2 * sigma]
    actions = np.sin(2 * state) + noise
    spread = action_spread(state, actions, np.arange(6000) // 60, np.arange(0, 6000, 2))
    np.testing.assert_allclose(spread, [sigma, 2 * sigma], rtol=0.06)
    assert actions.std() > 0.5
    with pytest.raises(UserError, match="two episodes"):
        action_spread(state, actions, np.zeros(6000), np.arange(10))


# Rules


def estimate(point, half=1.0):
    return Interval(point, point - half, point + half)


def diagnosis(
    policy=500.0, data=300.0, *, half=10.0, spread=0.4, greedy=480.0, learner=None, top=600.0, agents=1, random=0.0,
    steps=100_000, greedy_half=1.0,
) -> Diagnosis:  # fmt: skip
    about = DataDiagnosis("d.hdf5", steps, 100, estimate(data), data, 50.0, top, top, 0.5, 0.5, spread)
    difference = estimate(policy - data, half)
    agent = AgentDiagnosis(
        0, "td3bc", estimate(policy), difference, 100.0, 0.5,
        None if greedy is None else estimate(greedy, greedy_half),
    )  # fmt: skip
    return Diagnosis(
        "Pendulum-v1", learner or TD3Config(), about, (agent,) * agents, estimate(random), estimate(policy),
        difference, max(top, policy) - random, "best",
    )  # fmt: skip


def option(way: Recommendation, name: str) -> str:
    return way.options[way.options.index(f"--{name}") + 1]


@pytest.mark.parametrize(
    ("policy", "half", "expected"),
    [
        (500, 10, ("superior",)),
        (100, 10, ("inferior",)),
        (305, 10, ("comparable",)),
        (335, 10, ("superior", "comparable")),  # the margin is 5 % of 600
        (325, 10, ("comparable", "superior")),
        (265, 10, ("inferior", "comparable")),
        (310, 90, ("comparable", "superior", "inferior")),
    ],
)
def test_regimes_by_interval_and_margin(policy, half, expected):
    assert diagnosis(policy, half=half).regimes == expected


def test_a_better_policy_on_diverse_data_is_kept_and_the_data_dropped():
    (way,) = recommend(diagnosis())
    assert option(way, "preset") == "td3"
    assert option(way, "replay.type") == "drop"
    assert option(way, "switch.warmup-env-steps") == "5000"
    assert way.uncertainty == ""
    assert "500.0" in way.because
    assert "300.0" in way.because


@pytest.mark.parametrize(("change", "reason"), [({"spread": 0.1}, "vary by 0.10"), ({"greedy": 50.0}, "loses 90 %")])
def test_narrow_data_or_a_misleading_critic_ask_for_the_constraint(change, reason):
    way, guard = recommend(diagnosis(**change))
    assert option(way, "preset") == "td3c"
    assert option(way, "replay.type") == "drop"
    assert reason in way.because
    assert guard.options == ("--guard",)
    assert not guard.complete


def test_better_data_are_kept():
    (way,) = recommend(diagnosis(100.0, greedy=90.0))
    assert (option(way, "preset"), option(way, "replay.type"), option(way, "replay.rho")) == ("td3", "symmetric", "0.5")
    assert "online data 9 % of a batch" in way.because  # 10 000 of 110 000
    way, _ = recommend(diagnosis(100.0, greedy=90.0, spread=0.1))
    assert (option(way, "preset"), option(way, "replay.type")) == ("td3bc", "symmetric")


def test_where_both_are_equal_both_work():
    first, second = recommend(diagnosis(305.0, greedy=300.0))
    assert option(first, "replay.type") == "symmetric"
    assert option(second, "replay.type") == "drop"
    assert first.uncertainty == second.uncertainty == ""
    first, second, _ = recommend(diagnosis(305.0, greedy=300.0, spread=0.1))
    assert option(first, "preset") == option(second, "preset") == "td3c"


def test_overlapping_intervals_are_a_toss_up():
    ways = recommend(diagnosis(310.0, half=90.0, greedy=300.0))
    assert [option(way, "replay.type") for way in ways] == ["symmetric", "drop", "symmetric"]
    assert all(way.uncertainty for way in ways)
    assert "toss-up" in ways[0].uncertainty
    assert "superior or inferior" in ways[0].uncertainty
    assert ways[1].because.startswith("If it is superior after all")


def test_agents_that_disagree_are_said():
    found = diagnosis(305.0, greedy=300.0, agents=2)
    apart = tuple(
        dataclasses.replace(a, difference=estimate(d)) for a, d in zip(found.agents, (200, -190), strict=True)
    )
    way = recommend(dataclasses.replace(found, agents=apart))[0]
    assert "disagree" in way.uncertainty


def test_an_unclear_test_of_the_critic_is_said():
    way = recommend(diagnosis(greedy=260.0, greedy_half=100.0))[0]
    assert "Whether the critics mislead is open" in way.uncertainty


def test_without_critics_there_is_a_doubt_and_a_critic_warm_up():
    (way,) = recommend(diagnosis(greedy=None, learner=BCConfig()))
    assert option(way, "switch.critic-warmup") == "5000"
    assert "Without critics" in way.uncertainty


def test_nothing_better_than_random_is_nothing_to_keep():
    (way,) = recommend(diagnosis(0.5, 0.8, top=10.0, half=100.0, greedy=0.4))
    assert option(way, "replay.type") == "append"
    assert "better than random" in way.because
    assert way.program == "train"
    (way,) = recommend(diagnosis(5.0, 2.0, top=10.0, greedy=4.0, half=0.5))  # a small gain is one
    assert option(way, "replay.type") == "drop"


@pytest.mark.parametrize(
    ("learner", "robust", "fragile_policy", "fragile_data"),
    [("iql", "iql", "iql", "iql"), ("cql", "sac", "calql", "calql"), ("td3bc", "td3", "td3c", "td3bc")],
)
def test_each_learner_goes_on_in_its_family(learner, robust, fragile_policy, fragile_data):
    config = LEARNERS[learner]
    assert option(recommend(diagnosis(learner=config))[0], "preset") == robust
    assert option(recommend(diagnosis(learner=config, spread=0.1))[0], "preset") == fragile_policy
    assert option(recommend(diagnosis(100.0, learner=config, spread=0.1))[0], "preset") == fragile_data


@pytest.mark.parametrize("learner", ["td3bc", "iql", "cql", "bc", "sac"])
@pytest.mark.parametrize("policy", [500.0, 305.0, 100.0, 0.5])
@pytest.mark.parametrize("spread", [0.1, 0.4])
def test_every_recommendation_is_a_command_that_is_taken(monkeypatch, tmp_path, learner, policy, spread):
    """And the networks are those of the pre-trained agents."""
    config = LEARNERS[learner]
    changes = {} if learner == "bc" else {"critics": 3, "layer_norm": True}
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, hidden=(32, 16), **changes))
    if learner != "bc":
        config = dataclasses.replace(config, discount=0.98)
    seen = []
    monkeypatch.setattr(cli, "learn_online", lambda options, config, **_: seen.append(config))
    poor = {"top": 10.0, "data": 0.8} if policy == 0.5 else {}
    ways = recommend(diagnosis(policy, learner=config, spread=spread, **poor))
    assert ways
    start = tmp_path / "start"
    start.mkdir()
    save_config(OfflineConfig(learner=dataclasses.replace(config, policy_delay=1)), start / "config.json", SCHEMA)
    begin = {"finetune": ["--start", str(start)], "train": ["--env-id", "Pendulum-v1", "--data", __file__]}
    for way in ways:
        assert cli.main([way.program, *begin[way.program], "--out", str(tmp_path), *way.options]) == 0
        if way.complete and learner != "bc":
            assert seen[-1].learner.discount == 0.98
        if way.complete and way.program == "finetune":
            assert seen[-1].learner.network.hidden == (32, 16)
            if learner != "bc":
                assert (seen[-1].learner.network.critics, seen[-1].learner.network.layer_norm) == (3, True)
    assert len(seen) == len(ways)


# Rollouts


def linear_critic(weights):
    """Q(s, a) = w · [s, a], one critic."""
    w = np.asarray(weights, np.float32)[None, :, None]
    return [{"w": w, "b": np.zeros((1, 1), np.float32)}]


def test_following_a_critic_takes_what_it_likes_best():
    class Own(HostPolicy):
        def __call__(self, observations):
            return np.array([-1, 0.5, -1, 0.5], np.float32).reshape(1, 4, 1)

    own = Own([(np.zeros((1, 3, 1)), np.zeros((1, 1, 1)))])
    greedy = Greedy(linear_critic([0, 0, 0, -1]), own, seed=0)
    seen = RNG(0).normal(size=(1, 4, 3)).astype(np.float32)
    chosen = greedy(seen)
    np.testing.assert_array_equal(chosen[0, [0, 2]], -1)  # the policy's own, where nothing beats it
    assert (chosen[0, [1, 3]] < -0.9).all()  # else the lowest of 64 uniform actions
    np.testing.assert_array_equal(chosen, greedy(seen))


def test_a_critic_sees_normalised_observations():
    own = HostPolicy([(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))], mean=np.array([5.0]), std=np.array([2.0]))
    np.testing.assert_array_equal(own.normalised(np.full((1, 2, 1), 9.0)), np.full((1, 2, 1), 2.0))


# Whole runs


def small(learner):
    return dataclasses.replace(learner.network, hidden=(8,))


def write_data(path, steps, seed, env_id="Pendulum-v1"):
    data = make_dataset(env_id, "random", steps, seed=seed)
    write_d4rl(data, path)
    return path


def pretrain(folder, learner, files, **options):
    from paperloop.loop.runner import run
    from policy_finetune.trainers.sessions import offline_trainer

    learner = dataclasses.replace(learner, network=small(learner), batch_size=16, policy_delay=1)
    config = OfflineConfig(
        learner=learner, data=tuple(map(str, files)), env_id="Pendulum-v1", updates=4, updates_per_step=2, **options
    )
    trainer, _ = offline_trainer(config, quiet=True)
    run(trainer, folder, steps=trainer.num_steps, seed=0, progress=False)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [write_data(folder / f"{name}.hdf5", 600, seed) for name, seed in (("a", 0), ("b", 1))]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, files):
    return pretrain(tmp_path_factory.mktemp("runs") / "both", LEARNERS["td3bc"], files, seeds=2)


def test_a_run_is_diagnosed(run_folder, files, tmp_path, capsys):
    found = diagnose_run(files[1], run_folder, episodes=3, seed=7)
    assert [agent.index for agent in found.agents] == [2, 3]  # those of the second dataset
    assert any("2 of the run's 4 agents" in warning for warning in found.warnings)
    data = EpisodeDataset.load(files[1], max_episode_steps=200)
    assert found.data.returns.point == pytest.approx(data.returns().mean(), rel=1e-6)
    assert found.data.best == pytest.approx(data.returns().max(), rel=1e-6)
    assert found.data.episodes == 3
    assert (found.data.terminated, found.data.truncated) == (0, 1)
    assert 0.4 < found.data.action_spread < 0.7  # uniform actions: 0.58
    policy, _ = load_policies(run_folder)  # the returns are those of `evaluate`
    plain = evaluate(policy, policy.spec, episodes=3, seed=7)
    np.testing.assert_allclose([agent.returns.point for agent in found.agents], plain.mean[2:], rtol=1e-12)
    assert cli.main(["diagnose", str(files[1]), str(run_folder), "--episodes", "3", "--seed", "7"]) == 0
    document = json.loads((run_folder / "plots" / "diagnosis.json").read_text())
    assert document["regimes"] == list(found.regimes)
    assert document["data"]["returns"]["point"] == found.data.returns.point
    assert document["recommendations"][0]["options"][0] == "--preset"
    shown = capsys.readouterr().out
    assert f"--out {run_folder}-online-1" in shown
    assert "rule of thumb" in shown
    assert recommend(found)[0].title in shown


def test_a_start_of_two_kinds_of_episodes_is_called_bistable(run_folder, files, monkeypatch):
    monkeypatch.setattr("policy_finetune.diagnosis.diagnose.two_kinds", lambda returns: TwoKinds(-1e6, 1e6, 0.25))
    found = diagnose_run(files[1], run_folder, episodes=2, seed=7)
    said = [warning for warning in found.warnings if "bistable" in warning]
    assert [warning.split(":")[0] for warning in said] == ["Agent 2 is bistable", "Agent 3 is bistable"]
    assert "25 % of its episodes return about -1000000" in said[0]


def test_data_are_diagnosed_without_a_run(run_folder, files, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["diagnose", str(files[1]), "--env-id", "Pendulum-v1", "--seed", "7", "--out", str(out)]
    assert cli.main(command) == 0
    shown = capsys.readouterr().out
    assert "random actions" in shown
    assert "Not narrow" in shown
    assert "policy-finetune" not in shown  # nothing is recommended
    document = json.loads((out / "diagnosis.json").read_text())
    about, chance, _ = diagnose_data(files[1], env_id="Pendulum-v1", seed=7)
    assert document["data"]["action_spread"] == about.action_spread
    assert not document["narrow"]
    assert [p.name for p in out.iterdir()] == ["diagnosis.json"]
    whole = diagnose_run(files[1], run_folder, episodes=2, seed=7)
    assert (about, chance) == (whole.data, whole.random)  # the same numbers as with the run


@pytest.mark.slow
def test_the_same_seed_finds_the_same(run_folder, files, tmp_path):
    first, second = (diagnose_run(files[0], run_folder, episodes=2, seed=1) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_other_data_are_warned_of(run_folder, tmp_path):
    other = write_data(tmp_path / "other.hdf5", 600, seed=9)
    found = diagnose_run(other, run_folder, episodes=2, seed=0)
    assert len(found.agents) == 4
    assert any("No agent of the run learned from" in warning for warning in found.warnings)


@pytest.mark.slow
def test_behaviour_cloning_has_no_critics(files, tmp_path):
    folder = pretrain(tmp_path / "bc", LEARNERS["bc"], files[:1])
    found = diagnose_run(files[0], folder, episodes=2, seed=0)
    assert found.agents[0].greedy is None
    assert found.misled is None


@pytest.mark.slow
def test_an_online_run_is_taken_as_it_is(files, run_folder, tmp_path):
    from paperloop.loop.runner import run
    from policy_finetune.trainers.sessions import online_trainer

    learner = dataclasses.replace(LEARNERS["td3"], network=small(LEARNERS["td3"]), batch_size=16)
    config = OnlineConfig(
        learner=learner, start=str(run_folder), data=tuple(map(str, files)), env_steps=20, block=10,
        replay=SymmetricReplay(), switch=SwitchConfig(warmup_env_steps=0),
    )  # fmt: skip
    trainer, _ = online_trainer(config, quiet=True)
    run(trainer, tmp_path / "online", steps=trainer.num_steps, seed=0, progress=False)
    found = diagnose_run(files[0], tmp_path / "online", episodes=2, seed=0)
    assert [agent.index for agent in found.agents] == [0, 1]  # by the normaliser, which they brought along
    assert any("has learned online" in warning for warning in found.warnings)


def test_what_does_not_fit_is_said_in_one_sentence(run_folder, files, tmp_path):
    with pytest.raises(UserError, match="at least 2"):
        diagnose_run(files[0], run_folder, episodes=1, seed=0)
    with pytest.raises(UserError, match="not a run folder"):
        diagnose_run(files[0], tmp_path / "nothing", episodes=2, seed=0)
    other = write_data(tmp_path / "idp.hdf5", 60, seed=0, env_id="InvertedDoublePendulum-v5")
    with pytest.raises(UserError, match=r"Pendulum-v1"):
        diagnose_run(other, run_folder, episodes=2, seed=0)
    with pytest.raises(UserError, match=r"missing\.hdf5"):
        diagnose_run(tmp_path / "missing.hdf5", run_folder, episodes=2, seed=0)


def test_a_run_without_a_checkpoint(run_folder, files, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "run.json"):
        (tmp_path / "run" / name).write_bytes((run_folder / name).read_bytes())
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "run" / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        diagnose_run(files[0], tmp_path / "run", episodes=2, seed=0)


def test_returns_of_two_kinds_are_told_from_those_of_one():
    rng = np.random.default_rng(0)
    found = two_kinds(np.concatenate([rng.normal(300, 50, 12), rng.normal(9300, 100, 8)]))
    assert found.share == 0.6
    assert found.low == pytest.approx(300, abs=50)
    assert found.high == pytest.approx(9300, abs=100)
    for draw in (rng.normal, rng.uniform):
        assert all(two_kinds(draw(0, 1, 20)) is None for _ in range(200))
    assert two_kinds(np.full(20, 5.0)) is None
    assert two_kinds(np.array([0.0] * 19 + [9.0])) is None  # one outlier is not a kind
    assert two_kinds(np.array([0.0, 9.0])) is None
