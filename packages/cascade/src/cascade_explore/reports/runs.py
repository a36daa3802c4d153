"""What a run found, and what can be done with it: tables, JSON and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cascade_explore.config import Crafter, FourRooms, KeyCorridor, LabelConfig, MultiRoom
from cascade_explore.envs.families import make_layouts
from cascade_explore.envs.layouts import WALL
from cascade_explore.reports.achievements import achievements_report
from cascade_explore.reports.dreams import save_dream
from cascade_explore.reports.folders import made
from cascade_explore.reports.tabular import interval, owner_map
from cascade_explore.tasks.trainer import TaskTrainer, TrueReturn
from cascade_explore.trainer import ExploreTrainer
from paperloop.files import write_json
from paperloop.loop.runner import evaluate, run
from paperloop_lab.plots import band, new_figure, save_figure

__all__ = ["explored_report", "label_run", "ledger_rows"]


def ledger_rows(trainer: ExploreTrainer, state: Any) -> list[dict[str, Any]]:
    """Return the ledger as one object a deployment that was made; lists are over seeds."""
    book = jax.device_get(state.ledger)
    made = int((book.env_steps[0] > 0).sum())
    skipped = () if trainer.cells is not None else ("coverage", "entropy", "distinct")
    rows = []
    for k in range(made):
        row: dict[str, Any] = {"deployment": k + 1}
        row |= {name: np.asarray(x)[:, k].tolist() for name, x in book._asdict().items() if name not in skipped}
        row["policies"] = [f"{value:08x}" for value in row["policies"]]
        rows.append(row)
    return rows


def explored_report(trainer: ExploreTrainer, state: Any, out: Path, *, quiet: bool = False) -> None:
    """Write ledger.json and what else there is to show, and print a table.

    Where cells can be counted coverage.png and who-went-where.png, where pictures are seen dream.gif, in Crafter
    achievements.json and achievements.png.
    """
    rows = ledger_rows(trainer, state)
    write_json(made(out) / "ledger.json", rows)
    files = ["ledger.json"]
    if trainer.cells is not None:
        cover = np.array([row["coverage"] for row in rows]).T
        figure, axes = new_figure(5.0, 3.4)
        band(axes, np.arange(1, len(rows) + 1), interval(cover), 0)
        axes.set_xlabel("deployments")
        axes.set_ylabel("reachable cells visited")
        save_figure(figure, out / "coverage.png")
        save_figure(_went_where(trainer, state, len(rows)), out / "who-went-where.png")
        files += ["coverage.png", "who-went-where.png"]
    if save_dream(trainer, state, out / "dream.gif") is not None:
        files.append("dream.gif")
    if isinstance(trainer.config.env, Crafter):
        files += achievements_report(trainer, state, out, quiet=quiet)
    if quiet:
        return
    names = [n for n in ("env_steps", "episodes", "reward", "coverage", "entropy", "distinct") if n in rows[0]]
    print("| deployment | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 1))
    for row in rows:
        print(f"| {row['deployment']} | " + " | ".join(f"{np.mean(row[name]):.4g}" for name in names) + " |")
    print(f"\n{', '.join(files)}: {out}")


def _went_where(trainer: ExploreTrainer, state: Any, made: int) -> Any:
    """Return a map for each deployment of the first seed and layout: the colour of a cell is its foremost visitor."""
    env = trainer.config.env
    assert isinstance(env, FourRooms | MultiRoom | KeyCorridor)
    walls = make_layouts(env)[0].cells[..., 0] == WALL
    visits = np.asarray(jax.device_get(state.visits))[0, :, :, 0]
    figure, panels = new_figure(2.6 * made, 2.9, 1, made)
    for k, axes in enumerate(np.ravel(panels)):
        axes.imshow(owner_map(visits[k], walls).transpose(1, 0, 2), interpolation="nearest")
        axes.set_title(f"deployment {k + 1}")
        axes.set_axis_off()
    return figure


def label_run(config: LabelConfig, out: Path, *, seed: int, episodes: int, quiet: bool) -> dict[str, Any]:
    """Learn tasks, try them in the environment, print a table and write tasks.json.

    Next to each return stands that of uniform actions: the labels of the first deployment, by episodes begun.
    """
    trainer = TaskTrainer(config)
    state = run(trainer, out, steps=config.steps, seed=seed, log_every=1, progress=not quiet)
    found = evaluate(trainer, state, {"environment": TrueReturn(trainer, episodes)}, seed=seed)["environment"]
    numbers = {name: np.asarray(value).tolist() for name, value in found.items()}
    begun = np.asarray(trainer.data.first[:, 0]).sum((1, 2))
    chance = np.asarray(trainer.data.reward[:, 0]).sum((1, 2)) / begun[:, None]
    numbers |= {f"{task}/random": chance[:, i].tolist() for i, task in enumerate(config.tasks)}
    checksum = [f"{value:08x}" for value in trainer.checksum]
    write_json(out / "tasks.json", {"episodes": episodes, "world_model": checksum, "tasks": numbers})
    if not quiet:
        print("| task | return | of random actions | episodes with a positive return |\n|---|---|---|---|")
        for task in config.tasks:
            gain, chance, share = (np.mean(numbers[f"{task}/{what}"]) for what in ("return", "random", "success"))
            print(f"| {task} | {gain:.3f} | {chance:.3f} | {share:.0%} |")
        print(f"\ntasks.json: {out}")
    return numbers
