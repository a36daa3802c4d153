"""Crafter's achievements and score over all episodes that a run collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cascade_explore.deploy.measures import crafter_score, success_rates
from cascade_explore.trainer import ExploreTrainer
from paperloop.files import write_json
from paperloop_lab.plots import new_figure, save_figure

__all__ = ["achievements_report", "collected_rates"]


def collected_rates(state: Any, deployments: int) -> tuple[np.ndarray, int]:
    """Return success rates over the episodes of the first deployments, all seeds together, and their number."""
    facts, first = (np.asarray(x[:, :deployments]) for x in (state.replay.facts, state.replay.first))
    return success_rates(facts.reshape(-1, *facts.shape[-2:]), first.reshape(-1, first.shape[-1]))


def achievements_report(trainer: ExploreTrainer, state: Any, out: Path, *, quiet: bool) -> list[str]:
    """Write achievements.json and achievements.png, and print the score after each deployment."""
    made = int((np.asarray(state.ledger.env_steps[0]) > 0).sum())
    names, rows = trainer.env.facts, []  # ty: ignore
    for k in range(1, made + 1):
        rates, episodes = collected_rates(state, k)
        rows.append(
            {"deployments": k, "episodes": episodes, "score": crafter_score(rates),
             "rates": dict(zip(names, rates.tolist(), strict=True))}
        )  # fmt: skip
    write_json(out / "achievements.json", rows)
    figure, axes = new_figure(4.6, 4.6)
    axes.barh(range(len(names)), [100 * rows[-1]["rates"][name] for name in names])
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("episodes with the achievement, %")
    save_figure(figure, out / "achievements.png")
    if not quiet:
        scores = ", ".join(f"{row['score']:.2f} ({row['episodes']} episodes)" for row in rows)
        print(f"Crafter's score in percent after each deployment, all episodes so far: {scores}")
    return ["achievements.json", "achievements.png"]
