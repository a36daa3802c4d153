"""The learning curves of a study's fine-tuned agents, read from its run folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paperloop.errors import UserError
from paperloop.settings import load_config, read_json
from paperloop_lab.sweep.plan import run_status
from policy_finetune.config import SCHEMA, OfflineConfig, OnlineConfig
from policy_finetune.measures.collapse import CollapseMetrics, collapse_metrics
from policy_finetune.measures.readings import evaluations

__all__ = ["StudyCurve", "read_study", "unfinished"]


@dataclasses.dataclass(frozen=True)
class StudyCurve:
    """One fine-tuned agent.

    Attributes:
        dataset: name of its dataset.
        pretrainer: who trained it offline.
        arm: how it was fine-tuned.
        start: index of the pre-trained agent among its pre-trainer's.
        seed: which of the agents of that start.
        steps: (T,) environment steps of the evaluations.
        returns: (T,) mean returns; the first before any environment step.
        metrics: of the curve.
    """

    dataset: str
    pretrainer: str
    arm: str
    start: int
    seed: int
    steps: np.ndarray
    returns: np.ndarray
    metrics: CollapseMetrics

    @property
    def pair(self) -> tuple[str, str, int, int]:
        """What agents of different arms are paired by."""
        return self.dataset, self.pretrainer, self.start, self.seed


def read_study(out: str | Path, *, random_return: float = 0.0) -> list[StudyCurve]:
    """Return the curves of all complete fine-tuning runs of the study in `out`.

    Raises:
        UserError: it is not a study, or no run is complete.
    """
    curves: list[StudyCurve] = []
    for folder in _runs(out):
        if run_status(folder) != "complete":
            continue
        config = load_config(OnlineConfig, folder, SCHEMA)
        # The study's own copy first: the path was recorded as it was typed, from the working folder of that day.
        start = Path(out) / "pretrain" / Path(config.start).name
        before = load_config(OfflineConfig, start if start.exists() else config.start, SCHEMA)
        rows, returns = evaluations(folder)
        if returns.shape[1:] != (len(config.agents),):
            raise UserError(f"{folder} has {len(config.agents)} agents, and other returns: restore its files.")
        steps = np.array([row["step"] * config.block for row in rows], float)
        datasets = _dataset_names(config.data)
        for i, agent in enumerate(config.agents):
            origin = before.agents[agent.start]
            curves.append(
                StudyCurve(
                    dataset=datasets[origin.dataset], pretrainer=origin.label, arm=agent.label,
                    start=agent.start, seed=agent.seed, steps=steps, returns=returns[:, i],
                    metrics=collapse_metrics(steps, returns[:, i], random=random_return),
                )
            )  # fmt: skip
    if not curves:
        raise UserError(f"{out} holds no fine-tuned agents yet: run the study first.")
    return curves


def unfinished(out: str | Path) -> list[Path]:
    """Return the fine-tuning runs of a study that are missing or not complete."""
    return [folder for folder in _runs(out) if run_status(folder) != "complete"]


def _runs(out: str | Path) -> list[Path]:
    """Return the folders of a study's fine-tuning runs, as its plan names them."""
    plan = Path(out) / "plan.json"
    if not plan.exists():
        raise UserError(f"{out} is not a study (no plan.json): run the study first.")
    stated = read_json(plan)
    names = stated.get("finetune") if isinstance(stated, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{plan} does not say which runs belong to the study: run the study again.")
    return [Path(out) / "finetune" / name for name in names]


def _dataset_names(files: Sequence[str]) -> list[str]:
    """Return a short name for each dataset: its file's, with its folder before it where two are alike."""
    names = [Path(file).stem for file in files]
    return names if len(set(names)) == len(files) else [str(Path(file).with_suffix("")) for file in files]
