"""The command `policy-finetune`: make-data, pretrain, finetune, train, evaluate, diagnose, study, report, demo."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from paperloop.cli import App, RunOptions, start_jax
from paperloop.errors import UserError, printable, running_command, setting
from paperloop.files import check_is_file
from paperloop.signals import leaving_with
from policy_finetune.commands.options import (
    DemoOptions,
    DiagnoseOptions,
    EvaluateOptions,
    ExportOptions,
    MakeDataOptions,
    ReportOptions,
    StudyOptions,
)
from policy_finetune.commands.start import with_network_of_start
from policy_finetune.commands.unused import refuse_idle_constraint, unused_settings
from policy_finetune.config import DataOptions, OfflineConfig, OnlineConfig, SwitchConfig
from policy_finetune.presets import LEARNER_HELP, offline_presets, online_presets
from policy_finetune.study.config import StudyConfig

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
        print(printable(f"note: {note}"), file=sys.stderr)


def _command_line() -> str:
    return " ".join(["policy-finetune", *sys.argv[1:]])


def _check_files(files: Iterable[str]) -> None:
    """Name a dataset that is missing or cannot be one, before anything slow begins."""
    for file in files:
        if not os.path.lexists(file):
            from policy_finetune.data.checks import check_there

            check_there(file)
        elif not os.path.isdir(file):
            check_is_file(file)


class _Presets(dict[str, Any]):
    """The presets of a phase, which say where a learner of the other phase belongs.

    Args:
        presets: name -> configuration.
        others: those of the other phase.
        advice: what to say of a name that only `others` has, "{name}" in it.
    """

    def __init__(self, presets: Mapping[str, Any], others: Mapping[str, Any], advice: str) -> None:
        super().__init__(presets)
        self._others, self._advice = set(others) - set(presets), advice

    def __contains__(self, name: object) -> bool:
        if name in self._others:
            raise UserError(self._advice.format(name=name))
        return super().__contains__(name)


OFFLINE_PRESETS = _Presets(
    offline_presets(), online_presets(),
    "{name} learns online only: use it with finetune or train, and pretrain another learner.",
)  # fmt: skip
ONLINE_PRESETS = _Presets(
    online_presets(), offline_presets(), "{name} learns from data only: use it with pretrain, and another learner here."
)


@app.command(
    options=RunOptions, config=OfflineConfig, presets=OFFLINE_PRESETS, preset_help=LEARNER_HELP,
    essentials=("data", "env_id", "updates", "seeds", "top_fraction", "loading.semantics", "loading.observation_keys"),
)  # fmt: skip
def pretrain(options: RunOptions, config: OfflineConfig) -> None:
    """Learn from datasets alone: `policy-finetune pretrain --preset td3bc --data FILE --out runs/x`.

    Continues what is in the run folder. `policy-finetune finetune --start runs/x` continues from there online.
    """
    refuse_idle_constraint(config)
    _say(unused_settings(config))
    updates = config.num_steps * config.updates_per_step
    if updates > config.updates:
        _say(
            [f"{config.updates} updates are rounded up to {updates}: {setting('updates_per_step')} is "
             f"{config.updates_per_step}"]
        )  # fmt: skip
    _check_files(config.data)
    start_jax(options.device, config.devices)
    from paperloop.loop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune.report.run import conclude
    from policy_finetune.trainers.evaluators import EvaluationReturns
    from policy_finetune.trainers.sessions import offline_trainer

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
    from paperloop.loop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune.report.run import conclude
    from policy_finetune.trainers.evaluators import EvaluationReturns, PolicySnapshots
    from policy_finetune.trainers.sessions import evaluation_blocks, online_trainer

    trainer, spec = online_trainer(config)
    _say(trainer.start_notes)
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


@app.command(
    options=RunOptions, config=OnlineConfig, presets=ONLINE_PRESETS, preset_help=LEARNER_HELP,
    essentials=("start", "data", "env_steps", "seeds", "replay.kind", "learner.constraint.epsilon"),
)  # fmt: skip
def finetune(options: RunOptions, config: OnlineConfig) -> None:
    """Go on online from pre-trained agents: `policy-finetune finetune --preset td3c --start runs/x --out runs/y`.

    Says at the end what was lost and won: start, minimum, recovery, area under the curve, final.
    """
    if not config.start:
        raise UserError(
            f"finetune needs pre-trained agents: name their run folder with {setting('start')} (or use train)."
        )
    if not (Path(config.start) / "config.json").exists():
        raise UserError(
            f"{config.start} is not a run folder (no config.json): give {setting('start')} the folder that pretrain "
            "wrote."
        )
    words = running_command.get()
    config, notes = with_network_of_start(config, words.given if words else ())
    _say(notes)
    _go_online(options, config, snapshots=False)


@app.command(
    options=RunOptions, config=OnlineConfig, presets=ONLINE_PRESETS, preset_help=LEARNER_HELP,
    essentials=("env_id", "data", "env_steps", "seeds", "replay.kind", "learner.constraint.epsilon"),
)  # fmt: skip
def train(options: RunOptions, config: OnlineConfig) -> None:
    """Learn online from nothing: `policy-finetune train --preset td3 --env-id Hopper-v5 --out runs/x`.

    Begins with 10,000 uniform actions (--random-env-steps). Writes the policy of every evaluation into OUT/policies,
    for `make-data --policies`.
    """
    if config.start:
        raise UserError(f"train begins from nothing, but {setting('start')} is given: use finetune.")
    kinds = [agent.replay.kind for agent in config.agents] or [config.replay.kind]
    needy = [kind for kind in kinds if kind not in ("append", "drop")]
    if needy and not config.data:
        raise UserError(
            f"Replay {needy[0]!r} needs offline data: name a dataset with {setting('data')}, or learn from online data "
            f"alone with {setting('replay.kind', 'drop')}."
        )
    if config.random_env_steps is None:
        config = dataclasses.replace(config, random_env_steps=_random_steps(config))
        _say([f"the first {config.random_env_steps} actions are uniform ({setting('random_env_steps')})"])
    _go_online(options, config, snapshots=True)


def _random_steps(config: OnlineConfig) -> int:
    """Return how many uniform actions learning from nothing begins with: the preset's warm-up, if it has its own."""
    warmup = config.warmup_env_steps
    steps = warmup if warmup > SwitchConfig().warmup_env_steps else RANDOM_ENV_STEPS
    return config.block * -(-steps // config.block)


@app.command(options=EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure the agents of runs in many episodes: `policy-finetune evaluate runs/pre runs/tuned`.

    Shows each agent next to a random policy, the mean of every arm with its interval over agents, and the difference in
    pairs to the run that a run started from, where that is given too (else to the first). Writes evaluation.json into
    each folder.
    """
    from policy_finetune.report.evaluation import evaluate_runs

    evaluate_runs(options.runs, episodes=options.episodes, noise=options.noise, seed=options.seed)


@app.command(options=ExportOptions)
def export(options: ExportOptions) -> None:
    """Write an agent's policy to a file that plain NumPy can run: `policy-finetune export runs/x --out policy.npz`.

    The file holds the layers, the observations' normaliser and the bounds of the actions; the README has the ten lines
    that run it.
    """
    from policy_finetune.data.exported import export_policy
    from policy_finetune.data.saved_policies import load_policies

    policy, labels = load_policies(options.run)
    if options.agent >= len(labels):
        raise UserError(
            f"{setting('agent')} is {options.agent}, but {options.run} has {len(labels)} agents, numbered from 0."
        )
    label = labels[options.agent]
    export_policy(policy.agent(options.agent), options.out, label=label, overwrite=options.overwrite)
    print(printable(f"{options.out}: agent {options.agent} of {len(labels)} ({label}), {policy.spec.env_id}"))


@app.command(options=MakeDataOptions)
def make_data(options: MakeDataOptions) -> None:
    """Make a dataset: `policy-finetune make-data --env-id Hopper-v5 --quality medium-replay --out hopper.hdf5`.

    Graded policies for Hopper, HalfCheetah, Walker2d and the double pendulum come with the package. Killed and called
    again, it continues, and the file has the same bytes.
    """
    from policy_finetune.data.make import DataPlan, write_dataset
    from policy_finetune.data.plan import make_data_command

    if options.replay is not None:
        start_jax("cpu")
        from policy_finetune.replay.recorded import OverwrittenWarning
        from policy_finetune.report.run import describe_dataset, write_replay

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
    leaving_with("interrupted; the same command continues from what is done")
    data = write_dataset(plan, options.out, workers=workers, progress=not options.quiet, compress=options.compress)
    if not options.quiet:
        from policy_finetune.report.run import describe_dataset

        describe_dataset(data, options.out, env_id)


@app.command(options=DiagnoseOptions)
def diagnose(options: DiagnoseOptions) -> None:
    """Compare a dataset with the policy learned from it, and recommend replay and constraint for fine-tuning.

    `policy-finetune diagnose DATA` alone looks at the data.
    """
    if options.run is not None and (options.env_id or options.loading != DataOptions()):
        raise UserError(
            f"{setting('env_id')} and the options of loading are for data alone; a run says itself how its data are "
            "read."
        )
    start_jax(options.device)
    from policy_finetune.diagnosis.diagnose import diagnose_data, diagnose_run

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


@app.command(options=StudyOptions, config=StudyConfig)
def study(options: StudyOptions, config: StudyConfig) -> None:
    """Run {dataset} x {pre-trainer} x {online learner} x {replay} x {constraint} over seeds, and report.

    Continues what is in the folder.
    """
    _check_files(config.data)
    from policy_finetune.report.run import report_study
    from policy_finetune.study.run import run_study

    run_study(config, options.out, seed=options.seed, jobs=options.jobs, device=options.device)
    report_study(options.out)


@app.command(options=ReportOptions)
def report(options: ReportOptions) -> None:
    """Report a study or a run once more, or CORL's published table from its published curves."""
    from policy_finetune.report.run import conclude, print_corl, report_study

    if options.curves is not None:
        print_corl(options.curves)
        return
    if options.folder is None:
        raise UserError(f"report needs a folder, or {setting('curves')} FILE.")
    if (options.folder / "study.json").exists():
        report_study(options.folder)
    else:
        conclude(options.folder, x="updates" if _is_offline(options.folder) else "env_steps", quiet=False)


def _is_offline(folder: Path) -> bool:
    from policy_finetune.measures.readings import config_type

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


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """See a policy collapse, and not collapse: a pendulum, a narrow dataset, TD3 next to TD3-C; about a minute."""
    from policy_finetune.commands.demo import run_demo

    run_demo(options.out, seed=options.seed, device=options.device)


main = app.main
