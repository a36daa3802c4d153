"""Sweep files, and sweeps that are killed half-way and run again."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from paperloop.files import write_json
from paperloop.settings import config_document, replace_in
from paperloop_lab.cli import main
from paperloop_lab.sweep.engines import Job, LocalEngine, SubmittedJob
from paperloop_lab.sweep.loop import run_sweep
from paperloop_lab.sweep.plan import SweepRun, differences, read_sweep, run_status, write_sweep

# A method that counts to ten and writes run.json like the runner. `steps.log` has a row for each step done, so that
# the tests can see what was done twice.
METHOD = """
import argparse, json, os, signal, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("--config", "--out", "--resume", "--seed", "--flag", "--list"):
    parser.add_argument(name, nargs="*" if name == "--list" else None)
args = parser.parse_args()
config = json.loads(Path(args.config).read_text())["config"]
out = Path(args.out)

def status(value):
    (out / "run.json.tmp").write_text(json.dumps({"status": value, "seed": args.seed}))
    os.replace(out / "run.json.tmp", out / "run.json")

def stop(signum, frame):
    with (out / "signals.log").open("a") as file:
        file.write(f"{signum}\\n")
    time.sleep(config["save"])
    status("interrupted")
    sys.exit(128 + signum)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
status("running")
steps = out / "steps.log"
done = len(steps.read_text().splitlines()) if steps.exists() else 0
for step in range(done, 10):
    with steps.open("a") as file:
        file.write(f"{step} {os.getpid()}\\n")
    time.sleep(config["pause"])
    if config["fail"] and step == 3:
        print("about to fail")
        raise ValueError("the reason")
status("complete")
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    x: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    pause: float = 0.0
    save: float = 0.3
    fail: bool = False
    inner: Inner = Inner()


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "method.py"
    script.write_text(METHOD)
    return [sys.executable, str(script)]


def make_grid(command, base, axes, path=None, args={}):  # noqa: B006
    """Every combination of some settings, and of seeds, of a program that is not one of `paperloop.cli`."""
    runs = []
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        options = args | {"seed": point.pop("seed")} if "seed" in point else args
        runs.append(SweepRun(tuple(command), config_document(replace_in(base, point)), options))
    if path is not None:
        write_sweep(runs, path)
    return runs


def grid(command, path, pause=0.0, seeds=3, **changes):
    base = Config(pause=pause, **changes)
    return make_grid(command, base, {"inner.x": [0, 0.5], "seed": list(range(seeds))}, path)


def steps(folder: Path) -> list[int]:
    path = folder / "steps.log"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def sweep_process(arguments, **kwargs):
    """`paperloop sweep` as a process group of its own, with its output in a file."""
    code = "import sys; from paperloop_lab.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code, "sweep", *arguments], start_new_session=True, **kwargs)


def test_grid_and_file_round_trip(tmp_path, command):
    path = tmp_path / "sweep.jsonl"
    runs = grid(command, path)
    assert read_sweep(path) == runs
    assert len({run.id for run in runs}) == 6
    assert [run.args for run in runs[:3]] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert runs[3].config == config_document(Config(inner=Inner(x=0.5)))
    assert differences(runs)[:2] == ["inner.x=0.0 seed=0", "inner.x=0.0 seed=1"]
    write_sweep(runs[::-1], path)
    assert [run.id for run in read_sweep(path)] == [run.id for run in runs[::-1]], "ids do not depend on the order"


def test_options_on_the_command_line(tmp_path):
    (run,) = make_grid(
        ["a", "b"],
        Config(),
        {},
        args={"flag": True, "off_it": False, "s": [1, "x"], "n": None, "m": -1, "one": ["--odd"]},
    )
    assert run.argv(tmp_path)[2:] == [
        "--config",
        str(tmp_path / ".sweep_config.json"),
        "--out",
        str(tmp_path),
        "--resume",
        "auto",
        "--flag",
        "--no-off-it",
        "--s",
        "1",
        "x",
        "--n=None",
        "--m=-1",
        "--one=--odd",
    ]


GOOD = {"command": ["x"], "config": {"a": 1}}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        (json.dumps({**GOOD, "arg": {}}), 'did you mean "args"'),
        (json.dumps({"config": {}}), '"command" must be'),
        (json.dumps({**GOOD, "command": "x train"}), '"command" must be'),
        (json.dumps({**GOOD, "config": None}), '"config" must be'),
        (json.dumps({**GOOD, "args": []}), '"args" must be'),
        (json.dumps({**GOOD, "args": {"out": "x"}}), '"out"'),
        (
            json.dumps({**GOOD, "args": {"out=elsewhere": True}}),
            '"out=elsewhere" in "args" is not the name of an option',
        ),
        (json.dumps({**GOOD, "args": {"-o": "x"}}), '"-o" in "args" is not the name of an option'),
        (json.dumps({**GOOD, "command": ["x", "--out=elsewhere"]}), '"out"'),
        (
            json.dumps({"command": ["paperloop", "report"], "config": {}, "args": {"metric": 1}}),
            'did you mean "metrics"',
        ),
        (json.dumps({"command": ["paperloop", "reprot"], "config": {}}), 'no command "reprot"'),
        (json.dumps({**GOOD, "args": {"x": {}}}), '"x" must be'),
        ('{"command": ["x"], "config": {"a": NaN}}', "NaN"),
        (json.dumps(GOOD), "same run as line 1"),
        (json.dumps({"config": {"a": 1}, "args": {}, "command": ["x"]}), "same run as line 1"),
    ],
)
def test_bad_lines_are_named(tmp_path, capsys, line, word):
    path = tmp_path / "sweep.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + line + "\n")
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert "sweep.jsonl, line 3" in err
    assert word in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_other_mistakes(tmp_path, capsys, command):
    path = tmp_path / "sweep.jsonl"
    for arguments, word in [
        ([str(tmp_path / "absent")], "absent does not exist"),
        ([str(tmp_path)], "is a folder, and a file is expected"),
        ([str(path), "--jobs", "0"], "--jobs is 0"),
        ([str(path), "--no-wait"], "--no-wait needs"),
        ([str(path), "--slurm-extra", "x"], "name=value"),
        ([str(path), "--engine", "rya"], "rya"),
    ]:
        path.write_text("\n")
        assert main(["sweep", *arguments]) == 2
        assert word in capsys.readouterr().err
    assert main(["sweep", str(path)]) == 2
    assert "has no runs" in capsys.readouterr().err
    make_grid(["no-such-program", "train"], Config(), {}, path)
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    assert '"no-such-program" is not installed' in capsys.readouterr().err


@pytest.mark.parametrize(("engine", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_missing_engines_say_what_to_install(tmp_path, capsys, monkeypatch, command, engine, module):
    monkeypatch.setitem(sys.modules, module, None)
    grid(command, tmp_path / "sweep.jsonl")
    assert main(["sweep", str(tmp_path / "sweep.jsonl"), "--engine", engine, "--out", str(tmp_path / "out")]) == 2
    assert f"pip install 'paperloop-lab[{engine}]'" in capsys.readouterr().err


def test_only_what_is_left_is_run(tmp_path, capsys, command):
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    runs = grid(command, path, seeds=1)
    assert main(["sweep", str(path), "--out", str(out), "--dry-run"]) == 0
    assert capsys.readouterr().out.count("missing") == 2
    assert not out.exists()
    assert main(["sweep", str(path), "--out", str(out), "--jobs", "2"]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 runs complete (0 before, 2 now)" in text
    assert text.count(" start ") == 2
    more = grid(command, path, seeds=2)
    assert {run.id for run in runs} < {run.id for run in more}
    assert main(["sweep", str(path), "--out", str(out)]) == 0
    assert "4 of 4 runs complete (2 before, 2 now)" in capsys.readouterr().out
    for run in more:
        assert steps(out / run.id) == list(range(10))
        assert json.loads((out / run.id / "run.json").read_text())["seed"] == str(run.args["seed"])
        assert json.loads((out / run.id / ".sweep_config.json").read_text()) == run.config
    assert main(["sweep", str(path), "--out", str(out)]) == 0
    assert " start " not in capsys.readouterr().out


def test_failures_are_listed_with_the_end_of_their_log(tmp_path, capsys, command):
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    (bad,) = make_grid(command, Config(fail=True), {"seed": [0]})
    (good,) = make_grid(command, Config(), {"seed": [1]})
    write_sweep([bad, good], path)
    assert main(["sweep", str(path), "--out", str(out)]) == 1
    text = capsys.readouterr().out
    assert f"failed: {bad.id}" in text
    assert "exit code 1, run.json: running" in text
    assert str(out / bad.id / ".sweep.log") in text
    assert "ValueError: the reason" in text
    assert run_status(out / good.id) == "complete", "a failure does not stop the others"
    assert main(["sweep", str(path), "--out", str(out)]) == 0, "it is tried again, and resumes behind the fault"
    log = (out / bad.id / ".sweep.log").read_text()
    assert log.count("# 20") == 2, "one header per attempt"


def test_exit_code_zero_without_a_complete_run_is_a_failure(tmp_path, capsys):
    path = tmp_path / "sweep.jsonl"
    make_grid([sys.executable, "-c", "pass"], Config(), {}, path)
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "exit code 0, run.json: missing" in capsys.readouterr().out


LOCAL, SUBMITIT, RAY = ["--engine", "local"], ["--engine", "slurm", "--slurm-cluster", "local"], ["--engine", "ray"]


def need(engine):
    for name, module in (("slurm", "submitit"), ("ray", "ray")):
        if name in engine:
            pytest.importorskip(module)


@pytest.mark.parametrize(
    "engine",
    [LOCAL, *(pytest.param(e, marks=pytest.mark.slow) for e in (SUBMITIT, RAY))],
    ids=["local", "submitit", "ray"],
)
def test_killed_half_way_and_run_again(tmp_path, command, engine):
    """Six runs, two workers; the sweep's whole process group is killed when two are done; then again, to the end."""
    need(engine)
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    runs = grid(command, path, pause=0.05)
    arguments = [str(path), "--out", str(out), "--jobs", "2", *engine]

    def complete():
        return [run.id for run in runs if run_status(out / run.id) == "complete"]

    first = sweep_process(arguments, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(complete()) >= 2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = complete()
    assert 2 <= len(before) < 6
    stamps = {key: (out / key / ".sweep.log").stat().st_mtime_ns for key in before}

    second = sweep_process(arguments, stdout=subprocess.PIPE, text=True)
    text, _ = second.communicate(timeout=180)
    assert second.returncode == 0, text
    assert sorted(complete()) == sorted(run.id for run in runs)
    for run in runs:
        assert steps(out / run.id) == list(range(10)), "no step twice, none missing"
    assert {key: (out / key / ".sweep.log").stat().st_mtime_ns for key in before} == stamps, "the done are left alone"
    assert "6 of 6 runs complete" in text


@pytest.mark.parametrize(
    ("engine", "signum"),
    [
        (LOCAL, signal.SIGINT),
        pytest.param(LOCAL, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(SUBMITIT, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(RAY, signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["local-int", "local-term", "submitit-term", "ray-term"],
)
def test_signals_reach_the_runs_once_and_are_waited_for(tmp_path, command, engine, signum):
    need(engine)
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    runs = grid(command, path, pause=0.5)
    sweep = sweep_process([str(path), "--out", str(out), "--jobs", "2", *engine], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: sum(len(steps(out / run.id)) > 0 for run in runs) == 2)
    if engine == LOCAL:
        os.killpg(sweep.pid, signum)  # as a terminal does: to all that are in the group
    else:
        sweep.send_signal(signum)
    text, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 128 + signum, text
    states = [run_status(out / run.id) for run in runs]
    assert states.count("interrupted") == 2
    assert set(states) == {"interrupted", "missing"}
    signals = [path.read_text().split() for path in out.glob("*/signals.log")]
    assert [len(each) for each in signals] == [1, 1], "a second one would end a run unsaved"
    assert "stopping 2 runs" in text
    assert "6 left" in text
    assert "failed" not in text


def test_a_second_signal_kills(tmp_path):
    script = tmp_path / "deaf.py"
    script.write_text(
        textwrap.dedent("""
        import signal, sys, time
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        Path(sys.argv[sys.argv.index("--out") + 1], "started").touch()
        time.sleep(600)
        """)
    )
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    (run,) = make_grid([sys.executable, str(script)], Config(), {}, path)
    sweep = sweep_process([str(path), "--out", str(out)], stdout=subprocess.PIPE, text=True)
    wait_for((out / run.id / "started").exists)
    sweep.send_signal(signal.SIGINT)
    assert sweep.stdout is not None
    while "stopping" not in sweep.stdout.readline():
        pass
    assert sweep.poll() is None
    sweep.send_signal(signal.SIGINT)
    text, _ = sweep.communicate(timeout=60)
    assert "killing 1 run" in text
    assert sweep.returncode == 130


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death is told by Linux only")
def test_no_run_outlives_a_killed_sweep_and_its_lock_holds_until_it_has_saved(tmp_path, command):
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    (run,) = make_grid(command, Config(pause=30.0, save=2.0), {}, path)
    job = Job(run.id, ("true",), str(out / run.id), str(tmp_path))
    sweep = sweep_process([str(path), "--out", str(out)], stdout=subprocess.DEVNULL)
    wait_for(lambda: steps(out / run.id) != [])
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    engine = LocalEngine(1)
    assert engine.start([job]) == [None], "refused: the run is still saving"
    wait_for(lambda: run_status(out / run.id) == "interrupted")
    running = []
    wait_for(lambda: running.append(engine.start([job])[0]) or running[-1] is not None)
    wait_for(lambda: running[-1].poll() == "exit code 0")


def test_an_interrupt_reaches_a_run_also_where_the_sweep_was_started_in_the_background(tmp_path, command):
    """Ray cancels a task by a KeyboardInterrupt; a shell starts `paperloop sweep ... &` with SIGINT ignored."""
    (run,) = make_grid(command, Config(pause=30.0), {})
    write_json(tmp_path / ".sweep_config.json", run.config)
    job = Job(run.id, tuple(run.argv(tmp_path)), str(tmp_path), str(tmp_path))
    code = f"from paperloop_lab.sweep.engines import Job, execute; print(execute({job!r}))"
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {code}"
    process = subprocess.Popen([sys.executable, "-c", ignoring], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: steps(tmp_path) != [])
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "exit code 143\n"
    assert run_status(tmp_path) == "interrupted"


@pytest.mark.slow
def test_two_sweeps_share_the_work(tmp_path, command, capsys):
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    runs = grid(command, path, pause=0.05)
    other = sweep_process([str(path), "--out", str(out)], stdout=subprocess.DEVNULL)
    wait_for(lambda: steps(out / runs[0].id) != [])
    result = run_sweep(read_sweep(path), out, LocalEngine(2))
    assert other.wait(timeout=120) == 0
    assert result.exit_code == 0
    assert len(result.before) + len(result.completed) == 6
    for run in runs:
        assert steps(out / run.id) == list(range(10))
    assert "another process works on it" in capsys.readouterr().out


def test_a_live_table_on_a_terminal(tmp_path, command):
    pty = pytest.importorskip("pty")
    path, out = tmp_path / "sweep.jsonl", tmp_path / "out"
    grid(command, path, seeds=1, pause=0.2)
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    sweep = sweep_process([str(path), "--out", str(out)], stdout=child, stderr=child, env=environment)
    os.close(child)
    text = b""
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not data:
            break
        text += data
    os.close(parent)
    assert sweep.wait(timeout=60) == 0
    assert b"last line of its log" in text
    assert b"inner.x=0.5" in text
    assert b"2 of 2 runs complete" in text


@pytest.mark.slow
def test_preempted_submitit_jobs_save_and_resume(tmp_path, command):
    """The warning that SLURM sends before the time limit: the run saves and stops, and the job is queued again."""
    submitit = pytest.importorskip("submitit")
    (run,) = make_grid(command, Config(pause=0.2), {})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".sweep_config.json").write_text(json.dumps(run.config))
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster="local")
    executor.update_parameters(timeout_min=5)
    submitted = executor.submit(SubmittedJob(), Job(run.id, tuple(run.argv(folder)), str(folder), str(tmp_path)))
    wait_for(lambda: len(steps(folder)) >= 2)
    method = (folder / "steps.log").read_text().split()[1]
    job = int(subprocess.run(["ps", "-o", "ppid=", "-p", method], capture_output=True, text=True, check=True).stdout)
    os.kill(job, signal.SIGUSR2)
    assert submitted.result() == "exit code 0"
    assert run_status(folder) == "complete"
    assert steps(folder) == list(range(10)), "no step twice, none missing"
    pids = {line.split()[1] for line in (folder / "steps.log").read_text().splitlines()}
    assert len(pids) == 2


def test_a_label_stays_short_where_a_value_is_long():
    agents = [{"label": f"arm {i}", "learner": {"lr": 1e-3}} for i in range(50)]
    runs = [SweepRun(("x", "train"), {"agents": agents[:n], "note": "z" * n}) for n in (40, 50)]
    assert differences(runs) == [f"agents=[{n} items] note={'z' * 37 + '...' if n > 40 else 'z' * n}" for n in (40, 50)]
