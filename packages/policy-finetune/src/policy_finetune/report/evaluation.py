"""Runs measured in fresh episodes: agent by agent, by arm, and before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperloop.errors import UserError
from paperloop.files import write_json
from paperloop.settings import load_config
from paperloop_data import normalised_score
from policy_finetune.config import OnlineConfig
from policy_finetune.data.saved_policies import load_policies
from policy_finetune.envs.recorded import recorded
from policy_finetune.envs.rollouts import Returns, RolloutEnvs, evaluate
from policy_finetune.envs.spec import EnvSpec
from policy_finetune.measures.comparison import Estimate, mean_return, paired_difference
from policy_finetune.measures.readings import config_type
from policy_finetune.report.run import numbered
from policy_finetune.report.tables import show
from policy_finetune.trainers.evaluators import score_task
from policy_finetune.trainers.sessions import seen_from

__all__ = ["evaluate_runs"]


@dataclass(frozen=True, eq=False)
class Measured:
    """A run's agents in many episodes, and a random policy."""

    folder: Path
    spec: EnvSpec
    labels: tuple[str, ...]
    found: Returns
    chance: Returns


@dataclass(frozen=True)
class Pairs:
    """Who is compared with whom: the partner of each agent among those of `before`, and why."""

    before: Measured
    starts: tuple[int, ...]
    why: str


def evaluate_runs(runs: Sequence[str | Path], *, episodes: int, noise: float, seed: int) -> None:
    """Measure the agents of runs; write evaluation.json into each folder, and show tables."""
    measured = [_measure(Path(folder), episodes, noise, seed) for folder in runs]
    agents, arms, reasons = [], [], []
    for run in measured:
        pairs = _pairs_of(run, measured)
        summary = {label: mean_return(returns) for label, returns in _by_arm(run, run.found.returns).items()}
        differences = _differences(run, pairs)
        document = {
            "env_id": run.spec.env_id, **recorded(run.spec), "agents": list(run.labels),
            "episodes": episodes, "noise": noise, "seed": seed,
            "returns": run.found.returns.tolist(), "lengths": run.found.lengths.tolist(),
            "random_returns": run.chance.returns[0].tolist(), "means": _plain(summary),
        }  # fmt: skip
        if pairs is not None:
            document["differences"] = {"from": pairs.before.folder.name, **_plain(differences)}
            reasons.append(pairs.why)
        write_json(run.folder / "evaluation.json", document)
        agents += _rows(run)
        arms += [_row(run.folder.name, label, run, one) for label, one in summary.items()]
        if pairs is not None:
            name = f"{run.folder.name} - {pairs.before.folder.name}"
            arms += [_row(name, label, run, one, sign="+") for label, one in differences.items()]
    headings = ("run", "agent", "return", "± over episodes", "length", "score")
    show(headings, agents, labels=2, drop=("length",))
    caption = "; ".join(["bootstrap intervals", *dict.fromkeys(reasons)])
    show(("run", "arm", "agents", "mean", "95 % interval", "over"), arms, labels=2, caption=caption)


def _measure(folder: Path, episodes: int, noise: float, seed: int) -> Measured:
    if folder.is_file():  # evaluation.json would have no place
        raise UserError(f"{folder} is a file, and evaluate takes run folders: name the one that training wrote.")
    policy, labels = load_policies(folder)
    spec = policy.spec
    with RolloutEnvs(spec) as envs:
        found = evaluate(policy, spec, episodes=episodes, seed=seed, noise=noise, envs=envs)
        chance = evaluate(_Uniform(spec, seed), spec, episodes=min(episodes, 100), seed=seed, envs=envs)
    return Measured(folder, spec, labels, found, chance)


def _pairs_of(run: Measured, measured: Sequence[Measured]) -> Pairs | None:
    """Return the run that another started from, if it was measured too, else the first one; None for no partner."""
    config = _online_config(run.folder)
    if config is not None and config.start:
        place = seen_from(run.folder, config.start).resolve()
        for before in measured:
            if before is not run and before.folder.resolve() == place:
                starts = tuple(agent.start for agent in config.agents)
                starts = starts or tuple(p for p in range(len(before.labels)) for _ in range(config.seeds))
                return Pairs(before, starts, "differences: each agent and the one that it started from")
    first = measured[0]
    alike = len(first.labels) == len(run.labels) and first.spec.env_id == run.spec.env_id
    if first is run or not alike:
        return None
    return Pairs(first, tuple(range(len(run.labels))), "differences: agents of equal number")


def _online_config(folder: Path) -> OnlineConfig | None:
    """Return the configuration of an online run; None for others, and where this version cannot read it."""
    try:
        online = config_type(folder).endswith("OnlineConfig")
        return load_config(OnlineConfig, folder / "config.json") if online else None
    except UserError:
        return None


def _by_arm(run: Measured, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return label -> the values of its agents."""
    labels = np.array(run.labels)
    return {label: values[labels == label] for label in dict.fromkeys(run.labels)}


def _differences(run: Measured, pairs: Pairs | None) -> dict[str, Estimate]:
    if pairs is None:
        return {}
    starts = _by_arm(run, np.array(pairs.starts))
    return {
        label: paired_difference(pairs.before.found.returns, returns, starts[label])
        for label, returns in _by_arm(run, run.found.returns).items()
    }


def _rows(run: Measured) -> list[tuple[str, ...]]:

    task, found, chance = score_task(run.spec.env_id), run.found, run.chance
    rows: list[Any] = [
        (name, found.mean[i], found.std[i], found.lengths[i].mean()) for i, name in enumerate(numbered(run.labels))
    ]
    rows.append(("random policy", chance.mean[0], chance.std[0], chance.lengths.mean()))
    return [
        (
            run.folder.name, name, f"{mean:.1f}", f"{std:.1f}", f"{length:.0f}",
            "" if task is None else f"{float(np.asarray(normalised_score(mean, task))):.1f}",
        )
        for name, mean, std, length in rows
    ]  # fmt: skip


def _row(name: str, label: str, run: Measured, one: Estimate, sign: str = "") -> tuple[str, ...]:
    point, low, high = (format(float(x), f"{sign}.1f") for x in one.interval)
    return name, label, str(run.labels.count(label)), point, f"{low} to {high}", one.over


def _plain(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    return {label: {**one.interval._asdict(), "over": one.over} for label, one in estimates.items()}


class _Uniform:
    """The uniformly random policy, as one agent."""

    num_agents = 1

    def __init__(self, spec: EnvSpec, seed: int) -> None:
        self._spec, self._rng = spec, np.random.default_rng([seed, 1])

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        shape = (*observations.shape[:-1], self._spec.act_dim)
        return self._rng.uniform(-1.0, 1.0, shape).astype(np.float32)
