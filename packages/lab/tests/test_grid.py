"""`paperloop grid`: sweep files of a command's own settings, and of one's own script."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from paperloop.errors import UserError
from paperloop_lab.cli import main
from paperloop_lab.report import report
from paperloop_lab.sweep.commands import app_command
from paperloop_lab.sweep.plan import SweepRun, differences, read_sweep, run_status, write_sweep

# The settings live in `__main__` when the script runs, and the run needs no back end.
SCRIPT = """
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

import paperloop
from paperloop.cli import App, Positional, RunOptions
from paperloop.settings import Count, Positive, settings


@settings
class Options(RunOptions):
    '''Options.

    Attributes:
        target: where to go
    '''

    target: Positional[float]


@settings
class Slow:
    '''Small steps.

    Attributes:
        rate: the share of the distance
    '''

    type: Literal["slow"] = "slow"
    rate: Positive = 0.1


@settings
class Fast:
    '''Large steps.

    Attributes:
        scale: how many times the distance
    '''

    type: Literal["fast"] = "fast"
    scale: Positive = 0.9


@settings
class Walk:
    '''A walk.

    Attributes:
        steps: how many
        learner: how to step
        widths: not used
    '''

    steps: Count = 3
    learner: Annotated[Slow | Fast, Field(discriminator="type")] = Slow()
    widths: tuple[int, ...] = (1,)


class Walker:
    headlines = ("distance",)

    def __init__(self, config, target):
        self.config, self.target = config, target

    def init(self, seed):
        return {"place": float(seed), "step": 0}

    def step(self, state):
        learner = self.config.learner
        share = learner.rate if learner.type == "slow" else learner.scale
        place = state["place"] + share * (self.target - state["place"])
        return {"place": place, "step": state["step"] + 1}, {"distance": abs(self.target - place)}

    def progress(self, state):
        return {"steps": state["step"]}

    def save(self, state, folder):
        (folder / "state.txt").write_text(f"{state['place']!r} {state['step']}")

    def restore(self, folder, like):
        place, step = (folder / "state.txt").read_text().split()
        return {"place": float(place), "step": int(step)}


app = App("walk", "Walks.")


@app.command(options=Options, config=Walk, presets={"long": Walk(steps=5)})
def train(options: Options, config: Walk) -> None:
    '''Walk to the target.'''
    paperloop.run(Walker(config, options.target), options.out, steps=config.steps, **options.run_arguments())


if __name__ == "__main__":
    sys.exit(app.main())
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    (tmp_path / "walk.py").write_text(textwrap.dedent(SCRIPT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return ["python", "walk.py", "train", "10"]


def test_grid_sweep_and_report_of_a_script_with_its_settings_in_main(script, capsys):
    vary = ["learner.rate=0.1,0.5", "--seeds", "2"]
    assert main(["grid", "--vary", *vary, "--", *script, "--preset", "long", "--log-every", "1"]) == 0
    out, err = capsys.readouterr()
    assert "4 runs: 2 of learner.rate x 2 of seed" in err
    Path("sweep.jsonl").write_text(out)
    runs = read_sweep("sweep.jsonl")
    assert [(run.config["config"]["learner"]["rate"], run.args.get("seed", 0)) for run in runs] == [
        (0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1)
    ]  # fmt: skip
    assert runs[0].command == tuple(script)
    assert runs[0].config["type"] == "walk.Walk"
    assert runs[0].config["config"]["steps"] == 5
    assert [run.args for run in runs] == [{"seed": seed, "log_every": 1} for seed in (0, 1, 0, 1)]
    labels = [f"learner.rate={rate} seed={seed}" for rate in (0.1, 0.5) for seed in (0, 1)]
    assert differences(runs) == labels  # a label for every run
    assert main(["sweep", "sweep.jsonl", "--dry-run"]) == 0
    assert "missing" in (told := capsys.readouterr().out)
    assert "python walk.py train 10 --config runs/sweep/" in told
    assert "--log-every=1" in told
    assert main(["sweep", "sweep.jsonl", "--jobs", "2"]) == 0, capsys.readouterr().out
    assert all(run_status(Path("runs/sweep") / run.id) == "complete" for run in runs)
    groups = report([Path("runs/sweep")]).groups
    assert {(group.label, group.agents, group.seeds) for group in groups} == {
        ("Walk (rate=0.1)", 2, 2), ("Walk (rate=0.5)", 2, 2)
    }  # fmt: skip
    slow = next(group for group in groups if "0.1" in group.label).finals["train", "distance"]
    assert sorted(slow.values[:, 0]) == pytest.approx([9 * 0.9**5, 10 * 0.9**5])


def test_a_run_of_the_script_itself_reproduces_a_run_of_the_sweep(script):
    """What `__main__` saves is what the grid wrote, under one name."""
    assert main(["grid", "--out", "sweep.jsonl", "--", *script]) == 0
    (run,) = read_sweep("sweep.jsonl")
    subprocess.run([sys.executable, *script[1:], "--out", "runs/a"], check=True)
    assert json.loads(Path("runs/a/config.json").read_text()) == run.config


def test_members_of_unions_and_several_values_are_varied_as_they_are_typed(script):
    vary = ["learner.type=slow,fast", "widths=1,2 3"]
    assert main(["grid", "--vary", *vary, "--out", "sweep.jsonl", "--", *script]) == 0
    configs = [run.config["config"] for run in read_sweep("sweep.jsonl")]
    assert [(c["learner"]["type"], c["widths"]) for c in configs] == [
        ("slow", [1]), ("slow", [2, 3]), ("fast", [1]), ("fast", [2, 3])
    ]  # fmt: skip
    assert configs[2]["learner"] == {"type": "fast", "scale": 0.9}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "learner.rate=1,-1", "--", "SCRIPT"], "--learner.rate is -1; it must be above 0"),
        (["--vary", "learner.rat=1", "--", "SCRIPT"], "did you mean --learner.rate"),
        (["--vary", "learner.scale=1", "--", "SCRIPT"], "--learner.scale belongs to --learner.type fast"),
        (["--vary", "learner.rate", "--", "SCRIPT"], "option=value,value"),
        (["--vary", "out=a,b", "--", "SCRIPT"], "--out is what the sweep itself gives"),
        (["--", "SCRIPT", "--out=x"], "--out is what the sweep itself gives"),
        (["--seeds", "2", "--", "SCRIPT", "--seed", "3"], "--seed is given twice"),
        (["--seeds", "0", "--", "SCRIPT"], "--seeds is 0"),
        (["--vary", "log-every=1", "log_every=2", "--", "SCRIPT"], "log-every is there twice"),
        (["--vary", "seed=5,6", "--seeds", "2", "--", "SCRIPT"], "--seeds 2 and the seed in --vary exclude each other"),
        (
            ["--vary", "learner.rate=1e-3,0.5,0.001", "--", "SCRIPT"],
            "learner.rate=1e-3 and learner.rate=0.001 are the same run",
        ),
        (["--vary", "learner.rate=0.5,0.5", "seed=3", "--", "SCRIPT"], "learner.rate=0.5, seed=3 is given twice"),
        (["--", "python", "walk.py", "trian"], 'has no command "trian": it has train'),
        (["--", "python", "absent.py", "train"], "absent.py cannot be loaded"),
        (["--", "ls", "-l"], "is not a command of paperloop.cli"),
        (["--"], "COMMAND is required"),
    ],
)
def test_mistakes_are_the_commands_own_and_write_nothing(script, capsys, arguments, message):
    words = [word for argument in arguments for word in (script if argument == "SCRIPT" else [argument])]
    assert main(["grid", "--out", "sweep.jsonl", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("sweep.jsonl").exists()


def test_a_sweep_file_with_an_option_that_the_script_has_not(script, capsys):
    assert main(["grid", "--out", "sweep.jsonl", "--", *script]) == 0
    data = json.loads(Path("sweep.jsonl").read_text())
    Path("sweep.jsonl").write_text(json.dumps({**data, "args": {"log-evry": 3}}))
    assert main(["sweep", "sweep.jsonl"]) == 2
    assert (
        'sweep.jsonl, line 1: walk train has no option "log-evry"; did you mean "log_every"' in capsys.readouterr().err
    )
    assert not Path("runs").exists()


def test_a_script_that_would_start_is_not_loaded(tmp_path):
    (tmp_path / "bare.py").write_text("from paperloop.cli import App\nApp('x', 'y')\nraise SystemExit('started')\n")
    assert app_command(["python", str(tmp_path / "bare.py"), "train"]) is None
    (tmp_path / "faulty.py").write_text("App(\nif __name__ == '__main__': pass\n")
    with pytest.raises(UserError, match=r"faulty\.py cannot be loaded"):
        app_command(["python", str(tmp_path / "faulty.py"), "train"])


def test_what_is_varied_is_written_also_where_it_is_the_default(script, capsys):
    assert main(["grid", "--vary", "log-every=None,2", "--out", "sweep.jsonl", "--", *script]) == 0
    assert "2 runs: 2 of log-every" in capsys.readouterr().err
    runs = read_sweep("sweep.jsonl")
    assert [run.args for run in runs] == [{"seed": 0, "log_every": None}, {"seed": 0, "log_every": 2}]
    assert differences(runs) == ["log_every=None", "log_every=2"]
    assert "--log-every=None" in runs[0].argv(Path("out"))
    assert main(["grid", "--out", "sweep.jsonl", "--", *script]) == 0
    assert capsys.readouterr().err == "1 run\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"args": {"seed": 1.5}}, "--seed is 1.5; it must be"),
        ({"args": {"quiet": "yes"}}, "--quiet is yes; it must be"),
        ({"args": {"steps": 0}}, "--steps is 0; it must be"),
        ({"args": {"learner.type": "slwo"}}, 'has no choice "slwo"'),
        ({"args": {"widths": [1, "--seed"]}}, '"--seed" in the list "widths" would be read as another option'),
        ({"args": {"widths": ["--seed"]}}, "--widths is --seed; it must be"),
        ({"config": {}}, 'its config has no "schema"'),
        ({"config": {"schema": 1, "type": "walk.Walk", "config": {"steps": 3}}}, '"config" does not say learner.type'),
        ({"config": {"schema": 1, "type": "walk.Walk", "config": {"steps": "x"}}}, "its config"),
        ({"config": {"schema": 1, "type": "other.Walk", "config": {}}}, "its config is a configuration of type other"),
    ],
)
def test_every_line_is_read_as_the_command_reads_it(script, capsys, change, message):
    assert main(["grid", "--out", "sweep.jsonl", "--", *script]) == 0
    good = Path("sweep.jsonl").read_text()
    Path("sweep.jsonl").write_text(good + json.dumps({**json.loads(good), **change}) + "\n")
    capsys.readouterr()
    assert main(["sweep", "sweep.jsonl"]) == 2
    err = capsys.readouterr().err
    assert "sweep.jsonl, line 2: " in err
    assert message in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_lines_with_other_members_lists_and_flags_are_read(script):
    assert main(["grid", "--out", "sweep.jsonl", "--", *script]) == 0
    (run,) = read_sweep("sweep.jsonl")
    kinds = [{"learner.type": "fast"}, {"widths": [4]}, {"widths": [4, 5]}, {"widths": []}, {"quiet": True}]
    runs = [SweepRun(run.command, run.config, {"seed": 0, **args}) for args in kinds]
    write_sweep(runs, "sweep.jsonl")
    assert read_sweep("sweep.jsonl") == runs
