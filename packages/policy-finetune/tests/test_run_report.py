"""What a run's report says and draws: from files alone, no training."""

import json

import numpy as np
import pytest

import policy_finetune.report.run as run_report
from paperloop.settings import save_config
from policy_finetune.config import SCHEMA, OnlineConfig, SwitchConfig
from policy_finetune.report.run import conclude, report_runs

HOME = {"Pendulum-v1": -1200.0, "Hopper-v5": 15.5}


@pytest.fixture(autouse=True)
def chance(monkeypatch):
    """Random returns without an environment."""
    monkeypatch.setattr(run_report, "random_return", HOME.__getitem__)
    monkeypatch.setenv("COLUMNS", "100")


def begin(folder, returns, *, env_id="Pendulum-v1", **config):
    """Write a run of agents with these returns (T, A), an evaluation every 100 steps; updates begin after 100."""
    folder.mkdir(parents=True)
    config = OnlineConfig(env_id=env_id, env_steps=400, block=50, switch=SwitchConfig(warmup_env_steps=100), **config)
    save_config(config, folder / "config.json", SCHEMA)
    rows = [{"step": 2 * i, "split": "evaluation", "return": list(r)} for i, r in enumerate(np.array(returns, float))]
    agents = len(returns[0])
    for block in range(1, 9):
        on = float(block > 2)
        rows.append({"step": block, "split": "train", "learning": [on] * agents, "q": [-300.0 * on] * agents})
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"wall": 0.0, **row}) + "\n" for row in rows))
    return folder


def test_negative_returns_have_a_measure_of_what_was_lost(tmp_path, capsys):
    conclude(begin(tmp_path / "run", [[-200], [-700], [-300]]), quiet=False)
    shown = capsys.readouterr()
    cells = [cell.strip() for cell in next(line for line in shown.out.splitlines() if "-700" in line).split("│")]
    assert cells[2:6] == ["-200.0", "-700.0", "0.50", "-"]  # (-700 + 1200) / (-200 + 1200)
    assert "kept: (minimum - random) / (start - random), random -1200" in " ".join(shown.out.split())
    assert "min/start is undefined in 1 of 1 agents, whose start is not above 0" in shown.err
    assert "nan" not in shown.out


def test_a_positive_return_has_both_measures(tmp_path, capsys):
    conclude(begin(tmp_path / "run", [[1000], [200], [900]], env_id="Hopper-v5"), quiet=False)
    shown = capsys.readouterr()
    cells = [cell.strip() for cell in next(line for line in shown.out.splitlines() if "1000.0" in line).split("│")]
    assert cells[2:6] == ["1000.0", "200.0", "0.19", "0.20"]
    assert "undefined" not in shown.err


def test_a_start_like_random_has_none_and_says_so(tmp_path, capsys):
    conclude(begin(tmp_path / "run", [[-1300, -200], [-1200, -300]]), quiet=False)
    shown = capsys.readouterr()
    assert (
        "kept and collapsed are undefined in 1 of 2 agents, whose start is no better than a random policy (-1200)"
        in (shown.err)
    )
    assert (
        "min/start is undefined in 2 of 2 agents, whose start is not above 0: a ratio to it says nothing; kept does."
        in (shown.err)
    )


def test_quiet_hides_the_table_and_not_the_warning(tmp_path, capsys):
    folder = begin(tmp_path / "run", [[1000], [200]], env_id="Hopper-v5")
    rows = [{"step": 8, "wall": 0.0, "split": "train", "learning": [1.0], "q_over_bound": [50.0]}]
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    conclude(str(folder), quiet=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "note: The critics diverge" in shown.err


def test_the_figure_leaves_out_what_was_not_learned(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(run_report.plots, "save_figure", lambda figure, path: drawn.append(figure))
    folder = begin(tmp_path / "run", [[1.0], [2.0], [3.0]], env_id="Hopper-v5")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["split"] == "train" and row["q"] != [0.0]:
            row["q"] = [-300.0 - row["step"]]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    conclude(folder, quiet=True)
    returns, values = drawn[0].axes
    np.testing.assert_array_equal(returns.lines[0].get_xdata(), [0, 100, 200])
    assert (returns.get_xlabel(), returns.get_ylabel()) == ("environment steps", "return of the deterministic policy")
    assert values.get_ylabel().startswith("mean Q")
    np.testing.assert_array_equal(values.lines[0].get_xdata(), [150, 200, 250, 300, 350, 400])
    np.testing.assert_array_equal(values.lines[0].get_ydata(), [-303.0, -304, -305, -306, -307, -308])


def test_data_that_is_gone_or_damaged_costs_the_scale_and_not_the_report(tmp_path, capsys, make_dataset):
    folder = begin(tmp_path / "run", [[10.0], [5.0]], env_id="", data=(str(tmp_path / "gone.npz"),))
    conclude(folder, quiet=False)
    shown = capsys.readouterr()
    assert "A random policy's return is taken as 0, because it cannot be measured: There is no dataset" in shown.err
    assert "0.50" in shown.out


def test_an_environment_that_is_not_here_costs_the_scale_and_not_the_report(tmp_path, capsys, monkeypatch):
    from policy_finetune.envs import references

    monkeypatch.setattr(run_report, "random_return", references.random_return)
    conclude(begin(tmp_path / "run", [[10.0], [5.0]], env_id="nonesuch:Env-v0"), quiet=False)
    shown = capsys.readouterr()
    assert "A random policy's return is taken as 0, because it cannot be measured" in shown.err
    assert "0.50" in shown.out


def test_agents_are_called_what_the_run_says(tmp_path, capsys):
    folder = begin(tmp_path / "run", [[1000, 900, 800], [200, 850, 790]], env_id="Hopper-v5")
    (folder / "run.json").write_text(json.dumps({"agents": ["td3 append", "td3c append", "td3c append"]}))
    conclude(folder, quiet=False)
    shown = capsys.readouterr().out
    for name in ("td3 append 0", "td3c append 0", "td3c append 1"):
        assert name in shown
    (folder / "run.json").write_text(json.dumps({"agents": ["td3"]}))  # not of these agents
    conclude(folder, quiet=False)
    assert "td3 " not in capsys.readouterr().out


def test_arms_of_several_runs_stand_side_by_side_and_are_never_pooled(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    for name, low in (("one", 200), ("two", 850)):
        folder = begin(tmp_path / name, [[1000, 900, 800], [low, 850, 790]], env_id="Hopper-v5", seeds=3)
        (folder / "run.json").write_text(json.dumps({"agents": ["td3 append", "td3c append", "td3c append"]}))
    report_runs([tmp_path / "one", str(tmp_path / "two")])
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    rows = {tuple(row[:2]): row[2:] for row in lines if row and row[0] in ("one", "two")}
    assert [name for name in rows] == [(run, arm) for run in ("one", "two") for arm in ("td3 append", "td3c append")]
    assert rows["one", "td3 append"] == ["1", "1000.0", "0.19", "0.20", "-", "200.0"]
    agents, start, *_, final = rows["two", "td3c append"]
    assert (agents, start, final) == ("2", "850.0", "820.0 [790.0, 850.0]")
    report_runs([tmp_path / "one"], quiet=True)
    assert capsys.readouterr().out == ""
