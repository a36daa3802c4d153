"""Command lines of packages: sub-commands, options that all share, and how errors and signals end a process.

A package's `cli.py` in full:

    app = App("my-method", "Trains and evaluates my method.")

    @app.command(options=RunOptions, config=TrainConfig, presets=PRESETS)
    def train(options: RunOptions, config: TrainConfig) -> None:
        '''Train a policy.'''
        start_jax(options.device)
        from my_method.trainer import Trainer  # only now: `--help` must not wait for jax

        paperloop.run(Trainer(config), options.out, steps=config.steps, **options.run_arguments())

    main = app.main  # [project.scripts] my-method = "my_method.cli:main"
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar

from paperloop.arguments import parse_arguments
from paperloop.config import did_you_mean
from paperloop.errors import UserError
from paperloop.option_names import OptionNames, option_names
from paperloop.seeds import check_seed

__all__ = ["App", "Device", "RunOptions", "SinkName", "select_device", "start_jax"]

Device = Literal["auto", "cpu", "gpu"]
SinkName = Literal["tensorboard", "wandb", "trackio"]
Function = TypeVar("Function", bound=Callable[..., Any])
#: Whose command runs, for messages that say what to install.
_DISTRIBUTION: ContextVar[str | None] = ContextVar("paperloop_distribution", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What every `train` command takes beside the method's configuration."""

    out: Path
    """the run folder: made if absent, continued if it holds this run"""
    seed: int = 0
    """everything random follows from it"""
    resume: Literal["auto", "never", "must"] = "auto"
    """continue the run in the folder; never: refuse one that is there; must: refuse to start anew"""
    fallback: bool = False
    """when the newest checkpoint is damaged, continue from the newest intact one"""
    device: Device = "auto"
    """where to compute; auto: the GPU where there is one"""
    log_every: int | None = None
    """steps between rows of metrics (None: the method's choice)"""
    eval_every: int | None = None
    """steps between evaluations (None: the method's choice)"""
    save_every: int | None = None
    """steps between checkpoints (None: the method's choice)"""
    sinks: tuple[SinkName, ...] = ()
    """where metrics go beside metrics.jsonl"""
    quiet: bool = False
    """no progress bar, no tables; warnings are shown all the same"""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("log_every", "eval_every", "save_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}; it must be at least 1, or None.")

    def run_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `paperloop.run` that these options decide.

        All but `out`, `device` and `sinks`, which `paperloop_lab.sinks.make_sinks` makes of their names.
        """
        return {
            "seed": self.seed,
            "resume": self.resume,
            "fallback": self.fallback,
            "log_every": self.log_every,
            "eval_every": self.eval_every,
            "save_every": self.save_every,
            "progress": not self.quiet,
        }


@dataclasses.dataclass(frozen=True)
class _Command:
    name: str
    function: Callable[..., int | None]
    options: type | None
    config: type | None
    presets: Mapping[str, Any]
    preset_help: Mapping[str, str]
    schema: int

    @property
    def text(self) -> str:
        """The docstring up to its sections, which are for readers of the code."""
        return inspect.cleandoc(self.function.__doc__ or "").split("\n\nArgs:")[0].split("\n\nRaises:")[0]


class App:
    """A program with sub-commands.

    Args:
        prog: the program's name.
        description: one or two sentences for the help.
        distribution: whose version `--version` shows; by default the one named like the program.
    """

    def __init__(self, prog: str, description: str, distribution: str | None = None):
        self.prog = prog
        self.description = description
        self.distribution = distribution or prog
        self._commands: dict[str, _Command] = {}

    def command(
        self,
        name: str | None = None,
        *,
        options: type | None = None,
        config: type | None = None,
        presets: Mapping[str, Any] | None = None,
        preset_help: Mapping[str, str] | None = None,
        schema: int = 1,
    ) -> Callable[[Function], Function]:
        """Make a function a sub-command; its docstring's first line is the one-line help.

        The function is called with what was asked for: `(options, config)`, `(options)`, `(config)` or `()`. It
        returns None, or the exit code.

        Args:
            name: by default the function's, with hyphens.
            options: a dataclass of options; fields marked `tyro.conf.Positional` need no name.
            config: the dataclass of a configuration, with `--preset`, `--config` and an option for each field.
            presets: name -> configuration.
            preset_help: name -> one line.
            schema: the schema number of configuration files.
        """

        def register(function: Function) -> Function:
            key = name or function.__name__.replace("_", "-")  # ty: ignore[missing-attribute]
            self._commands[key] = _Command(key, function, options, config, presets or {}, preset_help or {}, schema)
            return function

        return register

    def help(self) -> str:
        """Return the program's help: its commands with one line each."""
        width = max(len(name) for name in self._commands)
        lines = [f"usage: {self.prog} [-h] [--version] COMMAND ...", "", self.description, "", "commands:"]
        lines += [f"  {name:<{width}}  {command.text.splitlines()[0]}" for name, command in self._commands.items()]
        lines += ["", f"`{self.prog} COMMAND --help` lists a command's options. With --debug, errors show where they"]
        return "\n".join([*lines, "come from."])

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line and return the exit code.

        0: done. 2: an error of the user's making, said in one sentence. 130: Ctrl-C. A run that was interrupted ends
        with 128 + signal. Any other exception is a bug and leaves with its traceback.

        In the sentence, fields of the command's options and configuration have the names of their options
        (`paperloop.option_names`).
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        # Where SIGINT is ignored, as for a job in the background, that is somebody's purpose.
        if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)
        debug = "--debug" in arguments
        try:
            return self._run([a for a in arguments if a != "--debug"])
        except UserError as error:
            if debug:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            if debug:
                traceback.print_exc()
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:  # `... | head`: nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + 13
        except SystemExit as stop:
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
                return 1
            return stop.code or 0

    def _run(self, argv: list[str]) -> int:
        if not argv:
            print(self.help(), file=sys.stderr)
            return 2
        name, *rest = argv
        if name in ("-h", "--help"):
            print(self.help())
            return 0
        if name == "--version":
            print(f"{self.prog} {importlib.metadata.version(self.distribution)}")
            return 0
        command = self._commands.get(name)
        if command is None:
            raise UserError(f'{self.prog} has no command "{name}"{did_you_mean(name, self._commands)}')
        options, config = parse_arguments(
            rest,
            prog=f"{self.prog} {name}",
            description=command.text,
            options=command.options,
            config=command.config,
            presets=command.presets,
            preset_help=command.preset_help,
            schema=command.schema,
        )
        names = OptionNames.of(options, config)
        token = _DISTRIBUTION.set(self.distribution)
        try:
            with option_names(names):
                code = command.function(*(value for value in (options, config) if value is not None))
        except UserError as error:
            told = names.say(str(error))
            if told == str(error):
                raise
            raise UserError(told) from error
        finally:
            _DISTRIBUTION.reset(token)
        sys.stdout.flush()
        return code or 0


def _leave(signum: int, frame: Any) -> None:
    """Ctrl-C outside a run or a sweep, which have handlers of their own: end at once.

    A KeyboardInterrupt could be lost: raised inside a callback of JAX's, it is printed and ignored. Nothing needs to be
    undone, because every file is written atomically.
    """
    os.write(2, b"interrupted\n")
    os._exit(128 + signum)


def select_device(device: Device, backend: Literal["jax", "torch"]) -> str:
    """Make `device` the one that computes, before the first use of the back end.

    Args:
        device: "cpu", "gpu", or "auto" for the GPU where there is one.
        backend: whose. For JAX the choice holds for the process, as JAX has it; for torch nothing is set, and the
            result is to be passed on.

    Returns:
        For JAX "cpu", "gpu" or "tpu"; for torch "cpu", "cuda" or "mps".

    Raises:
        UserError: the back end is not installed, there is no GPU, or JAX already computes elsewhere.
    """
    # By name, so that a package of one back end does not come to depend on the other through this module.
    try:
        module: Any = importlib.import_module(backend)
    except ImportError as error:
        raise UserError(f"{backend} cannot be imported ({error}): pip install 'paperloop[{backend}]'.") from None
    if backend == "torch":
        return _torch_device(device, module)
    if device == "cpu":
        module.config.update("jax_platforms", "cpu")  # the GPU is not even opened, so its memory stays free
    try:
        found = module.default_backend()
    except RuntimeError as error:  # JAX_PLATFORMS names something that is not there
        raise UserError(f"JAX finds no device: {str(error).splitlines()[0]}") from None
    if device == "gpu" and found != "gpu":
        raise UserError(
            f"--device gpu: JAX finds no GPU and would use the {found}: pip install '{_with_cuda()}', and check "
            "nvidia-smi and JAX_PLATFORMS, or choose --device cpu."
        )
    if device == "cpu" and found != "cpu":
        raise UserError(f"--device cpu: JAX already computes on the {found} in this process; choose before first use.")
    return found


def start_jax(device: Device, devices: int = 1) -> str:
    """Make `device` the one that JAX computes on, and keep compiled programs for the next command.

    They go into the user's cache folder, unless JAX is told another one, so that the same command starts in seconds.

    Args:
        device: "cpu", "gpu", or "auto" for the GPU where there is one.
        devices: on a CPU, make so many virtual devices.

    Returns:
        "cpu", "gpu" or "tpu".

    Raises:
        UserError: see `select_device`.
    """
    try:
        settings: Any = importlib.import_module("jax").config  # defines its attributes at run time
    except ImportError as error:
        raise UserError(f"jax cannot be imported ({error}): pip install 'paperloop[jax]'.") from None
    if settings.jax_compilation_cache_dir is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        settings.update("jax_compilation_cache_dir", str(cache / "paperloop" / "jax"))
        settings.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    if devices > 1:
        settings.update("jax_num_cpu_devices", devices)
    return select_device(device, "jax")


def _with_cuda() -> str:
    """What to install for JAX on a GPU: the extra `cuda` of the package whose command runs, where it has one."""
    name = _DISTRIBUTION.get()
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if name and "cuda" in (importlib.metadata.metadata(name).get_all("Provides-Extra") or []):
            return f"{name}[cuda]"
    return "jax[cuda13]"


def _torch_device(device: Device, torch: Any) -> str:
    if device != "cpu":
        if torch.cuda.is_available():
            return "cuda"
        if device == "gpu":
            if torch.backends.mps.is_available():
                return "mps"
            raise UserError(
                "--device gpu: torch finds no GPU: install a CUDA build of torch and check nvidia-smi, or choose "
                "--device cpu."
            )
    return "cpu"
