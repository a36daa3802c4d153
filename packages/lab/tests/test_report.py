"""Reading metrics.jsonl, and reports from run folders."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop.loop import metrics_file
from paperloop.loop.metrics_file import curve, metric_names, read_metrics
from paperloop_lab import stats
from paperloop_lab.report import build, reading, report, report_command

GOOD = '{"step": 1, "wall": 0.5, "split": "train", "loss": 1.5}\n'


def lines(folder, *rows):
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def row(step, split="train", **metrics):
    return {"step": step, "wall": 2.0 * step, "split": split, **metrics}


def write_run(
    folder, config, finals, *, kind="my_method.config.PLRConfig", status="complete", seed=0, steps=20, **record
):
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
    record = {
        "schema": 1,
        "status": status,
        "method": "my_method.T",
        "seed": seed,
        "headlines": ["solve_rate"],
        **record,
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "config.json").write_text(json.dumps({"schema": 1, "type": kind, "config": config}))
    return folder


# metrics.jsonl


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
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is not a row"):
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
        ("lost", "train", "no metric 'lost' in split 'train'.*did you mean \"loss\""),
        ("loss", "test", "no split 'test'.*known are train"),
        ("a", "train", r"changes its shape, \[2\] at step 0 and \[1\] at step 3"),
        ("word", "train", "number or even list at step 0"),
        ("step", "train", "no metric 'step'"),
    ]:
        with pytest.raises(UserError, match=message):
            curve(run, name, split)


# Report

#: Tests of what is drawn; the others leave that out, which would take most of their time.
DRAWN = {
    "test_what_is_written",
    "test_the_command_prints_a_table",
    "test_names_cannot_steer_terminal_or_figures",
    "test_one_page_holds_everything",
    "test_runs_without_a_common_step_are_not_drawn",
}


@pytest.fixture(autouse=True)
def drawing(request, monkeypatch):
    if request.function.__name__ not in DRAWN:
        monkeypatch.setattr(build, "_draw", lambda *_: ())


def test_runs_of_equal_configuration_are_pooled_and_others_are_not(tmp_path):
    for seed in range(10, 13):
        config = {"lr": 1e-3, "ppo": {"clip": 0.2}}
        write_run(tmp_path / f"plr{seed}", config, [seed / 100, 0.5], seed=seed)
    write_run(tmp_path / "other", {"lr": 1e-2, "ppo": {"clip": 0.2}}, 0.9)
    write_run(tmp_path / "accel", {"lr": 1e-2, "ppo": {"clip": 0.2}}, 0.9, kind="my_method.config.ACCELConfig")
    found = report([tmp_path], metrics=["solve_rate"], reps=500)
    assert [(group.label, len(group.runs), group.agents, group.seeds) for group in found.groups] == [
        ("ACCEL", 1, 1, 1), ("PLR (lr=0.01)", 1, 1, 1), ("PLR (lr=0.001)", 3, 6, 6)
    ]  # fmt: skip
    final = found.groups[2].finals["mazes", "solve_rate"]
    pooled = [0.10, 0.5, 0.11, 0.5, 0.12, 0.5]
    np.testing.assert_allclose(final.values[:, 0], pooled)
    assert final.interval == stats.stratified_bootstrap(final.values, reps=500)
    assert final.step == 20
    assert found.folder == tmp_path / "report"


ARMS = ["td3", "td3c", "td3", "td3c"]


def test_arms_of_one_run_are_never_pooled(tmp_path, capsys, monkeypatch):
    """Two learners of two seeds each in one program, in two runs: 0.1, 0.3 and 0.2, 0.4 are td3's returns."""
    monkeypatch.setenv("COLUMNS", "120")
    for seed, shift in ((0, 0.0), (1, 0.1)):
        values = [0.1 + shift, 0.8 + shift, 0.3 + shift, 0.6 + shift]
        write_run(tmp_path / f"run{seed}", {"lr": 1}, values, seed=seed, agents=ARMS)
    found = report([tmp_path], reps=200)
    told = [(group.label, len(group.runs), group.agents, group.seeds) for group in found.groups]
    assert told == [("td3", 2, 4, 4), ("td3c", 2, 4, 4)]
    values = [group.finals["mazes", "solve_rate"].values[:, 0].tolist() for group in found.groups]
    np.testing.assert_allclose(values, [[0.1, 0.3, 0.2, 0.4], [0.8, 0.6, 0.9, 0.7]])
    for group in found.groups:  # the figure draws the same agents
        _, curves = group.curve(("mazes", "solve_rate"), "step")
        np.testing.assert_allclose(curves[:, 0, -1], group.finals["mazes", "solve_rate"].values[:, 0])
    report_command([tmp_path / "run0"])
    printed = capsys.readouterr().out
    assert [line.split()[-3:] for line in printed.splitlines() if " td3c " in line][-1] == ["1", "2", "2"]
    markdown = (tmp_path / "run0" / "plots" / "report.md").read_text()
    assert "| td3 | complete | 1 | 2 | 2 | 20 | 40.0 s |" in markdown


def test_arms_of_different_configurations_stay_apart(tmp_path):
    for lr in (1, 2):
        write_run(tmp_path / f"lr{lr}", {"lr": lr}, [0.1, 0.2], agents=["a", "b"])
    labels = [group.label for group in report([tmp_path], reps=50).groups]
    assert labels == ["PLR (lr=1) · a", "PLR (lr=1) · b", "PLR (lr=2) · a", "PLR (lr=2) · b"]


def test_one_number_for_all_arms_belongs_to_none_of_them(tmp_path):
    run = lines(tmp_path, row(0, speed=5.0, loss=[1.0, 2.0]))
    (run / "run.json").write_text(json.dumps({"agents": ["a", "b"]}))
    found = report([run], reps=50)
    assert [(group.arm, list(group.finals)) for group in found.groups] == [
        ("a", [("train", "loss")]), ("b", [("train", "loss")]), (None, [("train", "speed")])
    ]  # fmt: skip
    assert found.groups[2].label == f"{tmp_path.name}, all agents"


def test_a_leading_axis_that_does_not_fit_the_agents_is_an_error(tmp_path):
    run = write_run(tmp_path / "run", {"lr": 1}, [0.1, 0.2, 0.3], agents=["a", "b"])
    with pytest.raises(UserError, match=r"'loss' of train in .*run has 3 entries .* names 2 agents"):
        report([run])


def test_runs_with_one_seed_are_counted_once(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name, {"lr": 1}, [0.1, 0.2], seed=7)
    found = report([tmp_path], reps=50)
    (group,) = found.groups
    assert (len(group.runs), group.agents, group.seeds) == (2, 4, 2)
    assert any("seed 7 is in several runs, which are not independent" in note for note in found.notes)


def test_repetitions_may_differ_in_fields_that_are_named(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"s{seed}", {"lr": 1, "data": {"seed": seed}}, 0.5, seed=seed)
    assert [group.label for group in report([tmp_path], reps=50).groups] == ["PLR (seed=0)", "PLR (seed=1)"]
    (group,) = report([tmp_path], ignore=["data.seed"], reps=50).groups
    assert (group.label, group.seeds) == ("PLR", 2)
    by_run = report([tmp_path], group_by="run", ignore=["data.seed"], reps=50)
    assert [group.label for group in by_run.groups] == ["s0", "s1"]


def test_what_is_written(tmp_path):
    run = write_run(tmp_path / "run", {"lr": 1}, [0.4, 0.6, 0.8], headlines=["solve_rate", "train/loss", "absent"])
    found = report([run], reps=200)
    assert found.headlines == (("mazes", "solve_rate"), ("train", "loss"))  # in the trainer's order
    drawn = {f"{name}.{kind}" for name in ("mazes-solve_rate", "train-loss") for kind in ("png", "pdf")}
    assert {p.name for p in (run / "plots").iterdir()} == drawn | {"report.md", "report.json"}
    content = json.loads((run / "plots" / "report.json").read_text())
    (group,) = content["groups"]
    final = group["final"]["mazes"]["solve_rate"]
    assert final["values"] == [0.4, 0.6, 0.8]
    assert final["point"] == pytest.approx(0.6)
    assert final["low"] <= 0.6 <= final["high"]
    assert (final["runs"], final["agents"], final["seeds"]) == (1, 3, 3)
    assert group["runs"][0]["steps"] == 20
    assert group["runs"][0]["wall"] == 40.0
    assert "progress/env_steps" not in group["final"]["train"]
    text = (run / "plots" / "report.md").read_text()
    assert "| PLR | complete | 1 | 3 | 3 | 20 | 40.0 s |" in text
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


def test_names_cannot_steer_terminal_or_figures(tmp_path, capsys, monkeypatch):
    """Escape sequences, rich's markup and matplotlib's mathematics in a label, a metric and a split."""
    monkeypatch.setenv("COLUMNS", "200")
    metric = "$x_\x1b[31m[red]"
    run = lines(
        tmp_path / "run", row(0, "$\\frac{$", **{metric: [1.0, 2.0]}), row(1, "$\\frac{$", **{metric: [1.0, 2.0]})
    )
    (run / "run.json").write_text(json.dumps({"agents": ["\x1b]0;title\x07 $a_$", "$\\b"], "status": "\x1b[2J"}))
    report_command([run])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "$x_\\x1b[31m[red]" in printed
    written = (run / "plots" / "report.md").read_text()
    assert "\x1b" not in written
    assert len(list((run / "plots").glob("*.png"))) == 1


def test_axes_behind_the_seeds_are_strata(tmp_path):
    run = lines(tmp_path / "run", row(0, "mazes", solve=[[0.0, 1.0], [0.0, 1.0]]))
    interval = report([run], reps=300).groups[0].finals["mazes", "solve"].interval
    assert interval == (0.5, 0.5, 0.5)  # all spread is between the tasks, which are not resampled


def test_without_headlines_the_first_metrics_are_shown(tmp_path):
    names = [f"weird{i}" for i in range(20)]
    run = lines(tmp_path / "run", row(0, **dict.fromkeys(names, 1.0)), row(0, "eval", zeta=1.0))
    assert report([run], reps=50).headlines == (("eval", "zeta"), *(("train", name) for name in names[:5]))


def test_runs_without_metrics_or_of_unequal_length_are_noted(tmp_path):
    write_run(tmp_path / "a", {"lr": 1}, 0.5)
    write_run(tmp_path / "b", {"lr": 1}, 0.7, steps=10, status="interrupted", seed=1)
    write_run(tmp_path / "c", {"lr": 1}, 0.7, status="failed", seed=2)
    (tmp_path / "c" / "metrics.jsonl").unlink()
    found = report([tmp_path])
    assert found.groups[0].status == "1 complete, 1 interrupted, 1 failed"
    assert any("c (failed) has no metrics" in note for note in found.notes)
    assert any("b ends at step 10 of 20" in note for note in found.notes)
    final = found.groups[0].finals["mazes", "solve_rate"]
    assert (final.runs, final.agents, final.seeds) == (2, 2, 2)


@pytest.mark.parametrize(("x", "points"), [("step", [0, 10, 20]), ("wall", [0, 20, 40]), ("env_steps", [0, 320, 640])])
def test_the_horizontal_axis(tmp_path, x, points):
    run = write_run(tmp_path / "run", {"lr": 1}, [0.5, 1.0])
    (group,) = report([run], x=x, reps=50).groups
    at, values = group.curve(("mazes", "solve_rate"), x)
    np.testing.assert_array_equal(at, points)
    np.testing.assert_allclose(values[:, 0], [[0, 0.25, 0.5], [0, 0.5, 1.0]])
    with pytest.raises(UserError, match=r"no counter 'frames' in .*run"):
        group.curve(("mazes", "solve_rate"), "frames")


def test_runs_without_a_common_step_are_not_drawn(tmp_path):
    for name, steps in (("a", (0, 1)), ("b", (5, 6))):
        lines(tmp_path / name, *(row(step, loss=float(step)) for step in steps))
        (tmp_path / name / "config.json").write_text('{"config": {"lr": 1}}')
    found = report([tmp_path], reps=50)
    assert found.groups[0].finals["train", "loss"].values.tolist() == [[1.0], [6.0]]
    assert any(note.startswith("Not drawn: The runs to pool have no point in common") for note in found.notes)
    assert found.figures == ()


def test_what_a_run_notes_of_itself_is_shown(tmp_path):
    for name, notes in (("a", ["No update was made."]), ("b", 3), ("c", [None])):
        write_run(tmp_path / name, {"lr": name}, 0.5, notes=notes)
    assert report([tmp_path], reps=50).notes == (f"{tmp_path / 'a'}: No update was made.",)


def diverging(folder, losses, **metrics):
    """A run with one row for each list of losses."""
    return lines(folder, *(row(step, loss=loss, **metrics) for step, loss in enumerate(losses)))


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("kept", [True, False])
def test_an_agent_that_diverges_is_not_reported_with_an_old_value(tmp_path, monkeypatch, size, kept):
    """Agent 1 from step 2 on, agent 2 at step 1 only; in parts of a few lines, and with all rows or the last only."""
    losses = [[0.1, 0.2, 0.3], [1.1, 1.2, None], [2.1, None, 2.3], [3.1, None, 3.3], [4.1, None, 4.3]]
    run = diverging(tmp_path / "run", losses)
    monkeypatch.setattr(metrics_file, "CHUNK", size)
    last = reading.read_run(run, lambda split, name: kept).last["train", "loss"]
    np.testing.assert_array_equal(last.values[:, 0], [4.1, np.nan, 4.3])
    assert (last.step, last.since.tolist()) == (4, [-1, 2, -1])


def test_a_statistic_over_an_agent_that_diverged_does_not_exist(tmp_path):
    run = diverging(tmp_path / "run", [[1.0, 2.0, 3.0], [1.0, None, 3.0], [1.0, None, 3.0]], reward=1.0)
    found = report([run], reps=50)
    final = found.groups[0].finals["train", "loss"]
    assert np.isnan(final.interval).all()
    assert (final.others.point, final.step, final.since.tolist()) == (2.0, 2, [-1, 1, -1])
    (note,) = found.notes
    assert "1 of 3 agents not finite since step 1 (train/loss)" in note
    text = (run / "plots" / "report.md").read_text()
    assert "NaN (1 of 3 agents not finite since step 1; the other 2: 2.00 [1.00, 3.00])" in text
    content = json.loads((run / "plots" / "report.json").read_text())["groups"][0]["final"]["train"]["loss"]
    assert (content["point"], content["values"]) == (None, [1.0, None, 3.0])
    assert content["nonfinite_since"] == [None, 1, None]
    assert content["finite_agents"]["point"] == 2.0


def test_a_run_of_which_nothing_is_finite_any_more_is_reported(tmp_path):
    run = diverging(tmp_path / "run", [0.5, None, None], reward=None)
    found = report([run], reps=50)
    finals = found.groups[0].finals
    assert [(final.nonfinite, final.others) for final in finals.values()] == [
        ("not finite since step 1", None), ("not finite since step 0", None)
    ]  # fmt: skip


def test_the_step_of_a_value_is_printed_where_the_run_has_later_rows(tmp_path):
    run = lines(tmp_path / "run", row(0, "eval", score=1.0), row(5, loss=0.25, gone=1.0), row(2000, loss=0.125))
    report([run], reps=50)
    text = (run / "plots" / "report.md").read_text()
    for cell in ("| score | 1.00 at step 0, n=1 |", "| gone | 1.00 at step 5, n=1 |", "| loss | 0.125, n=1 |"):
        assert cell in text


def test_a_run_counts_once_whatever_path_leads_to_it(tmp_path, monkeypatch):
    write_run(tmp_path / "runs" / "a", {"lr": 1}, 0.5)
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    found = reading.find_runs([tmp_path / "runs", "runs/a", "link/a", "runs/../runs/a"])
    assert found == [tmp_path / "runs" / "a"]


def test_copies_of_one_run_are_noted(tmp_path):
    started = {"start": "2026-01-01T00:00:00+00:00"}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_run(tmp_path / name, {"lr": 1}, 0.5, seed=seed, **started)
    (note,) = [note for note in report([tmp_path], reps=50).notes if "copies" in note]
    assert f"{tmp_path / 'a'}, {tmp_path / 'b'} are copies of one run (the same seed, start and conf" in note
    assert "counts 2 times" in note


def test_runs_of_different_code_in_one_group_are_noted(tmp_path):
    for seed, (commit, jax) in enumerate((("a" * 40, "0.9"), ("b" * 40, "0.10"), ("a" * 40, "0.9"))):
        git = {"commit": commit, "dirty": seed == 2}
        write_run(tmp_path / f"s{seed}", {"lr": 1}, 0.5, seed=seed, git=git, versions={"jax": jax, "numpy": "2"})
    write_run(tmp_path / "s3", {"lr": 1}, 0.5, seed=3, git=None)  # says nothing
    (note,) = report([tmp_path], reps=50).notes
    differing = "commit (aaaaaaa, bbbbbbb), uncommitted changes (no, yes), jax (0.9, 0.10)"
    assert note == f"PLR: runs of different code are pooled, which differ in {differing}."
    assert report([tmp_path / "s0", tmp_path / "s3"], reps=50).notes == ()


def test_a_setting_to_ignore_that_no_run_has_is_refused(tmp_path):
    write_run(tmp_path / "run", {"lr": 1, "data": {"path": "x"}}, 0.5)
    for name in ("data", "data.path"):
        report([tmp_path / "run"], ignore=[name], reps=50)
    with pytest.raises(UserError, match=r'No run has a setting "data.pth" to ignore; did you mean "data.path"'):
        report([tmp_path / "run"], ignore=["data.pth"])


def test_headlines_that_match_no_metric_are_said_and_the_first_shown(tmp_path):
    run = write_run(tmp_path / "run", {"lr": 1}, 0.5, headlines=["solved", "reward"])
    found = report([run], reps=50)
    assert found.headlines == (("mazes", "solve_rate"), ("mazes", "length"), ("train", "loss"))
    assert all(key in found.groups[0].runs[0].curves for key in found.headlines)  # so that they can be drawn
    (note,) = found.notes
    assert "headlines (solved, reward)" in note


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["text", "more"], "it is not a number"),
        (["text", 1.0], "it is not a number"),
        ([{"a": 1}, {"a": 2}], "it is not a number"),
        ([[1, "2"], [1, "2"]], "it is not a number"),
        ([[], []], "it is empty"),
        ([[1.0], [1.0, 2.0]], r"it changes its shape"),
        ([[[1], [1, 2]]] * 2, "lists of different lengths"),
        ([10**400, 10**400], "too large"),
    ],
)
def test_metrics_that_are_no_numbers_are_left_out_and_said(tmp_path, values, reason):
    run = lines(tmp_path, *(row(step, odd=value, loss=1.0) for step, value in enumerate(values)))
    for names in (None, ["loss"]):
        found = report([run], metrics=names, reps=50)
        assert list(found.groups[0].finals) == [("train", "loss")]
        (note,) = [note for note in found.notes if "metric 'odd' of train is left out" in note]
        assert reason in note
    with pytest.raises(UserError, match=f"No run has a metric 'odd'.*{reason}"):
        report([run], metrics=["odd"])


def test_numbers_beyond_an_integer_are_numbers(tmp_path):
    run = lines(tmp_path, row(0, big=2**70, none=None), row(1, big=2**70, none=None))
    found = report([run], reps=50)
    assert found.groups[0].finals["train", "big"].interval.point == float(2**70)
    assert found.groups[0].finals["train", "none"].nonfinite == "not finite since step 0"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"step": "1"}, "its step is not a whole number"),
        ({"step": 1.5}, "its step is not a whole number"),
        ({"step": True}, "its step is not a whole number"),
        ({"step": -1}, "its step is not a whole number"),
        ({"step": 2**70}, "its step is not a whole number"),
        ({"wall": None}, "its wall is not a number"),
        ({"split": ["train"]}, "its split is not a name"),
        ("[" * 10_000 + "]" * 10_000 + "\n", "it is not JSON"),
        ('{"step": 2, "wa\n', "it is not JSON"),
        (f"{GOOD.strip()},{GOOD}", "it is not JSON"),
        ("[]\n", "it is not an object with step"),
    ],
)
def test_rows_of_a_wrong_type_are_named(tmp_path, bad, reason):
    run = lines(tmp_path, GOOD, bad if isinstance(bad, str) else {**row(1, loss=1.0), **bad}, GOOD)
    with pytest.raises(UserError, match=rf"metrics\.jsonl, line 2 is not a row of metrics: {reason}"):
        report([run])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", '{"agents": 3}', '"agents" in .*run.json is not a list of names'),
        ("run.json", '{"headlines": [1]}', '"headlines" in .*run.json is not a list of names'),
        ("run.json", "[]", "run.json does not hold a JSON object"),
        ("config.json", '{"schema": 1, "config": 5}', '"config" in .*config.json is not a JSON object'),
        ("config.json", "{", "config.json"),
        ("config.json", '{"a":' * 10_000 + "1" + "}" * 10_000, "config.json.*nested"),
        ("config.json", '{"a":' * 500 + "1" + "}" * 500, "config.json .*nested more than 100 deep"),
        ("run.json", '{"git":' + "[" * 300 + "]" * 300 + "}", "run.json .*nested more than 100 deep"),
    ],
)
def test_records_of_a_wrong_type_are_named(tmp_path, file, content, message):
    run = write_run(tmp_path / "run", {"lr": 1}, 0.5)
    (run / file).write_text(content)
    with pytest.raises(UserError, match=message):
        report([run])


def test_the_parts_of_a_long_file_are_read_as_one(tmp_path, monkeypatch):
    """Parts of a few lines; rows out of order, a value that comes late, one that goes."""
    rows = [row(step, loss=float(step), **({"late": step} if step > 30 else {"early": step})) for step in range(60)]
    run = lines(tmp_path, *rows, row(10, loss=-1.0), '{"step": 99')
    whole = curve(run, "loss")
    for size in (1, 100, 1 << 20):
        monkeypatch.setattr(metrics_file, "CHUNK", size)
        read = reading.read_run(run, lambda split, name: name == "loss")
        for ours, theirs in zip(read.curves["train", "loss"], whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert {name: (float(one.values[0, 0]), one.step) for (_, name), one in read.last.items()} == {
            "loss": (-1.0, 10), "late": (59, 59), "early": (30, 30)
        }  # fmt: skip
        assert (read.steps, read.wall) == (59, 118.0)


def test_bad_input_is_one_clear_sentence(tmp_path):
    run = write_run(tmp_path / "run", {"lr": 1}, 0.5)
    empty = tmp_path / "empty"
    empty.mkdir()
    torn = write_run(tmp_path / "torn", {"lr": 1}, 0.5)
    (torn / "run.json").write_text('{"status": ')
    bare = lines(tmp_path / "bare", "")
    for runs, options, message in [
        ([], {}, "at least one run folder"),
        ([tmp_path / "absent"], {}, "absent is not a folder"),
        ([empty], {}, "empty is not a run folder"),
        ([torn], {}, r"torn.run\.json"),
        ([bare], {}, "No run among .*bare has a metric"),
        ([run], {"metrics": ["solved"]}, "No run has a metric 'solved' that can be shown; there is mazes/solve_rate"),
        ([run], {"statistic": "max"}, "iqm, mean or median"),
        ([run], {"group_by": "name"}, "config or run"),
    ]:
        with pytest.raises(UserError, match=message):
            report(runs, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        report([run], tmp_path / "file" / "out")


# one page


class _Page(HTMLParser):
    """What a page refers to, and the cells of its tables, row by row."""

    def __init__(self, text):
        super().__init__()
        self.links, self.rows, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1].append(data)


def test_one_page_holds_everything(tmp_path):
    run = write_run(tmp_path / "runs" / "a<b", {"lr": 1.0}, [0.25, 0.75])
    write_run(tmp_path / "runs" / "other", {"lr": 2.0}, 0.5)
    (run / "plots").mkdir()
    (run / "plots" / "levels.gif").write_bytes(b"GIF89a")
    report_command([tmp_path / "runs"], tmp_path / "out", html=True)
    text = (tmp_path / "out" / "report.html").read_text()
    found = _Page(text)
    assert len(found.links) == 2
    assert all(link.startswith("data:image/") for link in found.links)
    assert "http" not in text
    assert "a&lt;b" in text
    assert "a<b" not in text
    value = next(row for row in found.rows if row[0] == "solve_rate")
    assert value[1].startswith("0.500 [")
    assert value[2] == "0.500, n=1"
