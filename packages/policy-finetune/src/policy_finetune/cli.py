"""The command `policy-finetune`: make-data, pretrain, finetune, train, evaluate, diagnose, report, demo."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.cli import App, RunOptions, start_jax
from paperloop.errors import UserError, note, printable, running_command, setting
from policy_finetune.commands.options import (
    DemoOptions,
    DiagnoseOptions,
    EvaluateOptions,
    ExportOptions,
    MakeDataOptions,
    ReplayDataOptions,
    ReportOptions,
)
from policy_finetune.commands.start import with_network_of_start
from policy_finetune.commands.training import learn_offline, learn_online
from policy_finetune.config import SCHEMA, DataOptions, OfflineConfig, OnlineConfig, SwitchConfig
from policy_finetune.presets import LEARNER_HELP, offline_presets, online_presets

__all__ = ["main"]

#: Uniform actions that `train` begins with, where neither --random-env-steps nor the preset's warm-up says otherwise.
RANDOM_ENV_STEPS = 10_000

app = App(
    "policy-finetune",
    "Offline reinforcement learning, and its online fine-tuning without policy collapse.",
)


class _Presets(dict[str, Any]):
    """The presets of a phase, which say where a learner of the other phase belongs."""

    def __init__(self, presets: Mapping[str, Any], others: Mapping[str, Any], advice: str) -> None:
        super().__init__(presets)
        self._others, self._advice = set(others) - set(presets), advice

    def __contains__(self, name: object) -> bool:
        if name in self._others:
            raise UserError(f"{name} {self._advice}")
        return super().__contains__(name)


OFFLINE_PRESETS = _Presets(
    offline_presets(), online_presets(),
    "learns online only: use it with finetune or train, and pretrain another learner.",
)  # fmt: skip
ONLINE_PRESETS = _Presets(
    online_presets(), offline_presets(), "learns from data only: use it with pretrain, and another learner here."
)


@app.command(
    options=RunOptions, config=OfflineConfig, presets=OFFLINE_PRESETS, preset_help=LEARNER_HELP, schema=SCHEMA,
    essentials=("data", "env_id", "updates", "seeds", "top_fraction", "loading.semantics", "loading.observation_keys"),
)  # fmt: skip
def pretrain(options: RunOptions, config: OfflineConfig) -> None:
    """Learn from datasets alone: `policy-finetune pretrain --preset td3bc --data FILE --out runs/x`.

    Continues what is in the run folder. `policy-finetune finetune --start runs/x` continues from there online.
    """
    updates = config.num_steps * config.updates_per_step
    if updates > config.updates:
        rounded = f"{config.updates} updates are rounded up to {updates}"
        note([f"{rounded}: {setting('updates_per_step')} is {config.updates_per_step}"])
    rounds = updates // config.structure.policy_delay
    if config.structure.actor_lr_steps > rounds:
        falls = f"the actor's learning rate falls over {config.structure.actor_lr_steps} of its updates"
        note(
            [f"{falls}, and this run has {rounds}; {setting('learner.actor_lr_steps', rounds)} lets it fall to the end"]
        )
    learn_offline(options, config)


@app.command(
    options=RunOptions, config=OnlineConfig, presets=ONLINE_PRESETS, preset_help=LEARNER_HELP, schema=SCHEMA,
    essentials=("start", "data", "env_steps", "seeds", "replay.type", "learner.type", "learner.constraint"),
)  # fmt: skip
def finetune(options: RunOptions, config: OnlineConfig) -> None:
    """Go on online from pre-trained agents: `policy-finetune finetune --preset td3c --start runs/x --out runs/y`.

    Says at the end what was lost and won: start, minimum, recovery, final.
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
    note(notes)
    learn_online(options, config)


@app.command(
    options=RunOptions, config=OnlineConfig, presets=ONLINE_PRESETS, preset_help=LEARNER_HELP, schema=SCHEMA,
    essentials=("env_id", "data", "env_steps", "seeds", "replay.type", "learner.type", "learner.constraint"),
)  # fmt: skip
def train(options: RunOptions, config: OnlineConfig) -> None:
    """Learn online from nothing: `policy-finetune train --preset td3 --env-id Hopper-v5 --out runs/x`.

    Begins with 10,000 uniform actions (--random-env-steps). Writes the policy of every evaluation into OUT/policies,
    for `make-data --policies`.
    """
    if config.start:
        raise UserError(f"train begins from nothing, but {setting('start')} is given: use finetune.")
    kinds = [agent.replay.type for agent in config.agents] or [config.replay.type]
    needy = [kind for kind in kinds if kind not in ("append", "drop")]
    if needy and not config.data:
        raise UserError(
            f"Replay {needy[0]!r} needs offline data: name a dataset with {setting('data')}, or learn from online data "
            f"alone with {setting('replay.type', 'drop')}."
        )
    if config.random_env_steps is None:
        warmup = config.warmup_env_steps  # the preset's, where it has its own
        steps = warmup if warmup > SwitchConfig().warmup_env_steps else RANDOM_ENV_STEPS
        config = dataclasses.replace(config, random_env_steps=config.block * -(-steps // config.block))
        note([f"the first {config.random_env_steps} actions are uniform ({setting('random_env_steps')})"])
    learn_online(options, config, snapshots=True)


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
    that run it. A name that ends in .onnx gives an ONNX graph instead (`pip install 'policy-finetune[onnx]'`).
    """
    from policy_finetune.data.onnx_files import export_onnx
    from policy_finetune.data.policies import export_policy
    from policy_finetune.data.saved_policies import load_policies

    policy, labels = load_policies(options.run)
    if options.agent >= len(labels):
        raise UserError(
            f"{setting('agent')} is {options.agent}, but {options.run} has {len(labels)} agents, numbered from 0."
        )
    label = labels[options.agent]
    write = export_onnx if options.out.suffix == ".onnx" else export_policy
    write(policy.agent(options.agent), options.out, label=label, overwrite=options.overwrite)
    print(printable(f"{options.out}: agent {options.agent} of {len(labels)} ({label}), {policy.spec.env_id}"))


@app.command(options=MakeDataOptions)
def make_data(options: MakeDataOptions) -> None:
    """Make a dataset: `policy-finetune make-data --env-id Hopper-v5 --quality medium-replay --out hopper.hdf5`.

    Graded policies for Hopper, HalfCheetah, Walker2d and the double pendulum come with the package.
    """
    from policy_finetune.data.make import DataPlan, write_dataset

    plan = DataPlan.of(
        options.env_id, options.quality, options.steps, seed=options.seed, policies=options.policies,
        noise=options.noise,
    )  # fmt: skip
    data = write_dataset(
        plan, options.out, workers=options.workers, progress=not options.quiet, compress=options.compress
    )
    if not options.quiet:
        from policy_finetune.report.run import describe_dataset

        describe_dataset(data, options.out, options.env_id)


@app.command(options=ReplayDataOptions)
def replay_data(options: ReplayDataOptions) -> None:
    """Write a run's replay buffer as a dataset, a true medium-replay: `policy-finetune replay-data RUN --out FILE`.

    A buffer that was filled to its capacity has lost the first transitions, and may begin in the middle of an episode.
    """
    start_jax("cpu")
    from policy_finetune.commands.replay_data import write_replay
    from policy_finetune.report.run import describe_dataset

    data, env_id, notes = write_replay(
        options.run, options.out, options.steps, agent=options.agent, compress=options.compress
    )
    note(notes)
    if not options.quiet:
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
    from policy_finetune.report.diagnosis import show_data, show_diagnosis

    about = {"episodes": options.episodes, "seed": options.seed}
    if options.run is not None:
        found = diagnose_run(options.data, options.run, **about)
        show_diagnosis(found, options.run, options.out or options.run / "plots", **about)
        return
    data, chance, warnings = diagnose_data(options.data, env_id=options.env_id, loading=options.loading, **about)
    show_data(data, chance, warnings, options.out, **about)


@app.command(options=ReportOptions)
def report(options: ReportOptions) -> None:
    """Show what runs came to once more, side by side: `policy-finetune report runs/td3 runs/td3c`."""
    from policy_finetune.report.run import report_runs

    report_runs(options.runs)


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
