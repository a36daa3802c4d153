"""The command `policy-finetune`: make-data, pretrain, finetune, train, evaluate, diagnose, study, report, demo."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from paperloop.command import App, Device, RunOptions, start_jax
from paperloop.errors import UserError
from paperloop.option_names import in_option_names
from policy_finetune.config import DataOptions, OfflineConfig, OnlineConfig, SwitchConfig
from policy_finetune.presets import LEARNER_HELP, offline_presets, online_presets
from policy_finetune.study_config import StudyConfig
from policy_finetune.unused import refuse_idle_constraint, unused_settings

__all__ = ["main"]

#: Uniform actions that `train` begins with, where neither --random-env-steps nor the preset's warm-up says otherwise.
RANDOM_ENV_STEPS = 10_000

app = App(
    "policy-finetune",
    "Offline reinforcement learning, and its online fine-tuning without policy collapse.",
)


def _say(notes: Iterable[str]) -> None:
    """Tell the user, on standard error, before the work begins: with --quiet too, because these are warnings."""
    for note in notes:
        print(f"note: {in_option_names(note)}", file=sys.stderr)


def _command_line() -> str:
    return " ".join(["policy-finetune", *sys.argv[1:]])


def _check_files(files: Iterable[str]) -> None:
    """Name a missing dataset at once, before anything slow begins."""
    for file in files:
        if not Path(file).exists():
            raise UserError(f"There is no dataset at {file}; check --data.")


@contextlib.contextmanager
def _told_on_interrupt(goes_on: Callable[[], bool]) -> Generator[None]:
    """Let Ctrl-C end the command at once, as elsewhere, with a word on how to go on, where something is done already.

    Half-written files may stay behind; the next call removes them.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or before is signal.default_int_handler:  # somebody's purpose, or a caller in Python
        yield
        return

    def leave(signum: int, frame: Any) -> None:
        text = "interrupted"
        with contextlib.suppress(OSError):
            text += "; the same command goes on from what is done" if goes_on() else ""
        os.write(2, f"{text}\n".encode())
        os._exit(128 + signum)  # not KeyboardInterrupt: a pool that is interrupted while it starts may wait for ever

    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@app.command(options=RunOptions, config=OfflineConfig, presets=offline_presets(), preset_help=LEARNER_HELP)
def pretrain(options: RunOptions, config: OfflineConfig) -> None:
    """Learn from datasets alone: `policy-finetune pretrain --preset td3bc --data FILE --out runs/x`.

    Continues what is in the run folder. `policy-finetune finetune --start runs/x` goes on from there online.
    """
    refuse_idle_constraint(config)
    _say(unused_settings(config))
    _check_files(config.data)
    start_jax(options.device, config.devices)
    from paperloop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune.evaluators import EvaluationReturns
    from policy_finetune.run_report import conclude
    from policy_finetune.sessions import offline_trainer

    trainer, spec = offline_trainer(config)
    arguments: dict[str, Any] = options.run_arguments() | {"sinks": make_sinks(options.sinks)}
    arguments["eval_every"] = options.eval_every or max(1, trainer.num_steps // 20)
    evaluators = {"evaluation": EvaluationReturns(trainer, spec, episodes=config.eval_episodes)}
    run(trainer, options.out, steps=trainer.num_steps, evaluators=evaluators, **arguments)
    conclude(options.out, x="updates", quiet=options.quiet)


def _go_online(options: RunOptions, config: OnlineConfig, snapshots: bool) -> None:
    refuse_idle_constraint(config)
    _say(unused_settings(config))
    _check_files(config.data)
    start_jax(options.device, config.devices)
    from paperloop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune.evaluators import EvaluationReturns, PolicySnapshots
    from policy_finetune.run_report import conclude
    from policy_finetune.sessions import evaluation_blocks, online_trainer

    trainer, spec = online_trainer(config)
    _say(trainer.notes)
    returns = EvaluationReturns(
        trainer, spec, episodes=config.eval_episodes, noise=0.0 if snapshots else config.exploration_noise
    )
    evaluator: Any = returns
    if snapshots:
        evaluator = PolicySnapshots(
            trainer, returns, options.out / "policies", algorithm=config.learner.name, seed=options.seed,
            command=_command_line(),
        )  # fmt: skip
    arguments: dict[str, Any] = options.run_arguments() | {"sinks": make_sinks(options.sinks)}
    arguments["log_every"] = options.log_every or max(1, trainer.num_steps // 200)
    if options.eval_every is None:
        arguments["eval_at"] = evaluation_blocks(config)
    run(
        trainer, options.out, steps=trainer.num_steps, evaluators={"evaluation": evaluator},
        parent=Path(config.start) if config.start else None, **arguments,
    )  # fmt: skip
    conclude(options.out, x="env_steps", quiet=options.quiet)


@app.command(options=RunOptions, config=OnlineConfig, presets=online_presets(), preset_help=LEARNER_HELP)
def finetune(options: RunOptions, config: OnlineConfig) -> None:
    """Go on online from pre-trained agents: `policy-finetune finetune --preset td3c --start runs/x --out runs/y`.

    Says at the end what was lost and won: start, minimum, recovery, area under the curve, final.
    """
    if not config.start:
        raise UserError("finetune needs pre-trained agents: name their run folder with --start (or use train).")
    _go_online(options, config, snapshots=False)


@app.command(options=RunOptions, config=OnlineConfig, presets=online_presets(), preset_help=LEARNER_HELP)
def train(options: RunOptions, config: OnlineConfig) -> None:
    """Learn online from nothing: `policy-finetune train --preset td3 --env-id Hopper-v5 --out runs/x`.

    Begins with 10,000 uniform actions (--random-env-steps). Writes the policy of every evaluation into OUT/policies,
    for `make-data --policies`.
    """
    if config.start:
        raise UserError("train begins from nothing, but --start is given: use finetune.")
    kinds = [agent.replay.kind for agent in config.agents] or [config.replay.kind]
    needy = [kind for kind in kinds if kind not in ("append", "drop")]
    if needy and not config.data:
        raise UserError(
            f"Replay {needy[0]!r} needs offline data: name a dataset with --data FILE, or learn from online data alone "
            "with --replay.kind drop."
        )
    if config.random_env_steps is None:
        config = dataclasses.replace(config, random_env_steps=_random_steps(config))
        _say([f"the first {config.random_env_steps} actions are uniform (--random-env-steps)"])
    _go_online(options, config, snapshots=True)


def _random_steps(config: OnlineConfig) -> int:
    """Return how many uniform actions learning from nothing begins with: the preset's warm-up, if it has its own."""
    warmup = config.warmup_env_steps
    steps = warmup if warmup > SwitchConfig().warmup_env_steps else RANDOM_ENV_STEPS
    return config.block * -(-steps // config.block)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `evaluate` takes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """run folders; each run's newest checkpoint is measured"""
    episodes: int = 100
    """episodes for each agent"""
    noise: float = 0.0
    """standard deviation of Gaussian noise on the actions"""
    seed: int = 0
    """of the starts of episodes, and the noise"""
    fallback: bool = False
    """where the newest checkpoint is damaged, take the newest intact one"""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("evaluate needs at least one run folder: policy-finetune evaluate runs/NAME.")
        if self.episodes < 1:
            raise UserError(f"episodes is {self.episodes}; it must be at least 1.")
        if not self.noise >= 0:
            raise UserError(f"noise is {self.noise}; it must be at least 0.")


@app.command(options=EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure the agents of runs in many episodes, next to a random policy; writes evaluation.json into each folder."""
    from policy_finetune.run_report import evaluate_runs

    evaluate_runs(
        options.runs, episodes=options.episodes, noise=options.noise, seed=options.seed, fallback=options.fallback
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MakeDataOptions:
    """What `make-data` takes."""

    out: Path
    """the file to write, such as hopper-medium.hdf5 (D4RL's layout)"""
    env_id: str | None = None
    """gymnasium's name of the environment (None: Hopper-v5)"""
    quality: str | None = None
    """random, medium, medium-replay, medium-expert, expert, full-replay, or noisy:SIGMA (None: medium)"""
    steps: int = 200_000
    """environment steps in all"""
    seed: int | None = None
    """of resets, noise and random actions (None: 0)"""
    policies: tuple[Path, ...] = ()
    """policy files in the order of training, such as `train` writes; empty: those that come with the package"""
    replay: Path | None = None
    """a run of `train` or `finetune`: the oldest `steps` transitions in its replay buffer are the dataset, a true
    medium-replay; a buffer that was filled to its capacity has lost those before them, and may begin in mid-episode"""
    agent: int | None = None
    """which of that run's agents, from 0 on (None: 0)"""
    noise: float | None = None
    """standard deviation of Gaussian noise on the actions (None: a policy's own spread, or 0.1)"""
    workers: int | None = None
    """processes (None: 1); the file does not depend on it"""
    compress: bool = False
    """gzip the arrays"""
    quiet: bool = False
    """no progress bar, no table; warnings are shown all the same"""

    def __post_init__(self) -> None:
        if self.replay is None:
            if self.agent is not None:
                raise UserError("--agent names an agent of a run: give the run with --replay, or leave --agent out.")
            return
        made = ("env_id", "quality", "seed", "policies", "noise", "workers")
        given = [f"--{name.replace('_', '-')}" for name in made if getattr(self, name) not in (None, ())]
        if given:
            raise UserError(
                f"--replay takes transitions that a run has made already, so {', '.join(given)} would have no effect: "
                f"leave {'it' if len(given) == 1 else 'them'} out."
            )


@app.command(options=MakeDataOptions)
def make_data(options: MakeDataOptions) -> None:
    """Make a dataset: `policy-finetune make-data --env-id Hopper-v5 --quality medium-replay --out hopper.hdf5`.

    Graded policies for Hopper, HalfCheetah, Walker2d and the double pendulum come with the package. Killed and called
    again, it goes on, and the file has the same bytes.
    """
    from policy_finetune.data_plan import make_data_command
    from policy_finetune.make_data import DataPlan, has_parts, write_dataset

    if options.replay is not None:
        start_jax("cpu")
        from policy_finetune.online import OverwrittenWarning
        from policy_finetune.run_report import describe_dataset, write_replay

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", OverwrittenWarning)
            data, env_id = write_replay(
                options.replay, options.out, options.steps, agent=options.agent or 0, compress=options.compress
            )
        for warning in caught:
            if issubclass(warning.category, OverwrittenWarning):
                _say([str(warning.message)])
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if not options.quiet:
            describe_dataset(data, options.out, env_id)
        return
    env_id = "Hopper-v5" if options.env_id is None else options.env_id
    quality = "medium" if options.quality is None else options.quality
    workers = 1 if options.workers is None else options.workers
    seed = options.seed or 0
    command = make_data_command(
        env_id, quality, options.steps, seed=seed, policies=options.policies, noise=options.noise
    )
    plan = DataPlan.of(
        env_id, quality, options.steps, seed=seed, policies=options.policies or None, noise=options.noise,
        command=command,
    )  # fmt: skip
    with _told_on_interrupt(lambda: has_parts(options.out)):
        data = write_dataset(plan, options.out, workers=workers, progress=not options.quiet, compress=options.compress)
    if not options.quiet:
        from policy_finetune.run_report import describe_dataset

        describe_dataset(data, options.out, env_id)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """What `diagnose` takes."""

    data: Annotated[Path, tyro.conf.Positional]
    """the dataset that the agents learned from"""
    run: Annotated[Path | None, tyro.conf.Positional] = None
    """their run folder; without it the data alone are looked at, and nothing is recommended"""
    env_id: str = ""
    """of the data alone: gymnasium's name of the environment, where the file does not say"""
    loading: DataOptions = dataclasses.field(default_factory=DataOptions)
    """of the data alone: how they are read; with a run, as it read them"""
    episodes: int = 20
    """episodes for each agent"""
    seed: int = 0
    """of the starts of episodes"""
    out: Path | None = None
    """where the figure and the findings go (None: RUN/plots; of the data alone, nowhere)"""
    device: Device = "cpu"
    """where the agents are restored"""


@app.command(options=DiagnoseOptions)
def diagnose(options: DiagnoseOptions) -> None:
    """Compare a dataset with the policy learned from it, and recommend replay and constraint for fine-tuning.

    `policy-finetune diagnose DATA` alone looks at the data.
    """
    if options.run is not None and (options.env_id or options.loading != DataOptions()):
        raise UserError("--env-id and --loading are for data alone; a run says itself how its data are read.")
    start_jax(options.device)
    from policy_finetune.diagnose import diagnose_data, diagnose_run

    if options.run is None:
        diagnose_data(
            options.data, env_id=options.env_id, loading=options.loading, episodes=options.episodes,
            seed=options.seed, out=options.out,
        )  # fmt: skip
        return
    diagnose_run(
        options.data, options.run, episodes=options.episodes, seed=options.seed,
        out=options.out or options.run / "plots",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What `study` takes beside the study."""

    out: Path
    """the study's folder: made if absent, continued if it holds this study"""
    seed: int = 0
    """everything random follows from it"""
    jobs: int = 1
    """programs at once; on a CPU as many as cores, together with --parts"""
    device: Device = "auto"
    """where to compute"""


@app.command(options=StudyOptions, config=StudyConfig)
def study(options: StudyOptions, config: StudyConfig) -> None:
    """Run {dataset} x {pre-trainer} x {online learner} x {replay} x {constraint} over seeds, and report.

    Continues what is in the folder.
    """
    _check_files(config.data)
    from policy_finetune.run_report import report_study
    from policy_finetune.study import run_study

    run_study(config, options.out, seed=options.seed, jobs=options.jobs, device=options.device)
    report_study(options.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What `report` takes."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """a study's folder, or a run's"""
    curves: Path | None = None
    """CORL's published fine-tuning curves (results/bin/finetune_scores.pickle): prints its table from them"""


@app.command(options=ReportOptions)
def report(options: ReportOptions) -> None:
    """Report a study or a run once more, or CORL's published table from its published curves."""
    from policy_finetune.run_report import conclude, print_corl, report_study

    if options.curves is not None:
        print_corl(options.curves)
        return
    if options.folder is None:
        raise UserError("report needs a folder, or --curves FILE.")
    if (options.folder / "study.json").exists():
        report_study(options.folder)
    else:
        conclude(options.folder, x="updates" if _is_offline(options.folder) else "env_steps", quiet=False)


def _is_offline(folder: Path) -> bool:
    from policy_finetune.readings import config_type

    if not (folder / "config.json").exists():
        raise UserError(f"{folder} is neither a study nor a run folder: name a folder that study or training wrote.")
    return config_type(folder).endswith("OfflineConfig")


@app.command()
def learners() -> None:
    """List the learners by name, and where one is for one phase only."""
    width = max(map(len, LEARNER_HELP))
    offline, online = offline_presets(), online_presets()
    for name, text in LEARNER_HELP.items():
        where = "" if name in online else " [pretrain only]"
        where = where if name in offline else " [finetune and train only]"
        print(f"{name:<{width}}  {text}{where}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What `demo` takes."""

    out: Path = Path("demo/policy-finetune")
    """where the study and its figures go"""
    seed: int = 0
    """everything random follows from it"""
    device: Device = "cpu"
    """where to compute"""


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """See a policy collapse, and not collapse: a pendulum, a narrow dataset, TD3 beside TD3-C; about a minute."""
    from policy_finetune.demo import run_demo

    run_demo(options.out, seed=options.seed, device=options.device)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code (`paperloop.command.App.main`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _look_first(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return app.main(argv)


def _look_first(arguments: Sequence[str]) -> None:
    """Say what no other option can mend, before the options are looked at one by one.

    Raises:
        UserError: a learner of the other phase is asked for, or the run folder to start from is not there.
    """
    command, *rest = arguments or [""]
    if "--help" in rest or "-h" in rest:
        return
    name, start = _given(rest, "preset"), _given(rest, "start")
    if command == "pretrain" and name in set(online_presets()) - set(offline_presets()):
        raise UserError(f"{name} learns online only: use it with finetune or train, and pretrain another learner.")
    if command in ("finetune", "train") and name in set(offline_presets()) - set(online_presets()):
        raise UserError(f"{name} learns from data only: use it with pretrain, and {command} another learner.")
    if command == "finetune" and start and not (Path(start) / "config.json").exists():
        raise UserError(f"{start} is no run folder (no config.json): give --start the folder that pretrain wrote.")


def _given(arguments: Sequence[str], option: str) -> str | None:
    """Return the value of `--option VALUE` or `--option=VALUE`, None where it is not given."""
    for i, item in enumerate(arguments):
        name, equals, value = item.partition("=")
        if name == f"--{option}":
            return value if equals else next(iter(arguments[i + 1 :]), None)
    return None
