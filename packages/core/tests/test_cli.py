"""Command lines: layers, values, members of unions, help, errors in the words typed, exit codes, devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

import paperloop.cli.devices
from paperloop.cli import App, Device, Positional, RunOptions, select_device
from paperloop.cli.testing import check_command_errors
from paperloop.errors import CheckpointError, UserError, setting
from paperloop.settings import Count, Positive, Share, fault, save_config, settings


@settings
class S5:
    """State-space layers.

    Attributes:
        state: state size of a layer.
        blocks: blocks of the initialisation;
            divides `state` into even parts.
    """

    state: Count = 4
    blocks: Count = 2

    def __post_init__(self) -> None:
        if self.state % (2 * self.blocks):
            raise fault(self, "state", f"a multiple of 2 x {{blocks}} = {2 * self.blocks}")


@settings
class PPO:
    """Proximal policy optimisation.

    Attributes:
        lr: Adam's step size.
        clip: the ratio's epsilon (None: off).
    """

    type: Literal["ppo"] = "ppo"
    lr: Positive = 1e-4
    clip: Positive | None = 0.2
    s5: S5 = S5()


@settings
class ES:
    """Evolution strategies."""

    type: Literal["es"] = "es"
    sigma: Positive = 0.1


@settings
class SAC:
    """Soft actor-critic.

    Attributes:
        alpha: the temperature.
        inner: a learner inside.
    """

    type: Literal["sac"] = "sac"
    alpha: Positive = 1.0
    gamma: Share = 0.99
    inner: Annotated[PPO | ES, Field(discriminator="type")] | None = None


@settings
class Train:
    """A configuration.

    Attributes:
        learner: who learns.
        student: the student's layers.
        teacher: the teacher's layers.
        n_envs: environments.
        sizes: widths.
    """

    learner: Annotated[PPO | SAC, Field(discriminator="type")] = PPO()
    student: S5 = S5()
    teacher: S5 = S5(state=8)
    probe: S5 | None = None
    n_envs: int = 32
    sizes: tuple[Count, ...] = (64, 64)
    pair: tuple[float, str] = (0.5, "x")
    layers: tuple[S5, ...] = ()
    rate: float | None = None
    note: str | None = None
    data: Path = Path("data")
    anneal: bool = True
    maybe: bool | None = None
    drop_nonfinite: bool = False
    levels_ahead: int = 8


@settings
class EvaluateOptions:
    """What evaluate takes.

    Attributes:
        runs: run folders.
        episodes: for each agent.
    """

    runs: Positional[tuple[Path, ...]]
    episodes: Count = 100
    device: Device = "cpu"


@settings
class DiagnoseOptions:
    data: Positional[Path]
    run: Positional[Path | None] = None
    episodes: Count = 20


PRESETS = {
    "small": Train(n_envs=8, anneal=False),
    "sac": Train(learner=SAC(alpha=7.0), n_envs=9),
    "s5_paired": Train(student=S5(state=16)),
}


@pytest.fixture
def app():
    app = App("method", "Does it.", distribution="paperloop")
    app.seen = []  # ty: ignore[unresolved-attribute]

    @app.command(
        options=RunOptions, config=Train, presets=PRESETS, preset_help={"small": "A small one"},
        essentials=("n_envs", "learner.lr"),
    )  # fmt: skip
    def train(options, config):
        """Train a policy.

        At length.

        Args:
            options: for readers of the code.
        """
        app.seen.append((options, config))

    @app.command(options=EvaluateOptions)
    def evaluate(options):
        """Evaluate."""
        app.seen.append(options)

    @app.command(options=DiagnoseOptions)
    def diagnose(options):
        """Diagnose."""
        app.seen.append(options)

    @app.command("fail")
    def fail_with():
        """Fail."""
        raise app.error

    @app.command()
    def code():
        """Return a code."""
        return 7

    return app


@pytest.fixture
def parse(app, capsys):
    def run(*argv, command="train"):
        app.seen.clear()
        code = app.main([command, *(["--out", "runs/x"] if command == "train" else []), *argv])
        assert code == 0, capsys.readouterr().err
        return app.seen[0][1] if command == "train" else app.seen[0]

    return run


@pytest.fixture
def refuse(app, capsys):
    def run(*argv, command="train"):
        app.seen.clear()
        code = app.main([command, *(["--out", "runs/x"] if command == "train" else []), *argv])
        out, err = capsys.readouterr()
        assert (code, out, app.seen) == (2, "", [])
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err.removeprefix("error: ").rstrip("\n")

    return run


def test_layers_override_one_another(parse, tmp_path):
    assert parse() == Train()
    assert parse("--preset", "small") == PRESETS["small"]
    (tmp_path / "part.json").write_text('{"learner": {"lr": 0.5}, "anneal": true}')
    file = f"--config={tmp_path / 'part.json'}"
    assert parse("--preset", "small", file) == Train(n_envs=8, anneal=True, learner=PPO(lr=0.5))
    config = parse(file, "--learner.lr", "0.25", "--preset=small", "--sizes", "1", "2")
    assert config == Train(n_envs=8, learner=PPO(lr=0.25), sizes=(1, 2))
    save_config(Train(n_envs=3), tmp_path / "config.json")
    assert parse("--preset", "small", "--config", str(tmp_path), "--no-anneal") == Train(n_envs=3, anneal=False)


@pytest.mark.parametrize("words", [("--config", ""), ("--config=",), ("--preset", ""), ("--learner.type=",)])
def test_an_empty_word_is_not_taken_for_nothing(refuse, words):
    assert refuse(*words) == f"{words[0].rstrip('=')} needs a value."


def test_a_file_and_a_preset_of_different_members(parse, refuse, tmp_path):
    (tmp_path / "ppo.json").write_text('{"learner": {"type": "ppo", "clip": null}}')
    (tmp_path / "bare.json").write_text('{"learner": {"clip": null}}')
    assert parse("--preset", "sac", "--config", str(tmp_path / "ppo.json")) == Train(n_envs=9, learner=PPO(clip=None))
    assert refuse("--preset", "sac", "--config", str(tmp_path / "bare.json")) == (
        f'{tmp_path / "bare.json"}: unknown key "learner.clip"; it belongs to learner.type ppo, and sac is chosen.'
    )
    assert parse("--preset", "sac", "--config", str(tmp_path / "ppo.json"), "--learner.type", "sac") == Train(
        n_envs=9, learner=SAC()
    )


def test_values(parse):
    config = parse(
        "--n_envs", "6e3", "--student.blocks=1_0", "--student.state", "20", "--note", "hi", "--rate", "-1e-4"
    )
    assert (config.n_envs, config.student, config.note, config.rate) == (6000, S5(state=20, blocks=10), "hi", -1e-4)
    assert type(config.n_envs) is int
    assert parse("--n-envs", "-3").n_envs == -3
    assert parse("--pair", "1", "y").pair == (1.0, "y")
    assert parse("--learner.clip", "None", "--rate", "None").learner.clip is None
    assert parse("--sizes").sizes == ()
    assert parse("--note=--x", "--data", "a b").note == "--x"
    assert parse("--anneal", "False").anneal is False
    assert parse("--no-anneal", "--maybe").maybe is True
    assert parse("--no-maybe").maybe is False
    assert parse("--maybe", "None", "--drop_nonfinite").drop_nonfinite is True
    assert parse("--probe").probe == S5()
    assert parse("--probe.blocks", "1").probe == S5(blocks=1)
    assert parse("--no-probe").probe is None


def test_what_contradicts_one_another_is_refused(refuse):
    for off in (["--no-probe"], ["--probe", "False"], ["--probe=none"]):
        said = "--no-probe and --probe.blocks contradict: leave one of them out."
        assert refuse(*off, "--probe.blocks", "1") == said
        assert refuse("--probe.blocks", "1", *off) == said


def test_a_member_is_chosen_before_its_options_are_looked_at(parse, refuse):
    assert parse("--learner.alpha", "2", "--learner.type", "sac").learner == SAC(alpha=2.0)
    assert parse("--preset", "sac", "--learner.gamma", "0.5").learner == SAC(alpha=7.0, gamma=0.5)
    assert parse("--preset", "sac", "--learner.type=sac").learner == SAC(alpha=7.0)
    inner = parse("--learner.type=sac", "--learner.inner.type=es", "--learner.inner.sigma=3").learner.inner
    assert inner == ES(sigma=3.0)
    assert parse("--learner.type=sac", "--learner.inner.type", "none").learner == SAC()
    assert refuse("--learner.alpha", "2") == (
        "--learner.alpha belongs to --learner.type sac, and ppo is chosen: leave it out, or choose sac."
    )
    assert refuse("--learner.type", "sac", "--learner.type", "sac") == "--learner.type is given twice."
    assert refuse("--learner.type", "sax") == '--learner.type has no choice "sax"; did you mean "sac"?'
    assert refuse("--learner.type") == "--learner.type needs a value."


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--learner.lr", "-1"], "--learner.lr is -1; it must be above 0."),
        (["--learner.lr=nan"], "--learner.lr is nan; it must be a number above 0."),
        (["--learner.lr", "None"], "--learner.lr is None; it must be a number above 0."),
        (["--learner.clip", "0"], "--learner.clip is 0; it must be above 0, or None."),
        (["--n-envs", "1.5"], "--n-envs is 1.5; it must be an integer."),
        (["--n_envs=many"], "--n-envs is many; it must be an integer."),
        (["--anneal=maybe"], "--anneal is maybe; it must be True or False."),
        (["--sizes", "64", "0"], "--sizes is 64 0; it must be a list of integers of at least 1."),
        (["--pair", "1"], "--pair is 1; it must be a list of 2: a finite number; text."),
        (["--student.state", "7"], "--student.state is 7; it must be a multiple of 2 x --student.blocks = 4."),
        (["--teacher.blocks", "3"], "--teacher.state is 8; it must be a multiple of 2 x --teacher.blocks = 6."),
        (["--seed", "-1"], "--seed is -1; it must be from 0 to 9223372036854775807."),
        (["--log-every", "0"], "--log-every is 0; it must be at least 1, or None."),
        (["--device", "gpus"], "--device is gpus; it must be one of 'auto', 'cpu', 'gpu'."),
        (
            ["--sinks", "tensorboards"],
            "--sinks is tensorboards; it must be a list of one of 'tensorboard', 'wandb'.",
        ),
        (["--n-envs", "1.5", "--learner.lr", "0"],
         "--learner.lr is 0; it must be above 0. --n-envs is 1.5; it must be an integer."),
        (["--n-env=3"], 'unknown option "--n-env"; did you mean --n-envs? `method train --help-all` lists all.'),
        (["--lr", "3"], 'unknown option "--lr"; did you mean --learner.lr? `method train --help-all` lists all.'),
        (["--levels", "3"], 'unknown option "--levels"; `method train --help-all` lists all.'),
        (["--no-aneal"], 'unknown option "--no-aneal"; did you mean --no-anneal? `method train --help-all` lists all.'),
        (["--no-note"], 'unknown option "--no-note"'),
        (
            ["--preset", "small", "--anneall"],
            'unknown option "--anneall"; did you mean --anneal? `method train --preset small --help-all` lists all.',
        ),
        (["--layers", "3"], 'unknown option "--layers"'),
        (["--data", ""], "--data is ''; it must be a path."),
        (["--data", "a\udcff"], "--data is 'a\\udcff'; it must be text in UTF-8."),
        (["--note", "a\udcff"], "--note is 'a\\udcff'; it must be text in UTF-8."),
        (["--preset", "smal"], 'there is no preset "smal"; did you mean "small"?'),
        (["--preset", "paired"], 'there is no preset "paired"; did you mean "s5_paired"?'),
        (["--preset", "zzz"], 'there is no preset "zzz"; known are small, sac, s5_paired.'),
        (["--preset"], "--preset needs a value."),
        (["--preset", "sac", "--preset", "small"], "--preset is given twice."),
        (["--n-envs", "3", "--n_envs=4"], "--n-envs is given twice."),
        (["--n-envs"], "--n-envs needs a value."),
        (["--no-anneal=3"], "--anneal is switched off by its name: leave out =3."),
        (["--config", "absent.json"], "absent.json does not exist."),
        (["stray"], 'unexpected argument "stray": options begin with "--", and `method train --help-all` lists all.'),
        (["--", "--n-envs"], 'unexpected argument "--n-envs"'),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_in_the_words_typed(refuse, argv, message):
    assert refuse(*argv).startswith(message)


def test_mistakes_in_a_file_name_the_file(refuse, tmp_path):
    path = tmp_path / "c.json"
    for text, argv, message in [
        ('{"learner": {"lr": -1}}', [], f"{path}: learner.lr is -1; it must be above 0."),
        ('{"learner": {"lr": -1}}', ["--learner.lr=-2"], "--learner.lr is -2; it must be above 0."),
        ('{"lerner": 3}', [], f'{path}: unknown key "lerner"; did you mean "learner"?'),
        ('{"learner": {"type": ["ppo"]}}', [], f'{path}: learner.type is ["ppo"]; it must be one of'),
        ('{"learner": [{"type": "ppo"}]}', ["--learner.lr=3"], f"{path}: learner.type is "),
        ('{"learner": {"type": "pp"}}', ["--learner.lr=3"], f'{path}: learner.type is "pp"; it must be one of'),
        ('{"learner": {"type": ["ppo"]}}', ["--learner.lr=3"], f'{path}: learner.type is ["ppo"]; it must be one of'),
        ('{"anneal": 3}', [], f"{path}: anneal is 3; it must be True or False."),
        (
            '{"layers": [{"state": 7}]}',
            [],
            f"{path}: layers.0.state is 7; it must be a multiple of 2 x layers.0.blocks",
        ),
        ("[" * 50_000, [], f"{path} cannot be read as JSON: it is nested too deeply."),
        ('{"schema": 1, "type": "a.Train", "config": 3}', [], f"{path} is a configuration of type a.Train"),
    ]:
        path.write_text(text)
        assert refuse("--config", str(path), *argv).startswith(message)


def test_every_field_of_every_command_is_refused_in_the_words_typed(app):
    assert check_command_errors(app) > 60


def test_the_check_finds_words_that_were_not_typed():
    @settings
    class Bad:
        n: int = 3

        def __post_init__(self) -> None:
            raise UserError("n is wrong.")

    @settings
    class Holder:
        n: int = 3
        other: Count = 3

    app = App("bad", "")
    app.command("go", config=Holder)(lambda config: None)
    assert check_command_errors(app) == 2
    app.commands["go"] = types.SimpleNamespace(**{**vars(app.commands["go"]), "config": Bad})  # ty: ignore
    with pytest.raises((AssertionError, TypeError)):
        check_command_errors(app)


def test_positional_arguments(parse, refuse):
    assert parse("a", "b", "--episodes", "3", command="evaluate") == EvaluateOptions(
        runs=(Path("a"), Path("b")), episodes=3
    )
    assert parse("--episodes=3", "a", command="evaluate").runs == (Path("a"),)
    assert parse("--", "--a", command="evaluate").runs == (Path("--a"),)
    assert parse("d", command="diagnose") == DiagnoseOptions(data=Path("d"))
    assert parse("d", "r", command="diagnose") == DiagnoseOptions(data=Path("d"), run=Path("r"))
    assert refuse(command="evaluate") == "RUNS is required."
    assert refuse(command="diagnose") == "DATA is required."
    assert refuse("a", "b", "c", command="diagnose").startswith('unexpected argument "c"')
    assert refuse("--runs", "a", command="evaluate").startswith('unknown option "--runs"')


def test_required_options(app, capsys):
    assert app.main(["train", "--out", ""]) == 2
    assert capsys.readouterr().err == "error: --out is ''; it must be a path.\n"
    assert app.main(["evaluate", ""]) == 2
    assert capsys.readouterr().err == "error: RUNS is ''; it must be a list of paths.\n"
    assert app.main(["train"]) == 2
    assert capsys.readouterr().err == "error: --out is required.\n"


def test_the_options_and_the_configuration_may_not_share_a_name():
    @settings
    class Clash:
        seed: int = 0

    with pytest.raises(TypeError, match="seed"):
        App("x", "").command(options=RunOptions, config=Clash)(lambda options, config: None)


# Help


def help_of(app, capsys, *argv):
    assert app.main([*argv]) == 0
    return capsys.readouterr().out


def test_program_help(app, capsys):
    text = help_of(app, capsys, "--help")
    assert "train     Train a policy." in text
    assert app.main([]) == 2
    assert "commands:" in capsys.readouterr().err
    assert help_of(app, capsys, "--version").startswith("method 0.")
    assert App("nowhere", "").main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nowhere, which is not an installed package")


def test_short_help_shows_the_essentials_and_presets(app, capsys, monkeypatch):
    monkeypatch.setattr("paperloop.cli.help.SCREEN", 40)
    text = help_of(app, capsys, "train", "--help")
    assert len(text.splitlines()) <= 40
    assert text.startswith("usage: method train --out PATH [options]\n\nTrain a policy.\n\nAt length.\n")
    assert "readers of the code" not in text
    for name in ("--out PATH", "--device", "--preset", "--config", "--n-envs", "--learner.lr", "--learner.type NAME"):
        assert name in text
    for name in ("--resume", "--teacher.state", "--drop-nonfinite"):
        assert name not in text
    assert "environments (default: 32)" in text
    assert "`method train --help-all` lists all 32 options" in text
    assert "  small      A small one; n_envs=8, anneal=false\n" in text
    assert "  sac        learner.type=sac, learner.alpha=7.0, n_envs=9\n" in text
    assert "  s5_paired  student.state=16\n" in text
    assert max(map(len, text.splitlines())) <= 80


def test_whole_help(app, capsys):
    text = help_of(app, capsys, "train", "--help-all")
    for name in ("--resume auto|never|must", "--teacher.state INT", "--no-drop-nonfinite", "--learner.clip NUMBER"):
        assert name in text
    assert "blocks of the initialisation; divides `state`" in text
    assert "learner.s5:\n" in text
    assert "--layers" not in text
    assert "--learner.alpha" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_help_shows_the_values_of_the_preset_and_the_options_of_the_member(app, capsys):
    text = help_of(app, capsys, "train", "--preset", "sac", "--help-all")
    assert "the temperature (default: 7.0)" in text
    assert "--learner.clip" not in text
    assert "environments (default: 9)" in text
    text = help_of(app, capsys, "train", "--learner.type", "sac", "--help-all")
    assert "the temperature (default: 1.0)" in text
    assert "the ratio's epsilon (None: off) (default: 0.2)" in help_of(app, capsys, "train", "--help-all")


def test_help_of_positional_arguments(app, capsys):
    text = help_of(app, capsys, "diagnose", "-h")
    assert text.startswith("usage: method diagnose DATA [RUN] [options]\n")
    assert "usage: method evaluate RUNS ... [options]" in help_of(app, capsys, "evaluate", "--help")


def test_help_loads_nothing_heavy_and_is_quick(tmp_path):
    script = tmp_path / "quick.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time
        from paperloop.cli import App, RunOptions
        app = App("quick", "")
        @app.command(options=RunOptions)
        def train(options):
            "Train."
        code = app.main(["train", "--help"])
        assert not {"numpy", "jax", "torch", "rich", "tyro"} & set(sys.modules)
        print(time.process_time(), file=sys.stderr)
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--save-every" in done.stdout


# Words


def test_advice_in_the_words_of_the_command(app, capsys):
    @app.command("advise", config=Train)
    def advise(config):
        """Advise."""
        words = [
            setting("drop_nonfinite", True), setting("drop_nonfinite", False), setting("lr", 1e-3),
            setting("sizes", (64, 64)), setting("learner.clip", None), setting("note", "a b"), setting("n_envs"),
            setting("nowhere", 3), setting("nowhere", 3, otherwise="another file"), setting("state"),
        ]  # fmt: skip
        print("\n".join(words))

    assert app.main(["advise"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "--drop-nonfinite", "--no-drop-nonfinite", "--learner.lr 0.001", "--sizes 64 64", "--learner.clip None",
        "--note 'a b'", "--n-envs", "nowhere=3 in Python", "another file", "state in Python",
    ]  # fmt: skip
    assert setting("drop_nonfinite", True) == "drop_nonfinite=True", "the command is over"


def test_an_error_raised_inside_a_command_is_in_its_words(app, capsys):
    @app.command("inside", config=Train)
    def inside(config):
        """Fail inside."""
        import dataclasses

        dataclasses.replace(config.learner, lr=-1)

    assert app.main(["inside"]) == 2
    assert capsys.readouterr().err == "error: --learner.lr is -1; it must be above 0.\n"


# Exit codes and terminals


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("Do this."), 2, "error: Do this.\n"),
        (UserError("There is no a\x1b[31m."), 2, "error: There is no a\\x1b[31m.\n"),
        (CheckpointError("Damaged."), 2, "error: Damaged.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (SystemExit(143), 143, ""),
        (SystemExit(), 0, ""),
        (SystemExit("gone"), 1, "gone\n"),
    ],
)
def test_exit_codes(app, capsys, error, code, text):
    app.error = error
    assert app.main(["fail"]) == code
    assert capsys.readouterr().err == text


def test_debug_shows_where_an_error_comes_from(app, capsys):
    app.error = UserError("Do this.")
    assert app.main(["fail", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "fail_with" in err


def test_bugs_keep_their_traceback_and_codes_are_passed_on(app, capsys):
    app.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        app.main(["fail"])
    assert app.main(["code"]) == 7
    assert app.main(["trian"]) == 2
    assert capsys.readouterr().err == 'error: method has no command "trian"; did you mean "train"?\n'


SCRIPT = """
import sys
from paperloop.cli import App
app = App("many", "")
@app.command()
def lines():
    "Lines."
    for i in range(100000):
        print(i)
@app.command()
def greek():
    "Greek."
    print("\\u03b1 = 3")
@app.command()
def wait():
    "Wait."
    import time
    print("ready", flush=True)
    time.sleep(60)
sys.exit(app.main())
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "many.py"
    path.write_text(SCRIPT)
    return path


def test_a_reader_that_leaves_is_no_error(script):
    shell = f'"{sys.executable}" "{script}" lines | head -n 1'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_an_ascii_terminal_gets_replacements(script):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, str(script), "greek"], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "? = 3\n"), done.stderr
    done = subprocess.run(
        [sys.executable, str(script), "αβγ"], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: many has no command ")


def test_ctrl_c_ends_at_once(script):
    import signal

    with subprocess.Popen(
        [sys.executable, str(script), "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, b"interrupted\n")


def test_signals_are_collected_inside_a_run():
    import signal

    from paperloop.signals import caught_signals

    before = signal.getsignal(signal.SIGINT)
    with caught_signals(once=False) as caught:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert caught == [signal.SIGINT, signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is before
    with caught_signals() as caught:
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_run_arguments_are_those_of_run():
    import inspect

    import paperloop

    given = RunOptions(out=Path("x"), seed=3, save_every=7, quiet=True).run_arguments()
    assert set(given) <= set(inspect.signature(paperloop.run).parameters)
    assert (given["seed"], given["save_every"], given["progress"]) == (3, 7, False)


# Devices


class FakeJax(types.ModuleType):
    """JAX's platform choice: what is configured before first use wins."""

    def __init__(self, found, error=None):
        super().__init__("jax")
        self.found, self.error, self.updates = found, error, []
        self.config = self

    def update(self, name, value):
        self.updates.append((name, value))
        if self.found != "stuck":
            self.found = value

    def default_backend(self):
        if self.error:
            raise self.error
        return "gpu" if self.found == "stuck" else self.found


@pytest.mark.parametrize(
    ("device", "found", "expected", "updates"),
    [("auto", "gpu", "gpu", 0), ("auto", "cpu", "cpu", 0), ("gpu", "gpu", "gpu", 0), ("cpu", "gpu", "cpu", 1)],
)
def test_jax_devices(monkeypatch, device, found, expected, updates):
    fake = FakeJax(found)
    monkeypatch.setitem(sys.modules, "jax", fake)
    assert select_device(device, "jax") == expected
    assert len(fake.updates) == updates


@pytest.mark.parametrize(
    ("device", "fake", "word"),
    [
        ("gpu", FakeJax("cpu"), "device='gpu': JAX finds no GPU"),
        ("cpu", FakeJax("stuck"), "already computes on the gpu"),
        ("auto", FakeJax("cpu", RuntimeError("Unable to initialize backend 'tpu'\nmore")), "backend 'tpu'"),
        ("auto", FakeJax("cpu", AssertionError()), "the platform cuda of JAX_PLATFORMS has no plugin installed"),
        ("auto", None, "paperloop[jax]"),
    ],
)
def test_jax_device_refusals(monkeypatch, device, fake, word):
    monkeypatch.setitem(sys.modules, "jax", fake)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError) as caught:
        select_device(device, "jax")
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_package_whose_command_runs_is_to_be_installed(monkeypatch, app, capsys):
    monkeypatch.setitem(sys.modules, "jax", FakeJax("cpu"))

    @app.command("go", options=EvaluateOptions)
    def go(options):
        """Go."""
        select_device("gpu", "jax")

    assert app.main(["go", "x"]) == 2
    err = capsys.readouterr().err
    assert "--device gpu: JAX finds no GPU" in err
    assert "pip install 'jax[cuda13]'" in err  # paperloop has no such extra
    about = types.SimpleNamespace(get_all=lambda name: ["cuda", "envs"] if name == "Provides-Extra" else [])
    monkeypatch.setattr(paperloop.cli.devices.importlib.metadata, "metadata", lambda name: about)
    assert app.main(["go", "x"]) == 2
    assert "pip install 'paperloop[cuda]'" in capsys.readouterr().err


def _torch(cuda, mps):
    def available(value):
        return types.SimpleNamespace(is_available=lambda: value)

    return types.SimpleNamespace(cuda=available(cuda), backends=types.SimpleNamespace(mps=available(mps)))


def test_torch_devices(monkeypatch):
    for device, cuda, mps, expected in [
        ("auto", True, False, "cuda"),
        ("auto", False, True, "cpu"),
        ("gpu", True, False, "cuda"),
        ("gpu", False, True, "mps"),
        ("cpu", True, False, "cpu"),
    ]:
        monkeypatch.setitem(sys.modules, "torch", _torch(cuda, mps))
        assert select_device(device, "torch") == expected
    monkeypatch.setitem(sys.modules, "torch", _torch(False, False))
    with pytest.raises(UserError, match="finds no GPU"):
        select_device("gpu", "torch")


def test_json_of_the_file_is_not_changed(parse, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"learner": {"type": "sac", "inner": {"type": "es"}}}))
    assert parse("--config", str(path), "--learner.inner.sigma", "3").learner == SAC(inner=ES(sigma=3.0))
