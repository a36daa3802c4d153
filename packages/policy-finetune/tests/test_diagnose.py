"""The diagnosis: measures against closed forms and SciPy, every branch of the rules, and whole runs on a pendulum."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import scipy.spatial
import scipy.stats

from paperloop.errors import CheckpointError, UserError
from paperloop_data import EpisodeDataset, write_d4rl
from policy_finetune import cli
from policy_finetune.config import LearnerConfig, NetworkConfig, OfflineConfig, OnlineConfig, ReplayConfig, SwitchConfig
from policy_finetune.data.make import make_dataset
from policy_finetune.diagnosis.diagnose import diagnose_data, diagnose_run
from policy_finetune.diagnosis.measures import (
    Estimate,
    Optimism,
    action_spread,
    beyond_the_data,
    difference_of_means,
    effective_rank,
    mean_of,
    nearest,
    q_optimism,
    two_kinds,
    vendi_score,
)
from policy_finetune.diagnosis.rollouts import Critic, Greedy, Tape
from policy_finetune.diagnosis.rules import AgentDiagnosis, DataDiagnosis, Diagnosis, Recommendation, recommend
from policy_finetune.diagnosis.show import show
from policy_finetune.envs.rollouts import evaluate, evaluation_seeds
from policy_finetune.envs.spec import EnvSpec
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


def test_effective_rank_counts_directions():
    q = np.linalg.qr(RNG(0).normal(size=(50, 4)))[0]
    assert effective_rank(q) == pytest.approx(4)
    assert effective_rank(np.outer(np.arange(9.0), [1, 2, 3])) == pytest.approx(1)
    # Singular values 3 and 1: p = 3/4, 1/4.
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert effective_rank(np.zeros((5, 2))) == 1


def test_vendi_score_counts_different_items():
    apart = 100.0 * np.arange(6)[:, None]
    assert vendi_score(apart) == pytest.approx(6)
    assert vendi_score(np.zeros((6, 2))) == pytest.approx(1)
    assert vendi_score(np.repeat(apart[:3], 4, 0)) == pytest.approx(3)


def test_nearest_against_a_tree(monkeypatch):
    monkeypatch.setattr("policy_finetune.diagnosis.measures.CELLS", 700)  # several blocks
    rows, queries = RNG(0).normal(size=(200, 3)), RNG(1).normal(size=(50, 3))
    distance, row = nearest(queries, rows)
    expected, index = scipy.spatial.KDTree(rows).query(queries)
    np.testing.assert_array_equal(row, index)
    np.testing.assert_allclose(distance * 3**0.5, expected, rtol=1e-6)


def test_nearest_leaves_out_the_own_group():
    rows = np.array([[0.0], [0.1], [5.0]])
    distance, row = nearest(rows, rows, np.array([0, 0, 1]), np.array([0, 0, 1]))
    np.testing.assert_array_equal(row, [2, 2, 1])
    np.testing.assert_allclose(distance, [5, 4.9, 4.9])
    assert np.isinf(nearest(rows, rows, np.zeros(3), np.zeros(3))[0]).all()


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


def test_beyond_the_data_is_five_percent_at_home():
    rows = RNG(0).normal(size=(4000, 2))
    own, _ = nearest(rows, rows, np.arange(4000), np.arange(4000))
    home, _ = nearest(RNG(1).normal(size=(4000, 2)), rows)
    away, _ = nearest(RNG(1).normal(size=(100, 2)) + 20, rows)
    assert beyond_the_data(own, home) == pytest.approx(0.05, abs=0.015)
    assert beyond_the_data(own, away) == 1


@pytest.mark.parametrize("terminated", [True, False])
def test_optimism_of_a_critic_with_a_constant_error(terminated):
    """Reward 1 a step, γ = 0.9: Q^π is 10 for ever, and (1 - 0.9^n) / 0.1 with n steps to an end."""
    left = np.arange(30.0, -1, -1)
    true = (1 - 0.9**left) / 0.1 if terminated else np.full(31, 10.0)
    found, came, promised = q_optimism([(np.ones(30), true + 2.5, terminated)], 0.9)
    assert found is not None
    assert found.bias == pytest.approx(2.5)
    assert found.spread == pytest.approx(0, abs=1e-9)
    assert found.steps == (30 if terminated else 24)  # 0.9^7 is the first below a half
    assert found.relative == pytest.approx(2.5 / found.scale)
    assert found.scale == pytest.approx(max(came.mean(), came.std()))
    np.testing.assert_allclose(promised - came, 2.5)


def test_optimism_needs_steps_far_from_a_time_limit():
    found, came, promised = q_optimism([(np.ones(5), np.ones(6), False)], 0.99)
    assert found is None
    assert len(came) == len(promised) == 0


# Rules


def estimate(point, half=1.0):
    return Estimate(point, point - half, point + half)


def diagnosis(
    policy=500.0, data=300.0, *, half=10.0, spread=0.4, greedy=480.0, learner=None, top=600.0, agents=1, random=0.0,
    steps=100_000, greedy_half=1.0,
) -> Diagnosis:  # fmt: skip
    about = DataDiagnosis(
        "d.hdf5", steps, 100, estimate(data), data, 50.0, top, top, 0.5, 0.5, spread, 3.0, 4.0, 9, 0.05
    )
    difference = estimate(policy - data, half)
    agent = AgentDiagnosis(
        0, "td3bc", estimate(policy), estimate(policy), difference, 100.0, 0.5, 0.05, 0.05, 0.1,
        None if greedy is None else estimate(greedy, greedy_half), 0.3,
    )  # fmt: skip
    return Diagnosis(
        "Pendulum-v1", learner or LearnerConfig(), about, (agent,) * agents, estimate(random), estimate(policy),
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
    assert option(way, "replay.kind") == "drop"
    assert option(way, "switch.warmup-env-steps") == "5000"
    assert way.certain
    assert way.uncertainty == ""
    assert "500.0" in way.because
    assert "300.0" in way.because
    assert way.numbers["difference"] == 200


@pytest.mark.parametrize(("change", "reason"), [({"spread": 0.1}, "vary by 0.10"), ({"greedy": 50.0}, "loses 90 %")])
def test_narrow_data_or_a_misleading_critic_ask_for_the_constraint(change, reason):
    way, guard = recommend(diagnosis(**change))
    assert option(way, "preset") == "td3c"
    assert option(way, "replay.kind") == "drop"
    assert reason in way.because
    assert guard.options == ("--guard.enabled",)
    assert not guard.complete


def test_better_data_are_kept():
    (way,) = recommend(diagnosis(100.0, greedy=90.0))
    assert (option(way, "preset"), option(way, "replay.kind"), option(way, "replay.rho")) == ("td3", "symmetric", "0.5")
    assert "online data 9 % of a batch" in way.because  # 10 000 of 110 000
    way, _ = recommend(diagnosis(100.0, greedy=90.0, spread=0.1))
    assert (option(way, "preset"), option(way, "replay.kind")) == ("td3bc", "symmetric")


def test_where_both_are_equal_both_work():
    first, second = recommend(diagnosis(305.0, greedy=300.0))
    assert option(first, "replay.kind") == "symmetric"
    assert option(second, "replay.kind") == "drop"
    assert first.certain
    assert second.certain
    first, second, _ = recommend(diagnosis(305.0, greedy=300.0, spread=0.1))
    assert option(first, "preset") == option(second, "preset") == "td3c"


def test_overlapping_intervals_are_a_toss_up():
    ways = recommend(diagnosis(310.0, half=90.0, greedy=300.0))
    assert [option(way, "replay.kind") for way in ways] == ["symmetric", "drop", "symmetric"]
    assert not any(way.certain for way in ways)
    assert "toss-up" in ways[0].uncertainty
    assert "superior or inferior" in ways[0].uncertainty
    assert ways[1].because.startswith("If it is superior after all")


def test_agents_that_disagree_are_said():
    found = diagnosis(305.0, greedy=300.0, agents=2)
    apart = tuple(
        dataclasses.replace(a, difference=estimate(d)) for a, d in zip(found.agents, (200, -190), strict=True)
    )
    way = recommend(dataclasses.replace(found, agents=apart))[0]
    assert not way.certain
    assert "disagree" in way.uncertainty


def test_an_unclear_test_of_the_critic_is_said():
    way = recommend(diagnosis(greedy=260.0, greedy_half=100.0))[0]
    assert not way.certain
    assert "Whether the critics mislead is open" in way.uncertainty


def test_without_critics_there_is_a_doubt_and_a_critic_warm_up():
    (way,) = recommend(diagnosis(greedy=None, learner=LearnerConfig(name="bc", policy_delay=1)))
    assert option(way, "switch.critic-warmup") == "5000"
    assert not way.certain
    assert "Without critics" in way.uncertainty


def test_nothing_better_than_random_is_nothing_to_keep():
    (way,) = recommend(diagnosis(0.5, 0.8, top=10.0, half=100.0, greedy=0.4))
    assert option(way, "replay.kind") == "append"
    assert not way.certain
    assert "better than random" in way.because
    assert way.program == "train"
    (way,) = recommend(diagnosis(5.0, 2.0, top=10.0, greedy=4.0, half=0.5))  # a small gain is one
    assert option(way, "replay.kind") == "drop"


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
    """And the networks it asks for are those of the pre-trained agents."""
    network = dataclasses.replace(LEARNERS[learner].network, hidden=(32, 16), critics=3, layer_norm=True)
    config = dataclasses.replace(LEARNERS[learner], network=network, discount=0.98)
    seen = []
    monkeypatch.setattr(cli, "_go_online", lambda options, config, snapshots: seen.append(config))
    poor = {"top": 10.0, "data": 0.8} if policy == 0.5 else {}
    ways = recommend(diagnosis(policy, learner=config, spread=spread, **poor))
    assert ways
    start = tmp_path / "start"
    start.mkdir()
    (start / "config.json").write_text("{}")  # the command looks whether it is there
    begin = {"finetune": ["--start", str(start)], "train": ["--env-id", "Pendulum-v1", "--data", __file__]}
    for way in ways:
        assert cli.main([way.program, *begin[way.program], "--out", str(tmp_path), *way.options]) == 0
        if way.complete:
            assert seen[-1].learner.network.hidden == (32, 16)
            assert seen[-1].learner.discount == 0.98
            if learner != "bc":
                assert (seen[-1].learner.network.critics, seen[-1].learner.network.layer_norm) == (3, True)
    assert len(seen) == len(ways)


# Rollouts


def linear_critic(weights):
    """Q(s, a) = w · [s, a], one critic."""
    w = np.asarray(weights, np.float32)[None, :, None]
    return [{"w": w, "b": np.zeros((1, 1), np.float32)}]


def test_following_a_critic_takes_what_it_likes_best():
    spec = EnvSpec.of("Pendulum-v1")
    critic = Critic(linear_critic([0, 0, 0, -1]), np.zeros(3, np.float32), np.ones(3, np.float32))
    seen = RNG(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(critic(seen, np.full((4, 1), 0.3, np.float32)), [[-0.3] * 4])

    def own(observations):
        return np.array([-1, 0.5, -1, 0.5], np.float32).reshape(1, 4, 1)

    greedy = Greedy(critic, own, spec, seed=0)
    chosen = greedy(seen[None])
    np.testing.assert_array_equal(chosen[0, [0, 2]], -1)  # the policy's own, where nothing beats it
    assert (chosen[0, [1, 3]] < -0.9).all()  # else the lowest of 64 uniform actions
    np.testing.assert_array_equal(chosen, greedy(seen[None]))


def test_a_recorded_evaluation_is_the_same_evaluation():
    spec = EnvSpec.of("InvertedDoublePendulum-v5")

    class Still:
        num_agents = 1

        def __call__(self, observations):
            return np.zeros((*observations.shape[:-1], 1), np.float32)

    plain = evaluate(Still(), spec, episodes=3, seed=5)
    with Tape(spec) as tape:
        recorded = [evaluate(Still(), spec, seeds=[s], envs=tape) for s in evaluation_seeds(5, 3)]
    np.testing.assert_array_equal(plain.returns[0], [one.returns[0, 0] for one in recorded])
    assert len(tape.episodes) == 3
    for (seen, rewards), total, length in zip(tape.episodes, plain.returns[0], plain.lengths[0], strict=True):
        assert len(seen) == length + 1
        assert sum(rewards) == pytest.approx(total, rel=1e-12)


# Whole runs

SMALL = NetworkConfig(hidden=(8,))


def write_data(path, steps, seed, env_id="Pendulum-v1"):
    data = make_dataset(env_id, "random", steps, seed=seed)
    write_d4rl(data, path)
    return path


def pretrain(folder, learner, files, **options):
    from paperloop.loop.runner import run
    from policy_finetune.trainers.sessions import offline_trainer

    learner = dataclasses.replace(learner, network=SMALL, batch_size=16, policy_delay=1)
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
    found = diagnose_run(files[1], run_folder, episodes=3, seed=7, out=tmp_path / "out")
    assert (tmp_path / "out" / "diagnosis.png").read_bytes()[:4] == b"\x89PNG"
    document = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert [agent.index for agent in found.agents] == [2, 3]  # those of the second dataset
    assert any("2 of the run's 4 agents" in warning for warning in found.warnings)
    data = EpisodeDataset.load(files[1], max_episode_steps=200)
    assert found.data.returns.point == pytest.approx(data.returns().mean(), rel=1e-6)
    assert found.data.best == pytest.approx(data.returns().max(), rel=1e-6)
    assert found.data.episodes == 3
    assert (found.data.terminated, found.data.truncated) == (0, 1)
    assert 0.4 < found.data.action_spread < 0.7  # uniform actions: 0.58
    # The returns are those of `evaluate`.
    from paperloop.loop.runner import restore
    from policy_finetune.trainers.sessions import load_trainer

    trainer, spec = load_trainer(run_folder)
    plain = evaluate(trainer.policy(restore(trainer, run_folder)), spec, episodes=3, seed=7)
    np.testing.assert_allclose(document["policy_returns"], plain.returns[2:], rtol=1e-12)
    assert found.agents[0].optimism is not None
    assert found.agents[0].optimism.steps == 3 * (200 - 68)  # 0.99^69 is the first power below a half
    assert document["regimes"] == list(found.regimes)
    assert document["recommendations"][0]["options"][0] == "--preset"
    shown = capsys.readouterr().out
    assert f"--out {run_folder}-online-1" in shown
    assert "rule of thumb" in shown
    assert recommend(found)[0].title in shown


def test_data_are_diagnosed_without_a_run(run_folder, files, tmp_path, capsys):
    about, chance = diagnose_data(files[1], env_id="Pendulum-v1", seed=7, out=tmp_path / "out")
    shown = capsys.readouterr().out
    assert "random actions" in shown
    assert "Not narrow" in shown
    assert "policy-finetune" not in shown  # nothing is recommended
    document = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert document["data"]["action_spread"] == about.action_spread
    assert not document["narrow"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["diagnosis.json"]
    whole = diagnose_run(files[1], run_folder, episodes=2, seed=7, out=tmp_path / "run")
    assert (about, chance) == (whole.data, whole.random)  # the same numbers as with the run


def test_what_is_promised_too_little_is_said_so(capsys, tmp_path):
    found = diagnosis(0.5, 0.8, top=10.0, half=100.0, greedy=0.4)
    for bias, text in ((-0.71, "too little by"), (0.4, "too much by")):
        optimism = Optimism(bias, bias, 0.2, 1.0, 20)
        agent = dataclasses.replace(found.agents[0], optimism=optimism, preference=0.1)
        one = dataclasses.replace(found, agents=(agent,))
        show(one, recommend(one), tmp_path)
        shown = capsys.readouterr().out
        assert text in shown
        assert "-71" not in shown
    assert "toss-up" not in shown
    assert f"policy-finetune train --env-id Pendulum-v1 --data d.hdf5 --out {tmp_path}-online-1" in shown


@pytest.mark.slow
def test_the_same_seed_finds_the_same(run_folder, files, tmp_path):
    first, second = (diagnose_run(files[0], run_folder, episodes=2, seed=1, out=tmp_path / x) for x in "ab")
    assert first == second


def test_a_random_critic_is_compared_with_what_comes(run_folder, files, tmp_path):
    """Critics that have seen four updates promise about nothing, where about -1000 come."""
    found = diagnose_run(files[0], run_folder, episodes=2, seed=0, out=tmp_path)
    optimism = found.agents[0].optimism
    assert optimism is not None
    assert optimism.bias > 0
    assert optimism.relative == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_other_data_are_warned_of(run_folder, tmp_path):
    other = write_data(tmp_path / "other.hdf5", 600, seed=9)
    found = diagnose_run(other, run_folder, episodes=2, seed=0, out=tmp_path / "out")
    assert len(found.agents) == 4
    assert any("No agent of the run learned from" in warning and "a.hdf5" in warning for warning in found.warnings)


@pytest.mark.slow
def test_behaviour_cloning_has_no_critics(files, tmp_path):
    folder = pretrain(tmp_path / "bc", LEARNERS["bc"], files[:1])
    found = diagnose_run(files[0], folder, episodes=2, seed=0, out=tmp_path / "out")
    assert found.agents[0].greedy is found.agents[0].optimism is None
    assert found.misled is None
    assert json.loads((tmp_path / "out" / "diagnosis.json").read_text())["agents"][0]["greedy"] is None


@pytest.mark.slow
def test_an_online_run_is_taken_as_it_is(files, run_folder, tmp_path):
    from paperloop.loop.runner import run
    from policy_finetune.trainers.sessions import online_trainer

    learner = dataclasses.replace(LEARNERS["td3"], network=SMALL, batch_size=16)
    config = OnlineConfig(
        learner=learner, start=str(run_folder), data=tuple(map(str, files)), env_steps=20, block=10,
        replay=ReplayConfig(kind="symmetric"), switch=SwitchConfig(warmup_env_steps=0),
    )  # fmt: skip
    trainer, _ = online_trainer(config, quiet=True)
    run(trainer, tmp_path / "online", steps=trainer.num_steps, seed=0, progress=False)
    found = diagnose_run(files[0], tmp_path / "online", episodes=2, seed=0, out=tmp_path / "out")
    assert [agent.index for agent in found.agents] == [0, 1]  # by the normaliser, which they brought along
    assert any("has learned online" in warning for warning in found.warnings)


def test_what_does_not_fit_is_said_in_one_sentence(run_folder, files, tmp_path):
    with pytest.raises(UserError, match="at least 2"):
        diagnose_run(files[0], run_folder, episodes=1, seed=0, out=tmp_path)
    with pytest.raises(UserError, match="not a run folder"):
        diagnose_run(files[0], tmp_path / "nothing", episodes=2, seed=0, out=tmp_path)
    other = write_data(tmp_path / "idp.hdf5", 60, seed=0, env_id="InvertedDoublePendulum-v5")
    with pytest.raises(UserError, match=r"Pendulum-v1"):
        diagnose_run(other, run_folder, episodes=2, seed=0, out=tmp_path)
    with pytest.raises(UserError, match=r"missing\.hdf5"):
        diagnose_run(tmp_path / "missing.hdf5", run_folder, episodes=2, seed=0, out=tmp_path)
    assert not (tmp_path / "diagnosis.json").exists()


def test_a_run_without_a_checkpoint(run_folder, files, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("config.json", "run.json"):
        (tmp_path / "run" / name).write_bytes((run_folder / name).read_bytes())
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "run" / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        diagnose_run(files[0], tmp_path / "run", episodes=2, seed=0, out=tmp_path)


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
