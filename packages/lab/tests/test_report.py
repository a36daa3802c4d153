"""Reading metrics.jsonl, and reports from run folders."""

import json

import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop.metrics_file import curve, metric_names, read_metrics
from paperloop_lab import stats
from paperloop_lab.report import report, report_command

GOOD = '{"step": 1, "wall": 0.5, "split": "train", "loss": 1.5}\n'


def lines(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def row(step, split="train", **metrics):
    return {"step": step, "wall": 2.0 * step, "split": split, **metrics}


def write_run(folder, config, finals, *, kind="my_method.config.PLRConfig", status="complete", seed=0, steps=20):
    """A run with an evaluator "mazes" whose solve rate ends at `finals` (a number, or one per seed)."""
    finals = np.asarray(finals, float)
    lines(
        folder,
        *(
            entry
            for step in range(0, steps + 1, 10)
            for entry in (
                row(step, loss=(1.0 - 0 * finals).tolist(), **{"progress/env_steps": 32 * step}),
                row(step, "mazes", solve_rate=(finals * step / steps).tolist(), length=(9 - finals).tolist()),
            )
        ),
    )
    (folder / "run.json").write_text(json.dumps({"schema": 1, "status": status, "method": "my_method.T", "seed": seed}))
    (folder / "config.json").write_text(json.dumps({"schema": 1, "type": kind, "config": config}))
    return folder


# ---------------------------------------------------------------------------------------------------- metrics.jsonl


def test_rows_are_read_as_written(tmp_path):
    rows = [row(0, loss=1.0), row(0, "mazes", solve_rate=[[0.1, 0.2]]), row(10, loss=0.5, extra=1)]
    assert read_metrics(lines(tmp_path, *rows)) == rows
    assert metric_names(rows) == {"train": ["loss", "extra"], "mazes": ["solve_rate"]}


@pytest.mark.parametrize("tail", ['{"step": 2, "wa', '{"step": 2}', "\0\0\0\0", "\n\n", '"', "12", "\xff"])
def test_a_torn_last_line_is_not_counted(tmp_path, tail):
    assert read_metrics(lines(tmp_path, GOOD, GOOD, tail)) == [json.loads(GOOD)] * 2


def test_a_last_line_that_lacks_only_its_newline_counts(tmp_path):
    assert len(read_metrics(lines(tmp_path, GOOD, GOOD.strip()))) == 2


@pytest.mark.parametrize("bad", ['{"step": 2, "wa\n', "[]\n", '{"step": 2}\n', f"{GOOD.strip()},{GOOD}", "1\n"])
def test_a_damaged_line_before_the_last_is_named(tmp_path, bad):
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is no row"):
        read_metrics(lines(tmp_path, GOOD, bad, GOOD))


def test_a_missing_or_empty_file(tmp_path):
    with pytest.raises(UserError, match=r"run.metrics\.jsonl does not exist"):
        read_metrics(tmp_path / "run")
    assert read_metrics(lines(tmp_path, "")) == []
    with pytest.raises(UserError, match="no complete row"):
        curve(tmp_path, "loss")


def test_a_curve_skips_rows_without_it_and_takes_the_later_of_two(tmp_path):
    run = lines(tmp_path, row(0, loss=3), row(10, other=1), row(10, loss=2), row(20, loss=None), row(10, loss=1))
    one = curve(run, "loss")
    np.testing.assert_array_equal(one.steps, [0, 10, 20])
    np.testing.assert_array_equal(one.wall, [0, 20, 40])
    np.testing.assert_array_equal(one.values, [3, 1, np.nan])


def test_a_curve_has_the_seed_axis_first_after_the_rows(tmp_path):
    run = lines(tmp_path, row(0, r=[[1, 2, 3], [4, 5, 6]]), row(5, r=[[1, 2, 3], [4, 5, float("nan")]]))
    assert curve(run, "r").values.shape == (2, 2, 3)
    assert np.isnan(curve(read_metrics(run), "r").values[1, 1, 2])


def test_a_curve_that_cannot_be_read_says_why(tmp_path):
    run = lines(tmp_path, row(0, loss=1, a=[1, 2], word="x"), row(3, loss=1, a=[1], word="y"))
    for name, split, message in [
        ("lost", "train", "no metric 'lost' in split 'train'.*there is loss"),
        ("loss", "test", "no split 'test'.*choose among train"),
        ("a", "train", r"changes its shape, \[2\] at step 0 and \[1\] at step 3"),
        ("word", "train", "no number or even list at step 0"),
        ("step", "train", "no metric 'step'"),
    ]:
        with pytest.raises(UserError, match=message):
            curve(run, name, split)


# ----------------------------------------------------------------------------------------------------------- report


def test_runs_that_differ_in_the_seed_only_are_pooled(tmp_path):
    for seed in range(10, 13):
        config = {"lr": 1e-3, "ppo": {"clip": 0.2}, "seed": seed}
        write_run(tmp_path / f"plr{seed}", config, [seed / 100, 0.5], seed=seed)
    write_run(tmp_path / "other", {"lr": 1e-2, "ppo": {"clip": 0.2}, "seed": 0}, 0.9)
    write_run(
        tmp_path / "accel", {"lr": 1e-2, "ppo": {"clip": 0.2}, "seed": 0}, 0.9, kind="my_method.config.ACCELConfig"
    )
    found = report([tmp_path], metrics=["solve_rate"], reps=500)
    assert [(group.label, group.seeds) for group in found.groups] == [
        ("ACCEL", 1), ("PLR (lr=0.01)", 1), ("PLR (lr=0.001)", 6)
    ]  # fmt: skip
    final = found.groups[2].finals["mazes"]["solve_rate"]
    pooled = [0.10, 0.5, 0.11, 0.5, 0.12, 0.5]
    np.testing.assert_allclose(final.values[:, 0], pooled)
    assert final.interval == stats.stratified_bootstrap(final.values, reps=500)
    assert final.step == 20
    assert found.folder == tmp_path / "report"


def test_other_groupings(tmp_path):
    for parent in ("a", "b"):
        for seed in range(2):
            write_run(tmp_path / parent / f"s{seed}", {"lr": seed}, 0.5)
    folders = [tmp_path / "a", tmp_path / "b"]
    by_parent = report(folders, tmp_path / "out", group_by="parent", metrics=["loss"])
    assert [(g.label, len(g.runs)) for g in by_parent.groups] == [("a", 2), ("b", 2)]
    by_run = report(folders, tmp_path / "out", group_by="run", metrics=["loss"])
    assert [g.label for g in by_run.groups] == ["s0", "s1", "s0 #2", "s1 #2"]


def test_what_is_written(tmp_path):
    run = write_run(tmp_path / "run", {"lr": 1}, [0.4, 0.6, 0.8])
    found = report([run], reps=200)
    assert found.headlines == (("mazes", "solve_rate"), ("train", "loss"))  # evaluators first
    names = {"mazes-solve_rate.png", "train-loss.png", "report.md", "report.json"}
    assert {p.name for p in (run / "plots").iterdir()} == names
    content = json.loads((run / "plots" / "report.json").read_text())
    (group,) = content["groups"]
    final = group["final"]["mazes"]["solve_rate"]
    assert final["values"] == [0.4, 0.6, 0.8]
    assert final["point"] == pytest.approx(0.6)
    assert final["low"] <= 0.6 <= final["high"]
    assert group["runs"][0]["steps"] == 20
    assert group["runs"][0]["wall"] == 40.0
    assert "progress/env_steps" not in group["final"]["train"]
    text = (run / "plots" / "report.md").read_text()
    assert "| PLR | complete | 1 | 3 | 20 | 40.0 s |" in text
    assert "![mazes-solve_rate](mazes-solve_rate.png)" in text
    assert "| length |" in text  # every metric, not only the headlines


def test_the_command_prints_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    write_run(tmp_path / "a", {"lr": 1}, [0.5, 0.5])
    write_run(tmp_path / "b", {"lr": 2}, 0.25, status="interrupted")
    report_command([tmp_path / "a", tmp_path / "b"], tmp_path / "out", ["mazes/solve_rate"])
    printed = capsys.readouterr().out
    assert "PLR (lr=1)" in printed
    assert "0.500 [0.500, 0.500]" in printed
    assert "0.250" in printed
    assert "interrupted" in printed
    assert f"1 figure, report.md, report.json: {tmp_path / 'out'}" in printed.replace("\n", "")


def test_axes_behind_the_seeds_are_strata(tmp_path):
    run = lines(tmp_path / "run", row(0, "mazes", solve=[[0.0, 1.0], [0.0, 1.0]]))
    interval = report([run], reps=300).groups[0].finals["mazes"]["solve"].interval
    assert interval == (0.5, 0.5, 0.5)  # all spread is between the tasks, which are not resampled


def test_many_metrics_are_narrowed_to_the_telling_ones(tmp_path):
    names = [*(f"weird{i}" for i in range(20)), "train_return", "grad_norm"]
    run = lines(tmp_path / "run", row(0, **dict.fromkeys(names, 1.0)), row(0, "eval", zeta=1.0, solve_rate=1.0))
    assert report([run]).headlines == (("eval", "solve_rate"), ("train", "train_return"))
    bare = lines(tmp_path / "bare", row(0, **dict.fromkeys(names[:20], 1.0)))
    assert len(report([bare]).headlines) == 6


def test_runs_without_metrics_or_of_unequal_length_are_noted(tmp_path):
    write_run(tmp_path / "a", {"lr": 1, "seed": 0}, 0.5)
    write_run(tmp_path / "b", {"lr": 1, "seed": 1}, 0.7, steps=10, status="interrupted")
    write_run(tmp_path / "c", {"lr": 1, "seed": 2}, 0.7, status="failed")
    (tmp_path / "c" / "metrics.jsonl").unlink()
    found = report([tmp_path])
    assert found.groups[0].status == "1 complete, 1 interrupted, 1 failed"
    assert any("c (failed) has no metrics" in note for note in found.notes)
    assert any("b ends at step 10 of 20" in note for note in found.notes)
    assert len(found.groups[0].finals["mazes"]["solve_rate"].values) == 2


def test_a_seed_whose_last_value_is_missing_is_taken_at_the_last_whole_row(tmp_path):
    run = lines(
        tmp_path / "run", row(0, r=[1.0, 2.0]), row(5, r=[3.0, 4.0]), row(9, r=[None, 6.0]), row(9, "e", q=None)
    )
    final = report([run]).groups[0].finals["train"]["r"]
    np.testing.assert_array_equal(final.values[:, 0], [3, 4])
    assert final.step == 5


def test_bad_input_is_one_clear_sentence(tmp_path):
    run = write_run(tmp_path / "run", {"lr": 1}, 0.5)
    empty = tmp_path / "empty"
    empty.mkdir()
    torn = write_run(tmp_path / "torn", {"lr": 1}, 0.5)
    (torn / "run.json").write_text('{"status": ')
    bare = lines(tmp_path / "bare", "")
    for runs, options, message in [
        ([], {}, "at least one run folder"),
        ([tmp_path / "absent"], {}, "absent is no folder"),
        ([empty], {}, "empty is no run folder"),
        ([torn], {}, r"torn.run\.json"),
        ([bare], {}, "No run among .*bare has a row"),
        ([run], {"metrics": ["solved"]}, "No run has a metric 'solved'; there is mazes/solve_rate"),
        ([run], {"statistic": "max"}, "iqm, mean or median"),
        ([run], {"group_by": "name"}, "config, parent or run"),
    ]:
        with pytest.raises(UserError, match=message):
            report(runs, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        report([run], tmp_path / "file" / "out")
