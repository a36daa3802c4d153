"""The verdicts of policy-finetune's benchmarks, on curves made by hand, and that their configurations are sound."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    policy_finetune,
    policy_finetune_controls,
    policy_finetune_critics,
    policy_finetune_hopper,
    policy_finetune_improve,
    policy_finetune_offline,
    policy_finetune_speed,
    policy_finetune_verdicts,
)
from benchmarks.harness import alternate
from benchmarks.policy_finetune_data import ENV, command
from benchmarks.policy_finetune_study import (
    Arm,
    StudyCurve,
    curves_figure,
    offline_run,
    online_runs,
    read_study,
    run_study,
    study_tables,
)
from paperloop.files import write_json
from paperloop.settings import save_config
from paperloop_lab import plots
from policy_finetune.config import SCHEMA, DropReplay, SwitchConfig
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.rollouts import RolloutEnvs
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.measures.collapse import collapse_metrics
from policy_finetune.presets import LEARNERS


@pytest.mark.slow
@pytest.mark.jax
def test_every_arm_of_ours_starts_and_does_the_work_of_the_speed_benchmark():
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    ours = [one for one in policy_finetune_speed.contestants(cores, 32, None) if one.peer is None]
    assert {policy_finetune_speed.EIGHT, policy_finetune_speed.BESIDE} <= {one.name for one in ours}
    comparison, checks = alternate(ours, 1, policy_finetune_speed.same_work)
    assert list(comparison.trials) == [one.name for one in ours]
    assert checks["equal"], checks


def curve(arm, dataset, ratio, start=0):
    steps, returns = np.array([0.0, 10, 20]), np.array([100.0, 100 * ratio, 100])
    return StudyCurve(dataset, arm, start, 0, steps, returns, collapse_metrics(steps, returns))


def curves(**changes):
    ratios = {
        "td3 append": 0.2, "td3 drop": 0.1, "td3c append": 0.8, "td3c drop": 0.9,
        "td3c ε=0.0001 drop": 0.9, "td3c ε=0.001 drop": 0.7, "td3c ε=0.005 drop": 0.5, **changes,
    }  # fmt: skip
    narrow = [curve(arm, "narrow-0", ratio, start) for arm, ratio in ratios.items() for start in range(3)]
    return narrow + [curve(f"td3 {replay}", "diverse-0", 0.9) for replay in ("append", "drop")]


def test_the_claims_hold_where_they_should_and_fail_where_they_should():
    assert all(claim["holds"] for claim in policy_finetune.verdicts(curves()))
    failed = [c["claim"] for c in policy_finetune.verdicts(curves(**{"td3 drop": 0.5})) if not c["holds"]]
    assert failed == ["TD3, narrow data, drop: median min/start < 0.35"]
    failed = [c["claim"] for c in policy_finetune.verdicts(curves(**{"td3c append": 0.1})) if not c["holds"]]
    assert len(failed) == 2  # it collapses, and it is below TD3
    flat = policy_finetune.verdicts(curves(**{"td3c ε=0.005 drop": 0.8}))
    assert not flat[-1]["holds"]


@pytest.mark.parametrize("tier", policy_finetune.TIERS)
def test_every_tier_is_a_sound_study(tier, tmp_path):
    study = policy_finetune.study_of(policy_finetune.TIERS[tier], [tmp_path / "narrow-0.hdf5", tmp_path / "d.hdf5"], 1)
    assert study.env_id == ENV
    assert [(agent.dataset, agent.seed) for agent in offline_run(study).agents][:2] == [
        (0, 0), (0, 1) if study.pre_seeds > 1 else (1, 0)
    ]  # fmt: skip
    runs = online_runs(study, "pre")
    assert len(runs) == 1  # all arms share a program
    sweep = {agent.start // study.pre_seeds for run in runs for agent in run.agents if "ε" in agent.label}
    assert sweep == {0}  # on narrow data only


@pytest.mark.parametrize("task", policy_finetune_improve.TASKS)
def test_every_search_is_a_sound_study(task, tmp_path):
    settings = policy_finetune_improve.TASKS[task]
    labels = []
    for group in policy_finetune_improve.groups(settings):
        study = policy_finetune_improve.study_of(settings, [tmp_path / "n.hdf5"], group, parts=1)
        learners = [agent.learner for run in online_runs(study, "pre") for agent in run.agents]
        learners.append(offline_run(study).learner)
        networks = {(learner.network.layer_norm, learner.network.critics) for learner in learners}
        assert networks == {(group.layer_norm, group.critics or 2)}  # the pre-trained fit
        labels += [arm.label for arm in group.arms]
    assert len(set(labels)) == len(labels)  # results are pooled by label
    assert set(policy_finetune_improve.BASELINES) <= set(labels)


def test_the_offline_arms_are_those_of_the_published_rows():
    for tier in policy_finetune_offline.TIERS.values():
        arms = policy_finetune_offline.learners(tier)
        assert all(set(row) == set(arms) for row in policy_finetune_offline.PUBLISHED.values())
        assert all(learner.network.hidden == tier.hidden for learner, _, _ in arms.values())
    assert dataclasses.asdict(policy_finetune_offline.TIERS["cpu"])["seeds"] == 3


def test_the_arm_without_training_and_the_second_measurement(tmp_path, monkeypatch):
    """Two datasets with one start each, two arms of two seeds; agent a of a run gets 100 a + its run's level."""
    task = dataclasses.replace(policy_finetune_improve.TASKS["smoke"], seeds=2)
    (group, *_) = policy_finetune_improve.groups(task)
    group = dataclasses.replace(group, arms=group.arms[:2])
    study = policy_finetune_improve.study_of(task, [tmp_path / "a.hdf5", tmp_path / "b.hdf5"], group, parts=1)
    offline = offline_run(study)
    (online,) = online_runs(study, "pretrain/before")
    for name, config in (("pretrain/before", offline), ("finetune/after", online)):
        (tmp_path / name).mkdir(parents=True)
        save_config(config, tmp_path / name / "config.json", SCHEMA)
    write_json(tmp_path / "plan.json", {"seed": 0, "pretrain": {"td3bc": "before"}, "finetune": ["after"]})
    asked = []

    def returns_of(run, episodes, seed):
        asked.append((run.name, episodes))
        agents = len((offline if run.name == "before" else online).agents)
        return 100.0 * np.arange(agents)[:, None] + np.arange(episodes) + (0 if run.name == "before" else 1000)

    monkeypatch.setattr(policy_finetune_controls, "returns_of", returns_of)
    steps, flat = np.array([0.0, 500.0, 800.0]), np.ones(3)
    like = [
        StudyCurve("ab"[a.start], a.label, a.start, a.seed, steps, flat, collapse_metrics(steps, flat))
        for a in online.agents
    ]
    frozen = policy_finetune_controls.frozen_curves(tmp_path, like, episodes=2, random_return=0.0, label="still")
    assert [(c.dataset, c.arm, c.start, c.seed) for c in frozen] == [
        ("a", "still", 0, 0), ("a", "still", 0, 1), ("b", "still", 1, 0), ("b", "still", 1, 1)
    ]  # fmt: skip
    assert asked == [("before", 2 * 2 * 3)]  # fresh episodes for every seed and evaluation
    assert [c.returns.tolist() for c in frozen][::3] == [[0.5, 2.5, 4.5], [106.5, 108.5, 110.5]]
    again = policy_finetune_controls.measured_again(tmp_path, like, episodes=3)
    assert [(c.arm, c.start, c.seed) for c in again] == [(a.label, a.start, a.seed) for a in online.agents]
    expected = [[100.0 * agent.start + 1, 1001 + 100.0 * i] for i, agent in enumerate(online.agents)]
    assert [c.returns.tolist() for c in again] == expected


def small(**changes):
    task = policy_finetune_improve.TASKS["smoke"]
    (group, *_) = policy_finetune_improve.groups(task)
    files = [Path("narrow.hdf5"), Path("diverse.hdf5")]
    study = policy_finetune_improve.study_of(task, files, group, parts=1)
    return dataclasses.replace(study, **changes)


def test_arms_of_one_structure_share_a_program_and_parts_share_the_agents_out():
    arms = tuple(Arm(name, LEARNERS[name], DropReplay()) for name in ("td3", "td3bc", "td3c", "iql"))
    whole = online_runs(small(arms=arms, pre_seeds=2, seeds=3), "pre")
    assert [len(run.agents) for run in whole] == [3 * 4 * 3, 4 * 3]  # the TD3 family, and IQL
    parts = online_runs(small(arms=arms, pre_seeds=2, seeds=3, parts=2), "pre")
    assert len(parts) == 4
    agents = [(a.label, a.start, a.seed) for run in parts for a in run.agents]
    assert sorted(agents) == sorted((a.label, a.start, a.seed) for run in whole for a in run.agents)
    only = (Arm("only", LEARNERS["td3"], DropReplay(), datasets=(0,)),)  # leaves no part empty
    runs = online_runs(small(arms=only, parts=2, seeds=3), "pre")
    assert [[agent.start for agent in run.agents] for run in runs] == [[0] * 3]


def test_rows_say_what_their_curves_say_and_figures_have_every_arm():
    steps = np.array([0.0, 10, 20, 100])
    curves = []
    for dataset, arm, final in (("b", "td3", 100), ("b", "td3", 300), ("b", "td3c ε=0.001", 200), ("a", "td3", 50)):
        returns = np.array([100.0, 20, 60, final])
        curves.append(StudyCurve(dataset, arm, 0, 0, steps, returns, collapse_metrics(steps, returns)))
    rows = study_tables(curves)
    assert [(row["dataset"], row["arm"], row["agents"]) for row in rows] == [
        ("b", "td3", 2), ("b", "td3c ε=0.001", 1), ("a", "td3", 1)
    ]  # fmt: skip
    assert (rows[0]["starts"], rows[0]["recovered"], rows[0]["final"][0]) == (1, 2, 200)
    assert rows[0]["min_over_start"] == [0.2, 0.2, 0.2]
    figure = curves_figure(curves)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["td3", "td3c ε=0.001"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.jax
def test_a_study_runs_to_its_curves_and_again(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "narrow.hdf5"
    command("make-data", "--env-id", ENV, "--quality", "random", "--steps", 600, "--out", file, "--quiet")
    arms = tuple(Arm(name, LEARNERS[name], DropReplay()) for name in ("td3", "td3c"))
    warm = SwitchConfig(warmup_env_steps=100)
    study = small(data=(str(file),), arms=arms, env_steps=300, eval_env_steps=100, switch=warm)
    run_study(study, tmp_path / "out")
    first, second = read_study(tmp_path / "out")
    assert (first.arm, second.arm) == ("td3", "td3c")
    assert first.returns[0] == second.returns[0]  # the same pre-trained agent
    run_study(study, tmp_path / "out")
    assert "1 complete already" in "".join(capfd.readouterr())
    with pytest.raises(SystemExit, match="another study"):
        run_study(dataclasses.replace(study, seeds=2), tmp_path / "out")


# The critic's error on Hopper, and the recipes since


def test_every_agent_of_the_recipes_is_sound_and_fits_its_start():
    for tier in policy_finetune_hopper.TIERS.values():
        file, groups = Path("narrow.hdf5"), policy_finetune_hopper.groups(tier)
        for group in groups.values():
            offline = policy_finetune_hopper.offline_config(tier, group.start, file)
            online = policy_finetune_hopper.online_config(tier, group, file, Path("before"), 1)
            assert offline.learner.network == online.learner.network
            assert bool(online.start) != group.scratch
            assert online.warmup_env_steps == tier.warmup // group.warmup_share
        labels = [label for group in groups.values() for label in group.arms]
        assert len(set(labels)) == len(labels)


def test_returns_to_go_are_those_of_the_episodes_played():
    """A pendulum that falls at once: the value of every state is what the rest of its episode brings."""
    spec = EnvSpec.of("InvertedPendulum-v5")
    policy = HostPolicy.single([(np.zeros((4, 1), np.float32), np.ones(1, np.float32))])
    with RolloutEnvs(spec) as envs:
        seen, value, returns = policy_finetune_critics.values_of(policy, spec, envs, episodes=3, seed=0, discount=0.5)
    lengths = returns.astype(int)  # a reward of 1 a step, but none for the last
    assert len(seen) == len(value) == lengths.sum() + 3
    assert sorted(value)[:6] == [0, 0, 0, 1, 1, 1]
    assert value.max() == 2 - 0.5 ** (lengths.max() - 1)


def record(arm, start, seed, returns, again, level=1.0, noise=0.9):
    """An agent's record: everything that the verdicts ask for."""
    steps = np.arange(len(returns)) * 10_000
    ones = np.ones(len(returns))
    measures = {name: ones for name in ("value", "spread", "correlation", "climbed")}
    return {
        "arm": arm, "start": start, "seed": seed, "steps": steps, "return": np.array(returns, float),
        "level": np.array([0.01, *[level] * (len(returns) - 1)]), "again": [again, again - 5, again + 5],
        "noise": np.array([100, 100 * noise]), **measures,
    }  # fmt: skip


def test_the_claims_on_recipes_hold_where_they_should_and_fail_where_they_should():
    expected = policy_finetune_verdicts.predicted_level(np.arange(4) * 10_000, discount=0.99, tau=0.005, every=2)
    np.testing.assert_allclose(expected, [0, 0.2212, 0.3935, 0.5276], atol=1e-4)
    before = [record("no training", name, 0, [1, 2, 3, 100], 100) for name in ("plain", "ln", "level", "ten")]
    for one in before[:2]:
        one["level"] = expected + 0.02
    after = [
        record("TD3, plain", "plain", 0, [100, 20, 90], 90), record("TD3, level", "level", 0, [100, 80, 120], 120),
        record("RLPD", "ten", 0, [100, 60, 150], 150), record("RLPD from scratch", "none", 0, [1, 20, 80], 80),
    ]  # fmt: skip
    rows = policy_finetune_verdicts.judged([*before, *after])
    assert [row["both"] for row in rows] == [False, True, False, None]
    holds = [claim["holds"] for claim in policy_finetune_verdicts.verdicts([*before, *after], rows)]
    assert holds == [True, True, True, True, True, False]  # one agent is not enough
    another = [record("no training", "level", 1, [1, 100], 100), record("TD3, level", "level", 1, [100, 75, 120], 120)]
    agents = [*before, *after, *another]
    claims = policy_finetune_verdicts.verdicts(agents, policy_finetune_verdicts.judged(agents))
    assert all(claim["holds"] for claim in claims), claims
    assert claims[-1]["figures"] == ["TD3, level"]
    another[1]["return"][1] = 10  # nor is one of two that loses its start
    claims = policy_finetune_verdicts.verdicts(agents, policy_finetune_verdicts.judged(agents))
    assert [claim["holds"] for claim in claims] == [True, True, True, True, True, False]
    before[0]["level"] = expected + 0.2
    rows = policy_finetune_verdicts.judged(before)
    holds = [claim["holds"] for claim in policy_finetune_verdicts.verdicts(before, rows)]
    assert holds == [False, False, True, None, None, None]
    figure = policy_finetune_verdicts.curves_figure([*before, *after])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [plots.plain(one["arm"]) for one in after]


@pytest.mark.slow
@pytest.mark.jax
def test_the_recipes_train_and_report_and_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = policy_finetune_hopper.groups(policy_finetune_hopper.TIERS["smoke"])
    monkeypatch.setattr(policy_finetune_hopper, "groups", lambda tier: {"plain": few["plain"]})
    assert policy_finetune_hopper.main(["--smoke", "--out", "runs"]) == 0
    first = capsys.readouterr().out
    assert "TD3, plain" in first
    assert "TD3+BC, data kept, plain" in first
    assert policy_finetune_hopper.main(["--smoke", "--out", "runs", "--report"]) == 0
    assert capsys.readouterr().out == first
