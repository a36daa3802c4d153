"""What `pretrain`, `finetune` and `train` do once their settings are known."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from paperloop.cli import RunOptions, start_jax
from paperloop.errors import note
from policy_finetune.config import OfflineConfig, OnlineConfig

__all__ = ["learn_offline", "learn_online"]


def _check_files(files: Iterable[str]) -> None:
    """Name a dataset that is missing or cannot be one, before anything slow begins."""
    from paperloop_data import format_of

    for file in files:
        format_of(file)


def learn_offline(options: RunOptions, config: OfflineConfig) -> None:
    """Train on datasets, evaluating twenty times unless told otherwise, and show what the run came to."""
    _check_files(config.data)
    start_jax(options.device, config.devices)
    from policy_finetune.trainers.evaluators import EvaluationReturns
    from policy_finetune.trainers.sessions import offline_trainer

    trainer, spec = offline_trainer(config)
    every = options.eval_every or max(1, trainer.num_steps // 20)
    _train(options, trainer, EvaluationReturns(trainer, spec, episodes=config.eval_episodes), eval_every=every)


def learn_online(options: RunOptions, config: OnlineConfig, *, snapshots: bool = False) -> None:
    """Train in the environment, and show what the run came to; with `snapshots` keep the policy of every evaluation."""
    _check_files(config.data)
    start_jax(options.device, config.devices)
    from policy_finetune.trainers.evaluators import EvaluationReturns, PolicySnapshots
    from policy_finetune.trainers.sessions import evaluation_blocks, online_trainer

    trainer, spec = online_trainer(config)
    note(trainer.start_notes)
    noise = 0.0 if snapshots else config.exploration_noise
    evaluator: Any = EvaluationReturns(trainer, spec, episodes=config.eval_episodes, noise=noise)
    if snapshots:
        about = {"algorithm": config.learner.type, "seed": options.seed}
        about["command"] = " ".join(["policy-finetune", *sys.argv[1:]])
        evaluator = PolicySnapshots(trainer, evaluator, options.out / "policies", **about)
    arguments: dict[str, Any] = {"log_every": options.log_every or max(1, trainer.num_steps // 200)}
    if options.eval_every is None:
        arguments["eval_at"] = evaluation_blocks(config)
    _train(options, trainer, evaluator, parent=Path(config.start) if config.start else None, **arguments)


def _train(options: RunOptions, trainer: Any, evaluator: Any, **arguments: Any) -> None:
    from paperloop.loop.runner import run
    from paperloop_lab.sinks import make_sinks
    from policy_finetune.report.run import report_runs

    arguments = options.run_arguments() | {"sinks": make_sinks(options.sinks)} | arguments
    run(trainer, options.out, steps=trainer.num_steps, evaluators={"evaluation": evaluator}, **arguments)
    report_runs([options.out], quiet=options.quiet)
