"""Runs measured in fresh episodes: agent by agent, by arm, and before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop_data import normalised_score
from paperloop_lab.console import show
from policy_finetune.config import OnlineConfig
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.envs.recorded import recorded
from policy_finetune.envs.rollouts import Returns, RolloutEnvs, UniformPolicy, evaluate
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.measures.comparison import Estimate, mean_return, paired_difference
from policy_finetune.report.run import numbered
from policy_finetune.trainers.evaluators import score_task
from policy_finetune.trainers.runs import run_config, seen_from, starts_of

__all__ = ["evaluate_runs"]


@dataclass(frozen=True, eq=False)
class Measured:
    """A run's agents in many episodes, and a random policy."""

    folder: Path
    spec: EnvSpec
    labels: tuple[str, ...]
    found: Returns
    chance: Returns


def evaluate_runs(runs: Sequence[str | Path], *, episodes: int, noise: float, seed: int) -> None:
    """Measure the agents of runs; write evaluation.json into each folder, and show tables."""
    measured = [_measure(Path(folder), episodes, noise, seed) for folder in runs]
    agents, arms, reasons = [], [], []
    for run in measured:
        means = {label: mean_return(returns) for label, returns in _by_arm(run, run.found.returns).items()}
        document = {
            "env_id": run.spec.env_id, **recorded(run.spec), "agents": list(run.labels),
            "episodes": episodes, "noise": noise, "seed": seed,
            "returns": run.found.returns.tolist(), "lengths": run.found.lengths.tolist(),
            "random_returns": run.chance.returns[0].tolist(), "means": _plain(means),
        }  # fmt: skip
        agents += _rows(run)
        arms += [_row(run.folder.name, label, run, one) for label, one in means.items()]
        before, starts, why = _pairs(run, measured)
        if before is not None:
            partners = _by_arm(run, np.array(starts))
            differences = {
                label: paired_difference(before.found.returns, returns, partners[label])
                for label, returns in _by_arm(run, run.found.returns).items()
            }
            document["differences"] = {"from": before.folder.name, **_plain(differences)}
            name = f"{run.folder.name} - {before.folder.name}"
            arms += [_row(name, label, run, one, sign="+") for label, one in differences.items()]
            reasons.append(why)
        write_json(run.folder / "evaluation.json", document)
    show(("run", "agent", "return", "± over episodes", "score"), agents, labels=2)
    caption = "; ".join(["bootstrap intervals", *dict.fromkeys(reasons)])
    show(("run", "arm", "agents", "mean", "95 % interval", "over"), arms, labels=2, caption=caption)


def _measure(folder: Path, episodes: int, noise: float, seed: int) -> Measured:
    if folder.is_file():  # evaluation.json would have no place
        raise UserError(f"{folder} is a file, and evaluate takes run folders: name the one that training wrote.")
    policy, labels = load_policies(folder)
    spec = policy.spec
    with RolloutEnvs(spec) as envs:
        found = evaluate(policy, spec, episodes=episodes, seed=seed, noise=noise, envs=envs)
        chance = evaluate(UniformPolicy(spec, seed), spec, episodes=min(episodes, 100), seed=seed, envs=envs)
    return Measured(folder, spec, labels, found, chance)


def _pairs(run: Measured, measured: Sequence[Measured]) -> tuple[Measured | None, Sequence[int], str]:
    """Return the run that another started from, if it was measured too, else the first one; None for no partner.

    With it the partner of each agent, and why.
    """
    try:
        config = run_config(run.folder)
    except UserError:  # of another version
        config = None
    if isinstance(config, OnlineConfig) and config.start:
        place = seen_from(run.folder, config.start).resolve()
        for before in measured:
            if before is not run and before.folder.resolve() == place:
                starts = starts_of(config, len(run.labels))
                return before, starts, "differences: each agent and the one that it started from"
    first = measured[0]
    if first is run or (len(first.labels), first.spec.env_id) != (len(run.labels), run.spec.env_id):
        return None, (), ""
    return first, range(len(run.labels)), "differences: agents of equal number"


def _by_arm(run: Measured, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return label -> the values of its agents."""
    labels = np.array(run.labels)
    return {label: values[labels == label] for label in dict.fromkeys(run.labels)}


def _rows(run: Measured) -> list[tuple[str, ...]]:
    task, found, chance = score_task(run.spec.env_id), run.found, run.chance
    names = [*numbered(run.labels), "random policy"]
    rows = []
    for name, mean, std in zip(names, [*found.mean, *chance.mean], [*found.std, *chance.std], strict=True):
        score = "" if task is None else f"{float(np.asarray(normalised_score(mean, task))):.1f}"
        rows.append((run.folder.name, name, f"{mean:.1f}", f"{std:.1f}", score))
    return rows


def _row(name: str, label: str, run: Measured, one: Estimate, sign: str = "") -> tuple[str, ...]:
    point, low, high = (format(float(x), f"{sign}.1f") for x in one.interval)
    return name, label, str(run.labels.count(label)), point, f"{low} to {high}", one.over


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {label: {**one.interval._asdict(), "over": one.over} for label, one in estimates.items()}
