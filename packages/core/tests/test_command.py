"""Sub-commands, exit codes, devices, and the promise that --help loads no back end."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

import paperloop.command
from paperloop.command import App, RunOptions, select_device
from paperloop.errors import CheckpointError, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    lr: float = 0.1
    n: int = 2


@pytest.fixture
def app():
    app = App("method", "Does it.", distribution="paperloop")
    app.seen = []

    @app.command(options=RunOptions, config=Config, presets={"big": Config(n=9)})
    def train(options, config):
        """Train a policy.

        At length.

        Args:
            options: for readers of the code.
        """
        app.seen.append((options, config))

    @app.command("fail")
    def fail_with():
        """Fail."""
        raise app.error

    @app.command()
    def code():
        """Return a code."""
        return 7

    return app


def test_a_command_gets_options_and_configuration(app):
    assert app.main(["train", "--out", "runs/x", "--preset", "big", "--lr", "1", "--resume", "must", "--fallback"]) == 0
    ((options, config),) = app.seen
    assert options == RunOptions(out=Path("runs/x"), resume="must", fallback=True)
    assert config == Config(lr=1.0, n=9)


def test_help(app, capsys):
    assert app.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "train  Train a policy." in text
    assert app.main([]) == 2
    assert "commands:" in capsys.readouterr().err
    assert app.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "At length." in text
    assert "readers of the code" not in text
    assert "n=9" in text
    for name in ("--out", "--seed", "--resume", "--fallback", "--device", "--save-every", "--sinks", "--quiet"):
        assert name in text
    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("method 0.")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["trian"], '"train"'),
        (["train"], "--out"),
        (["train", "--out", "x", "--sede", "3"], '"--seed"'),
        (["train", "--out", "x", "--sede", "3"], '"--seed"? `method train --help` lists all.'),
        (
            ["train", "--out", "x", "--preset", "big", "--lrs", "3"],
            '"--lr"? The preset big has no such setting: `method train --preset big --help` lists its own.',
        ),
        (["train", "--preset=big", "--out", "x", "--lrs", "3"], "`method train --preset big --help`"),
        (["train", "--out", "x", "--seed", "-1"], "seed"),
        (["train", "--out", "x", "--log-every", "0"], "--log-every is 0"),
        (["train", "--out", "x", "--device", "gpus"], "gpus"),
        (["train", "--out", "x", "--sinks", "tensorboards"], "tensorboards"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(app, capsys, argv, word):
    assert app.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert word in err
    assert not app.seen


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UserError("Do this."), 2, "error: Do this.\n"),
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


def test_bugs_keep_their_traceback_and_codes_are_passed_on(app):
    app.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        app.main(["fail"])
    assert app.main(["code"]) == 7


def test_a_reader_that_leaves_is_no_error(tmp_path):
    script = tmp_path / "many.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from paperloop.command import App
        app = App("many", "")
        @app.command()
        def lines():
            "Lines."
            for i in range(100000):
                print(i)
        sys.exit(app.main())
        """)
    )
    shell = f'"{sys.executable}" "{script}" lines | head -n 1'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=120)
    assert done.stdout == "0\n"
    assert done.stderr == ""


def test_run_arguments_are_those_of_run():
    import inspect

    options = RunOptions(out=Path("x"), seed=3, save_every=7, quiet=True)
    given = options.run_arguments()
    assert set(given) <= set(inspect.signature(paperloop.run).parameters)
    assert given["seed"] == 3
    assert given["save_every"] == 7
    assert given["progress"] is False


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
            raise RuntimeError(self.error)
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
        ("gpu", FakeJax("cpu"), "finds no GPU"),
        ("cpu", FakeJax("stuck"), "already computes on the gpu"),
        ("auto", FakeJax("cpu", "Unable to initialize backend 'tpu'\nmore"), "backend 'tpu'"),
        ("auto", None, "paperloop[jax]"),
    ],
)
def test_jax_device_refusals(monkeypatch, device, fake, word):
    monkeypatch.setitem(sys.modules, "jax", fake)
    with pytest.raises(UserError) as caught:
        select_device(device, "jax")
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_package_whose_command_runs_is_to_be_installed(monkeypatch, app, capsys):
    monkeypatch.setitem(sys.modules, "jax", FakeJax("cpu"))

    @app.command()
    def go():
        """Go."""
        select_device("gpu", "jax")

    assert app.main(["go"]) == 2
    assert "pip install 'jax[cuda13]'" in capsys.readouterr().err  # paperloop has no such extra
    about = types.SimpleNamespace(get_all=lambda name: ["cuda", "envs"] if name == "Provides-Extra" else [])
    monkeypatch.setattr(paperloop.command.importlib.metadata, "metadata", lambda name: about)
    assert app.main(["go"]) == 2
    assert "pip install 'paperloop[cuda]'" in capsys.readouterr().err


def test_the_real_jax_computes_on_the_cpu():
    pytest.importorskip("jax")
    script = (
        "from paperloop.command import select_device as s; import jax; assert s('cpu', 'jax') == 'cpu';"
        "assert jax.devices()[0].platform == 'cpu'; assert jax.config.jax_platforms == 'cpu'"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr


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
