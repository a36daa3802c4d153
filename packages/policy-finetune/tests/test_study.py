import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import policy_finetune.report.run as run_report
from paperloop.errors import UserError
from paperloop.settings import config_document, load_config, save_config
from paperloop_lab.sweep.plan import SweepRun
from policy_finetune.config import SCHEMA, BalancedReplay, DataOptions, DropReplay, OnlineConfig, SwitchConfig
from policy_finetune.measures.collapse import collapse_metrics
from policy_finetune.presets import LEARNERS
from policy_finetune.report.study import cell, curves_figure, report_study, study_tables
from policy_finetune.study.config import StudyArm, StudyConfig, offline_runs, online_runs
from policy_finetune.study.curves import StudyCurve, _dataset_names, read_study, unfinished
from policy_finetune.study.run import _check_plan


def small(**changes):
    settings = {"data": ("a/medium.hdf5", "b/medium.hdf5"), "hidden": (8,), "batch_size": 16, **changes}
    return StudyConfig(**settings)


def test_the_matrix_is_every_combination():
    study = small(learners=("td3", "td3c"), replays=("append", "drop"), epsilons=(1e-4, 1e-3))
    labels = [arm.label for arm in study.all_arms()]
    assert labels == [
        "td3 append", "td3 drop",
        "td3c ε=0.0001 append", "td3c ε=0.001 append", "td3c ε=0.0001 drop", "td3c ε=0.001 drop",
    ]  # fmt: skip
    assert all(arm.learner.network.hidden == (8,) and arm.learner.batch_size == 16 for arm in study.all_arms())


def test_a_number_of_critics_reaches_both_phases():
    study = small(learners=("td3", "rlpd"), replays=("drop",), critics=3, layer_norm=True)
    networks = [arm.learner.network for arm in study.all_arms()]
    networks += [run.learner.network for run in offline_runs(study).values()]
    assert [(network.critics, network.layer_norm) for network in networks] == [(3, True)] * 3
    fresh = small(learners=("td3", "rlpd"), replays=("drop",), switch=SwitchConfig(critic_reinit=True))
    assert [arm.learner.network.critics for arm in fresh.all_arms()] == [2, 10]
    with pytest.raises(UserError, match="critics"):
        small(critics=0)


@pytest.mark.parametrize(
    ("pretrainer", "arm", "message"),
    [
        ("td3bc-ln", "td3c", "td3bc-ln has 2 critics with LayerNorm, and the arm 'td3c drop' has 2 critics without"),
        ("calql-redq", "sac", "calql-redq has 10 critics with LayerNorm, and the arm 'sac drop' has 2 critics without"),
    ],
)
def test_critics_that_do_not_fit_are_refused_before_anything_is_trained(pretrainer, arm, message):
    with pytest.raises(UserError, match=message):
        small(pretrainers=(pretrainer,), learners=(arm,), replays=("drop",))
    small(pretrainers=(pretrainer,), learners=(arm,), replays=("drop",), layer_norm=True, critics=10)
    small(pretrainers=(pretrainer,), learners=(arm,), replays=("drop",), switch=SwitchConfig(critic_reinit=True))
    small(pretrainers=("bc",), learners=(arm,), replays=("drop",))  # which has none


def test_epsilons_are_for_those_that_read_them():
    study = small(learners=("td3c", "proto"), replays=("drop",), epsilons=(1e-4, 1e-3))
    labels = [arm.label for arm in study.all_arms()]
    assert labels == ["td3c ε=0.0001 drop", "td3c ε=0.001 drop", "proto drop"]


def test_balanced_arms_that_differ_do_not_share_a_program():
    arms = tuple(
        StudyArm(label=f"{rho}", learner=LEARNERS["td3"], replay=BalancedReplay(rho=rho)) for rho in (0.25, 0.5)
    )
    runs = online_runs(small(learners=(), replays=(), arms=arms), {"td3bc": "pre"})
    assert [{agent.replay.rho for agent in run.agents} for run in runs] == [{0.25}, {0.5}]
    calibrated = dataclasses.replace(LEARNERS["calql"], discount=0.9)
    arms = (StudyArm(label="a", learner=LEARNERS["calql"]), StudyArm(label="b", learner=calibrated))
    runs = online_runs(small(pretrainers=("calql",), learners=(), replays=(), arms=arms), {"calql": "pre"})
    assert [{agent.learner.discount for agent in run.agents} for run in runs] == [{0.99}, {0.9}]


def test_arms_of_one_structure_share_a_program_and_parts_share_the_agents_out():
    study = small(learners=("td3", "td3bc", "td3c", "iql"), replays=("drop",), pre_seeds=2, seeds=3)
    whole = online_runs(study, {"td3bc": "pre"})
    assert [len(run.agents) for run in whole] == [3 * 4 * 3, 4 * 3]  # the TD3 family, and IQL
    parts = online_runs(small(learners=("td3", "td3bc", "td3c", "iql"), replays=("drop",), parts=2), {"td3bc": "pre"})
    assert len(parts) == 4
    agents = [(a.label, a.start, a.seed) for run in parts for a in run.agents]
    assert sorted(agents) == sorted((a.label, a.start, a.seed) for run in whole for a in run.agents)


def test_an_arm_of_one_dataset_leaves_no_part_empty():
    arm = StudyArm(label="only", learner=LEARNERS["td3"], replay=DropReplay(), datasets=(0,))
    runs = online_runs(small(learners=(), replays=(), arms=(arm,), pre_seeds=1, parts=2), {"td3bc": "pre"})
    assert [[a.start for a in run.agents] for run in runs] == [[0, 0, 0]]


def test_learners_with_their_own_updates_a_step_keep_them():
    fresh = SwitchConfig(critic_reinit=True)
    study = small(learners=("td3", "rlpd"), replays=("symmetric",), switch=fresh)
    by_label = {run.agents[0].label: run for run in online_runs(study, {"td3bc": "pre"})}
    assert (by_label["rlpd symmetric"].utd, by_label["rlpd symmetric"].block) == (20.0, 1)
    assert (by_label["td3 symmetric"].utd, by_label["td3 symmetric"].block) == (1.0, 50)


def test_pretraining_is_as_the_preset_has_it():
    run = offline_runs(small(pretrainers=("iql",), updates=3000))["iql"]
    assert run.normalize_rewards
    assert run.learner.actor_lr_steps == 3000
    assert [(agent.dataset, agent.seed) for agent in run.agents] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_how_files_are_read_reaches_both_phases_and_changes_no_run_without():
    loading = DataOptions(semantics="d4rl", drop_nonfinite=True)
    study = small(loading=loading)
    (before,) = offline_runs(study).values()
    assert before.loading == loading
    for run in online_runs(study, {"td3bc": "pre"}):  # open there, and so as the pre-trained run read them
        assert run.loading.over(before.loading) == loading
    # The ids of runs are hashes of their configurations, where nothing of the study itself stands.
    plain = {name: SweepRun(("x",), config_document(run)).id for name, run in offline_runs(small()).items()}
    empty = offline_runs(small(loading=DataOptions()))
    assert {name: SweepRun(("x",), config_document(run)).id for name, run in empty.items()} == plain
    assert SweepRun(("x",), config_document(before)).id != plain["td3bc"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pretrainers": ()}, "pretrainers is .*at least one learner"),
        ({"learners": ("tdd3",)}, 'no learner "tdd3"'),
        ({"learners": (), "replays": ()}, "at least one arm"),
        ({"seeds": 0}, "StudyConfig.seeds is 0; it must be at least 1"),
        ({"block": 0}, "StudyConfig.block is 0"),
        ({"hidden": ()}, r"StudyConfig.hidden is \(\)"),
        ({"arms": (StudyArm(label="td3 append"),)}, 'called "td3 append"'),
    ],
)
def test_nonsense_is_refused(changes, text):
    with pytest.raises(UserError, match=text):
        small(**changes)


def test_a_configuration_survives_a_file(tmp_path):
    study = small(arms=(StudyArm(label="mine", learner=LEARNERS["td3c"], switch=SwitchConfig(critic_warmup=5)),))
    save_config(study, tmp_path / "study.json", SCHEMA)
    assert load_config(StudyConfig, tmp_path / "study.json", SCHEMA) == study
    run = online_runs(study, {"td3bc": "pre"})[0]
    save_config(run, tmp_path / "run.json", SCHEMA)
    assert load_config(OnlineConfig, tmp_path / "run.json", SCHEMA) == run


def test_a_plan_keeps_other_seeds_and_versions_out(tmp_path):
    path = tmp_path / "plan.json"
    _check_plan(path, {"seed": 0, "pretrain": {"td3bc": "a"}, "finetune": ["b"]})
    _check_plan(path, {"seed": 0, "pretrain": {"td3bc": "a"}, "finetune": ["b"]})
    with pytest.raises(UserError, match="begun with seed=0"):
        _check_plan(path, {"seed": 1, "pretrain": {"td3bc": "a"}, "finetune": ["c"]})
    with pytest.raises(UserError, match="another version"):
        _check_plan(path, {"seed": 0, "pretrain": {"td3bc": "a"}, "finetune": ["c"]})
    path.write_text("[[1]]")
    with pytest.raises(UserError, match="does not hold the plan of a study"):
        _check_plan(path, {"seed": 0})


def curve(final, *, start=0, seed=0, arm="td3", dataset="narrow", first=100.0):
    steps, returns = np.array([0.0, 10, 20, 100]), np.array([first, 20.0, 60, final])
    return StudyCurve(dataset, "td3bc", arm, start, seed, steps, returns, collapse_metrics(steps, returns))


def test_a_table_row_says_what_its_curves_say():
    row = study_tables([curve(100), curve(200), curve(300)])[0]
    assert (row["agents"], row["starts"], row["recovered"]) == (3, 1, 3)
    assert row["final"][0] == 200
    assert row["min_over_start"] == (0.2, 0.2, 0.2)
    assert row["collapsed"] == (1.0, 1.0, 1.0)
    assert cell("final", row["final"]).startswith("200 [")


def test_an_undefined_collapse_is_not_counted():
    rows = study_tables([curve(100, first=-5.0), curve(100)])
    assert rows[0]["collapsed"][0] == 1.0  # of the one that can collapse
    assert cell("collapsed", study_tables([curve(100, first=-5.0)])[0]["collapsed"]) == "-"


def test_intervals_know_that_agents_of_one_start_are_no_independent_runs():
    rng = np.random.default_rng(0)
    levels = {start: rng.normal(500, 100) for start in range(6)}
    together = [curve(levels[s] + rng.normal(0, 1), start=s, seed=i) for s in range(6) for i in range(10)]
    apart = [curve(c.returns[-1], start=n) for n, c in enumerate(together)]
    width = {name: np.ptp(study_tables(curves)[0]["final"][1:]) for name, curves in (("c", together), ("i", apart))}
    assert width["c"] > 2 * width["i"]


def test_datasets_of_one_name_are_told_apart():
    assert _dataset_names(["x/a.hdf5", "y/b.hdf5"]) == ["a", "b"]
    assert _dataset_names(["x/a.hdf5", "y/a.hdf5"]) == ["x/a", "y/a"]


def begin(out, study, complete, level=100.0):
    """Write a study's folder in which some of the fine-tuning runs are complete."""
    starts = {}
    for name, run in offline_runs(study).items():
        folder = out / "pretrain" / name
        folder.mkdir(parents=True)
        save_config(run, folder / "config.json", SCHEMA)
        starts[name] = str(folder)
    runs = online_runs(study, starts)
    for number, run in enumerate(runs):
        folder = out / "finetune" / str(number)
        if number not in complete:
            continue
        folder.mkdir(parents=True)
        save_config(run, folder / "config.json", SCHEMA)
        (folder / "run.json").write_text('{"status": "complete"}')
        rows = [
            {"step": step, "wall": 0.0, "split": "evaluation", "return": [level - step] * len(run.agents)}
            for step in (0, 1, 2)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_config(study, out / "study.json", SCHEMA)
    plan = {"seed": 0, "pretrain": {name: name for name in starts}, "finetune": [str(i) for i in range(len(runs))]}
    (out / "plan.json").write_text(json.dumps(plan))
    return runs


@pytest.mark.slow
def test_an_incomplete_study_says_what_it_lacks(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    study = small(learners=("td3", "iql"), replays=("drop",), pre_seeds=2, seeds=3, parts=2)
    runs = begin(tmp_path, study, complete={0, 1, 2})  # TD3's two parts, and IQL's first: start 0 of each dataset
    assert [len(run.agents) for run in runs] == [6, 6, 6, 6]
    assert [agent.start for agent in runs[3].agents] == [1] * 3 + [3] * 3
    assert len(read_study(tmp_path)) == 18
    assert [folder.name for folder in unfinished(tmp_path)] == ["3"]
    files = report_study(tmp_path)
    report = files[0].read_text()
    assert "The study is incomplete: 1 of its runs are not there. Run it again to continue." in report
    assert "| a/medium | td3bc | td3 drop | 6 |" in report
    assert json.loads(files[1].read_text())["incomplete"] == ["3"]
    shown = capsys.readouterr().out
    assert "note: The study is incomplete" in shown
    assert max(len(line) for line in shown.splitlines() if line.startswith(("│", "┃"))) <= 80


def test_a_study_of_negative_returns_shows_what_was_kept(tmp_path, capsys, monkeypatch):
    study = small(env_id="Some-v0", data=("m.hdf5",), learners=("td3",), replays=("drop",), pre_seeds=1, seeds=2)
    begin(tmp_path, study, complete={0}, level=-96.0)
    monkeypatch.setattr(run_report, "random_return", {"Some-v0": -100.0}.__getitem__)
    report_study(str(tmp_path))
    shown = capsys.readouterr().out
    assert "│ 0.50 │" in shown  # -98 at worst: half of the way from -96 to -100
    assert "note: min/start is undefined in 2 of 2 agents, whose start is not above 0" in shown
    names = {path.name for path in (tmp_path / "report").iterdir() if path.suffix != ".pdf"}
    assert names == {"study.md", "study-results.json", "curves.png"}
    text = (tmp_path / "report" / "study.md").read_text()
    assert "| - | 0.50 |" in text
    assert "min/start is undefined in 2 of 2 agents" in text
    results = json.loads((tmp_path / "report" / "study-results.json").read_text())
    assert results["rows"][0]["kept"] == [0.5, 0.5, 0.5]
    assert results["agents"][0]["metrics"]["kept"] == 0.5
    assert results["agents"][0]["metrics"]["min_over_start"] is None


def test_arms_of_one_dataset_only_are_in_the_legend():
    first, second = curve(50.0, dataset="a", arm="td3"), curve(50.0, dataset="b", arm="td3")
    only = curve(50.0, dataset="b", arm="td3c ε=0.001")
    figure = curves_figure([first, only, second])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["td3", "td3c ε=0.001"]


def test_pre_trainers_have_panels_of_their_own():
    one = curve(50.0)
    other = dataclasses.replace(curve(80.0), pretrainer="iql")
    assert [axes.get_title(loc="left") for axes in curves_figure([one]).axes] == ["narrow"]
    titles = [axes.get_title(loc="left") for axes in curves_figure([one, other]).axes]
    assert titles == ["narrow, from iql", "narrow, from td3bc"]
    lines = [axes.lines[0].get_ydata()[-1] for axes in curves_figure([one, other]).axes]
    assert lines == [80.0, 50.0]


def test_a_study_is_read_from_any_working_folder_and_after_a_move(tmp_path, monkeypatch):
    study = small(data=("m.hdf5",), learners=("td3",), replays=("drop",), pre_seeds=1, seeds=1)
    monkeypatch.chdir(tmp_path)
    begin(Path("out"), study, complete={0})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [c.arm for c in read_study("../out")] == ["td3 drop"]
    (tmp_path / "out").rename(tmp_path / "moved")
    assert [c.arm for c in read_study(str(tmp_path / "moved"))] == ["td3 drop"]


@pytest.mark.slow
def test_a_study_from_the_command_line_to_its_report_and_again(tmp_path):
    program = str(Path(sys.executable).with_name("policy-finetune"))

    def run(*arguments):
        done = subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("make-data", "--env-id", "InvertedDoublePendulum-v5", "--quality", "random", "--steps", 600, "--out", "r.hdf5")
    study = (
        "study", "--env-id", "InvertedDoublePendulum-v5", "--data", "r.hdf5", "--learners", "td3", "td3c", "--replays",
        "drop", "--pre-seeds", 1, "--seeds", 1, "--updates", 100, "--env-steps", 300, "--hidden", 8, "--batch-size", 32,
        "--switch.warmup-env-steps", 100, "--eval-env-steps", 100, "--eval-episodes", 1, "--out", "study",
    )  # fmt: skip
    shown = run(*study)
    assert "td3c" in shown
    result = json.loads((tmp_path / "study" / "report" / "study-results.json").read_text())
    assert {agent["arm"] for agent in result["agents"]} == {"td3 drop", "td3c drop"}
    first, second = result["agents"]
    assert first["returns"][0] == second["returns"][0]  # the same pre-trained agent
    assert (tmp_path / "study" / "report" / "curves.png").stat().st_size > 10_000
    assert "1 complete already" in run(*study)
