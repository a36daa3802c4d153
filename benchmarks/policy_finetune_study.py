"""A study of fine-tuning: {dataset} x {pre-trained agent} x {arm} over seeds, as two sweeps of run folders.

    OUT/plan.json          the seed, and which run folders belong to the study
    OUT/pretrain/<id>/     the run of TD3+BC
    OUT/finetune/<id>/     one for each group of arms that share a program, and each part of the agents

Killed at any moment and called again, it does what is left.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.files import write_json
from paperloop.settings import config_document, load_config, read_json
from paperloop_lab import plots
from paperloop_lab.stats import Interval
from paperloop_lab.sweep.engines import LocalEngine
from paperloop_lab.sweep.loop import run_sweep
from paperloop_lab.sweep.plan import SweepRun
from policy_finetune.agents.structure import constraint_form, structure_of
from policy_finetune.config import (
    SCHEMA,
    LearnerConfig,
    OfflineAgent,
    OfflineConfig,
    OnlineAgent,
    OnlineConfig,
    OnlineLearner,
    ReplayConfig,
    SwitchConfig,
)
from policy_finetune.measures.collapse import CollapseMetrics, collapse_metrics
from policy_finetune.measures.comparison import collapse_intervals
from policy_finetune.measures.readings import evaluations
from policy_finetune.presets import LEARNERS

PRETRAINER = "td3bc"


@dataclass(frozen=True)
class Arm:
    """One way of fine-tuning: who learns, what batches hold, and how it starts (None: as the study says)."""

    label: str
    learner: OnlineLearner
    replay: ReplayConfig
    switch: SwitchConfig | None = None
    datasets: tuple[int, ...] = ()
    """only on these datasets, by index; empty: on all"""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is run; networks, batch size and switch are the same for all arms but for those that have their own switch.

    Attributes:
        parts: programs that the agents of fine-tuning are shared between; so many can run at once.
    """

    env_id: str
    data: tuple[str, ...]
    arms: tuple[Arm, ...]
    pre_seeds: int
    seeds: int
    updates: int
    env_steps: int
    hidden: tuple[int, ...]
    layer_norm: bool = False
    critics: int | None = None
    batch_size: int = 256
    switch: SwitchConfig
    block: int = 50
    eval_env_steps: int
    eval_episodes: int
    parts: int = 1

    def with_networks(self, learner: Any) -> Any:
        """Return a learner with the study's networks and batch size."""
        network = replace(
            learner.network, hidden=self.hidden, layer_norm=learner.network.layer_norm or self.layer_norm,
            critics=self.critics or learner.network.critics,
        )  # fmt: skip
        return replace(learner, network=network, batch_size=self.batch_size)


def offline_run(study: Study) -> OfflineConfig:
    """Return the configuration of the pre-training."""
    learner: LearnerConfig = study.with_networks(LEARNERS[PRETRAINER])
    agents = tuple(
        OfflineAgent(label=PRETRAINER, learner=learner, dataset=d, seed=i)
        for d in range(len(study.data))
        for i in range(study.pre_seeds)
    )
    per_step = min(1000, study.updates)
    return OfflineConfig(
        learner=learner, data=study.data, env_id=study.env_id, updates=study.updates,
        updates_per_step=max(per_step - per_step % learner.policy_delay, learner.policy_delay), agents=agents,
        eval_episodes=study.eval_episodes,
    )  # fmt: skip


def online_runs(study: Study, start: str) -> list[OnlineConfig]:
    """Return the configurations of the fine-tuning runs: arms that can share a program do.

    Args:
        study: the study.
        start: the run folder of the pre-training.
    """
    groups: dict[object, list[Arm]] = {}
    for arm in study.arms:
        arm = replace(arm, learner=study.with_networks(arm.learner), switch=arm.switch or study.switch)
        assert arm.switch is not None
        form = constraint_form(arm.learner) or ("mse", False)
        groups.setdefault((structure_of(arm.learner), form, arm.switch.warmup_env_steps), []).append(arm)
    starting = len(study.data) * study.pre_seeds
    parts = min(study.parts, starting)
    runs = []
    for arms, part in itertools.product(groups.values(), range(parts)):
        agents = tuple(
            OnlineAgent(
                label=arm.label, learner=arm.learner, replay=arm.replay, switch=arm.switch or study.switch, start=p,
                seed=i,
            )
            for arm in arms
            for p in range(part, starting, parts)
            if not arm.datasets or p // study.pre_seeds in arm.datasets
            for i in range(study.seeds)
        )  # fmt: skip
        if agents:  # else none of these arms takes a dataset of this part
            runs.append(
                OnlineConfig(
                    env_id=study.env_id, learner=agents[0].learner, replay=agents[0].replay, switch=agents[0].switch,
                    start=start, data=study.data, env_steps=study.env_steps, block=study.block, agents=agents,
                    eval_episodes=study.eval_episodes, eval_env_steps=study.eval_env_steps,
                )
            )  # fmt: skip
    return runs


def run_study(study: Study, out: Path, *, seed: int = 0, jobs: int = 1, device: str = "auto") -> None:
    """Run what is missing of a study in `out`, `jobs` programs at once; exit where a run failed."""
    args = {"seed": seed, "quiet": True} | ({} if device == "auto" else {"device": device})
    first = SweepRun(("policy-finetune", "pretrain"), config_document(offline_run(study), SCHEMA), args)
    runs = [
        SweepRun(("policy-finetune", "finetune"), config_document(config, SCHEMA), args)
        for config in online_runs(study, str(out / "pretrain" / first.id))
    ]
    plan = {"seed": seed, "pretrain": {PRETRAINER: first.id}, "finetune": [run.id for run in runs]}
    out.mkdir(parents=True, exist_ok=True)
    record = out / "plan.json"
    if record.exists() and read_json(record) != plan:
        raise SystemExit(f"{out} holds another study, or one begun by another version: choose another folder.")
    write_json(record, plan)
    for folder, some in (("pretrain", [first]), ("finetune", runs)):
        _sweep(some, out / folder, jobs)


def _sweep(runs: list[SweepRun], out: Path, jobs: int) -> None:
    before = os.environ.get("XLA_FLAGS", "")
    if jobs > 1:  # each program keeps to its core: threads of several that wait for one another waste both
        os.environ["XLA_FLAGS"] = f"{before} --xla_cpu_multi_thread_eigen=false".strip()
    try:
        result = run_sweep(runs, out, LocalEngine(jobs))
    finally:
        os.environ["XLA_FLAGS"] = before
    if result.exit_code:
        why = f"{result.failed[0].reason}; its log is {result.failed[0].log}" if result.failed else "interrupted"
        raise SystemExit(f"The study stopped ({why}). Run the same command again to continue.")


# What it came to


@dataclass(frozen=True)
class StudyCurve:
    """One fine-tuned agent.

    Attributes:
        dataset: name of its dataset.
        arm: how it was fine-tuned.
        start: index of the pre-trained agent.
        seed: which of the agents of that start.
        steps: (T,) environment steps of the evaluations.
        returns: (T,) mean returns; the first before any environment step.
        metrics: of the curve.
    """

    dataset: str
    arm: str
    start: int
    seed: int
    steps: np.ndarray
    returns: np.ndarray
    metrics: CollapseMetrics

    @property
    def pair(self) -> tuple[str, int, int]:
        """What agents of different arms are paired by."""
        return self.dataset, self.start, self.seed

    def record(self) -> dict[str, Any]:
        """Return the curve's metrics for a result file."""
        named = {name: getattr(self, name) for name in ("dataset", "arm", "start", "seed")}
        return named | self.metrics.as_dict()


def read_study(out: Path, *, random_return: float = 0.0) -> list[StudyCurve]:
    """Return the curves of all fine-tuned agents of the study in `out`."""
    plan, curves = read_json(out / "plan.json"), []
    before = load_config(OfflineConfig, out / "pretrain" / plan["pretrain"][PRETRAINER], SCHEMA)
    datasets = [Path(file).stem for file in before.data]
    for run in plan["finetune"]:
        config = load_config(OnlineConfig, out / "finetune" / run, SCHEMA)
        rows, returns = evaluations(out / "finetune" / run)
        steps = np.array([row["step"] * config.block for row in rows], float)
        for agent, own in zip(config.agents, returns.T, strict=True):
            metrics = collapse_metrics(steps, own, random=random_return)
            dataset = datasets[before.agents[agent.start].dataset]
            curves.append(StudyCurve(dataset, agent.label, agent.start, agent.seed, steps, own, metrics))
    return curves


def study_tables(curves: Sequence[StudyCurve]) -> list[dict[str, Any]]:
    """Return one row for each dataset and arm: number of agents and of starts, and for each metric [median, low, high].

    `collapsed` is the share of agents (mean); `time_to_recover` is over the agents that came back, whose number is
    `recovered`. Intervals resample the pre-trained agents first (`clustered_interval`).
    """
    rows = []
    for dataset, arm in itertools.product(*(dict.fromkeys(getattr(c, n) for c in curves) for n in ("dataset", "arm"))):
        here = [curve for curve in curves if (curve.dataset, curve.arm) == (dataset, arm)]
        if here:
            starts = [curve.start for curve in here]
            row: dict[str, Any] = {"dataset": dataset, "pretrainer": PRETRAINER, "arm": arm, "agents": len(here)}
            row["starts"] = len(set(starts))
            found = collapse_intervals([curve.metrics for curve in here], starts)
            row |= {metric: list(map(float, interval)) for metric, interval in found.items()}
            row["recovered"] = sum(bool(curve.metrics.recovered) for curve in here)
            rows.append(row)
    return rows


def curves_figure(curves: Sequence[StudyCurve]) -> Any:
    """Draw the returns over environment steps, a panel for each dataset: median and quartiles over agents by arm."""
    arms, datasets = (list(dict.fromkeys(getattr(c, name) for c in curves)) for name in ("arm", "dataset"))
    columns = min(3, len(datasets))
    rows = -(-len(datasets) // columns)
    size = max(4.4 * columns, 6.4), 3.2 * rows + 0.25 * -(-len(arms) // 3)
    figure, grid = plots.new_figure(*size, rows, columns)
    drawn: dict[str, Any] = {}  # by arm: one may be on some of the datasets only
    for place, (axes, dataset) in enumerate(itertools.zip_longest(np.ravel(grid), sorted(datasets))):
        if dataset is None:
            axes.set_visible(False)
            continue
        for arm in arms:
            own = [curve for curve in curves if (curve.dataset, curve.arm) == (dataset, arm)]
            if own:
                alike = [curve.returns for curve in own if len(curve.steps) == len(own[0].steps)]
                low, middle, high = np.quantile(alike, [0.25, 0.5, 0.75], axis=0)
                plots.band(axes, own[0].steps, Interval(middle, low, high), arms.index(arm), arm)
        axes.set_title(plots.plain(dataset), loc="left")
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return: median, quartiles" if place % columns == 0 else "")
        handles, names = axes.get_legend_handles_labels()
        drawn |= dict(zip(names, handles, strict=True))
    shown = [plots.plain(arm) for arm in arms]
    lines = [drawn[name] for name in shown]
    figure.legend(lines, shown, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def pooled(curves: Sequence[StudyCurve], dataset: str) -> list[StudyCurve]:
    """Return curves as if all were of one dataset."""
    return [dataclasses.replace(curve, dataset=dataset) for curve in curves]
