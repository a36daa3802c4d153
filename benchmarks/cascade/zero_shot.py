"""Goals that nobody named while exploring: what can be learned from each arm's data in its frozen model?

    python -m benchmarks.cascade.rooms --tier cpu --runs FOLDER --zero-shot

Reads the run folders that `benchmarks.cascade.rooms` left in FOLDER. Eight goal cells are chosen by their distance from
the start, from near to far, the same for all arms. Every stored row is labelled by whether the agent is at the goal, a
reward head and a policy are trained for each goal, all in one program, and each policy is tried in the environment.
Success is to reach the goal within an episode. Control: uniform actions in the environment, on the same goals.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import figure_path, record, table, write_result
from cascade_explore.config import Actor, LabelConfig, TrainConfig
from cascade_explore.deploy.collect import collect
from cascade_explore.tasks.labels import describe
from cascade_explore.tasks.trainer import TaskTrainer, TrueReturn, first_episodes
from cascade_explore.trainer import ExploreTrainer
from paperloop import run
from paperloop.errors import UserError
from paperloop_lab.plots import new_figure
from paperloop_lab.stats import stratified_bootstrap

Json = dict[str, Any]


def goal_cells(trainer: ExploreTrainer, count: int = 8) -> list[tuple[tuple[int, int], int]]:
    """Return cells of the first layout with their distance from the start, evenly spaced in the order of distance."""
    reachable = np.asarray(trainer.env.reachable[0])
    start = tuple(int(v) for v in trainer.env.starts.place[0])
    distance, queue = {start: 0}, deque([start])
    while queue:
        x, y = queue.popleft()
        for cell in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if reachable[cell] and cell not in distance:
                distance[cell] = distance[x, y] + 1
                queue.append(cell)
    ordered = sorted((d, cell) for cell, d in distance.items() if d > 0)
    return [(ordered[i][1], ordered[i][0]) for i in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def learned(
    folder: Path, goals: list[tuple[int, int]], actor: Actor, *, updates: int, episodes: int, seed: int
) -> Json:
    """Return success in each goal, and in how many stored rows the agent was there."""
    names = tuple(f"at:{x},{y}" for x, y in goals)
    per_step = max(d for d in range(1, 51) if updates % d == 0)
    trainer = TaskTrainer(
        LabelConfig(run=str(folder), tasks=names, actor=actor, updates=updates, updates_per_step=per_step)
    )
    state = run(trainer, folder / f"zero-shot-{updates}", steps=trainer.config.steps, seed=seed, progress=False, keep=1)
    success = (TrueReturn(trainer, episodes).returns(state, seed)[0] > 0).mean(-1)
    return {"success": success.tolist(), "stored": np.asarray(trainer.data.reward[0]).sum((0, 1, 2)).tolist()}


def by_chance(trainer: ExploreTrainer, goals: list[tuple[int, int]], episodes: int) -> list[float]:
    """Return the success of uniform actions."""
    params = jax.jit(trainer.world.init)(jax.random.key(0))
    rows = jax.device_get(
        collect(
            trainer.env, trainer.world, None, params, None, jax.random.key(1), agents=1, envs=episodes,
            steps=trainer.env.limit + 1, uniform=jnp.bool_(True),
        ).rows
    )  # fmt: skip
    flat = describe(jax.tree.map(lambda x: np.moveaxis(x, 0, 1), rows), trainer.env)
    kept = first_episodes(flat["first"])
    return [float(((flat["place"] == goal).all(-1) & kept).any(-1).mean()) for goal in goals]


def study(
    configs: Mapping[str, TrainConfig], folders: Mapping[str, list[Path]], actor: Actor, *, name: str, updates: int,
    episodes: int = 20, argv: list[str],
) -> int:  # fmt: skip
    """Learn the goals in every arm and seed; print and write success with intervals over seeds.

    Claims, each of which can fail: the cascade reaches more goals than the population and than random data.
    """
    missing = [str(folder) for all_ in folders.values() for folder in all_ if not (folder / "config.json").is_file()]
    if missing:
        raise UserError(f"There is no run in {missing[0]}: run the same command without --zero-shot first.")
    first = ExploreTrainer(next(iter(configs.values())))
    found = goal_cells(first)
    goals, far = [cell for cell, _ in found], [d for _, d in found]
    chance, numbers = by_chance(first, goals, 200), {}
    for arm, runs in folders.items():
        numbers[arm] = []
        for seed, folder in enumerate(runs):
            numbers[arm].append(learned(folder, goals, actor, updates=updates, episodes=episodes, seed=seed))
            print(f"{arm}, seed {seed}: {np.round(numbers[arm][-1]['success'], 2)}", file=sys.stderr, flush=True)
    means = {
        arm: stratified_bootstrap(np.array([np.mean(one["success"]) for one in runs]), "mean", reps=2000)
        for arm, runs in numbers.items()
    }
    rows = [
        [arm, f"{float(m.point):.3f} [{float(m.low):.3f}, {float(m.high):.3f}]",
         *(f"{v:.2f}" for v in np.mean([one["success"] for one in numbers[arm]], 0))]
        for arm, m in means.items()
    ]  # fmt: skip
    rows.append(["uniform actions", f"{np.mean(chance):.3f}", *(f"{v:.2f}" for v in chance)])
    print(table(rows, ["data of", "goals reached", *(f"{d} steps" for d in far)]))
    claims = {
        f"cascade reaches more goals than {rival}": bool(float(means["cascade"].low) > float(means[rival].high))
        for rival in ("population", "one explorer", "random")
        if {"cascade", rival} <= means.keys()
    }
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    origin = record("benchmarks.cascade.rooms", argv, ["jax", "cascade-explore"])
    result = {"goals": goals, "distances": far, "chance": chance, "arms": numbers, "claims": claims}
    write_result(name, {"record": origin, "updates": updates, "episodes": episodes, **result})
    figure, axes = new_figure(5.6, 3.8)
    for arm, runs in numbers.items():
        axes.plot(far, np.mean([one["success"] for one in runs], 0), marker="o", label=arm)
    axes.plot(far, chance, "k:", label="uniform actions")
    axes.set_xlabel("distance of the goal from the start, cells")
    axes.set_ylabel("episodes that reach it")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1
