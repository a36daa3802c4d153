"""Does a cascade explore more than a population, one explorer or chance, with a learned model? MiniGrid, four tiers.

    python -m benchmarks.cascade.rooms --tier smoke               # a minute: everything runs
    python -m benchmarks.cascade.rooms --tier cpu --runs FOLDER   # half an hour of one core; the same command resumes
    python -m benchmarks.cascade.rooms --tier four_rooms --runs FOLDER   # without doors; an hour of one core
    python -m benchmarks.cascade.rooms --tier gpu --runs FOLDER   # ten agents, larger model, six rooms, ten deployments
    python -m benchmarks.cascade.rooms --tier cpu --runs FOLDER --zero-shot   # goals learned from those runs

Every arm gets the same steps in the environment, the same streams of data, the same model and the same updates; the
first deployment is random in all. What counts is the share of reachable cells visited by the deployments' data.

Claims, each of which can fail, by intervals over seeds after the last deployment: the cascade covers more than the
population, than one explorer, and than random data. Control: the population is the cascade with nothing but the
diversity term taken away. The paper's own margin over random data is small.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.cascade.zero_shot import study
from benchmarks.harness import figure_path, record, table, write_result
from cascade_explore.config import (
    Actor,
    Cascade,
    FourRooms,
    InfoGain,
    MultiRoom,
    Plan2Explore,
    Population,
    Random,
    TrainConfig,
    Variance,
    WorldModel,
)
from cascade_explore.trainer import ExploreTrainer
from paperloop import run
from paperloop_lab.plots import band, legend, new_figure
from paperloop_lab.stats import Interval, probability_of_improvement, stratified_bootstrap

Json = dict[str, Any]


class Tier(NamedTuple):
    """A configuration's sizes, and the seeds of every arm."""

    base: TrainConfig
    agents: int
    actor: Actor
    seeds: int


_TINY = WorldModel(deter=16, groups=2, classes=4, hidden=16, units=16, layers=1, heads=2, batch=4, length=8)
_SMALL = WorldModel(deter=64, groups=8, classes=8, hidden=64, units=64, layers=2, batch=8, length=16, lr=1e-3,
                    ensemble_lr=1e-3)  # fmt: skip
TIERS = {
    "smoke": Tier(
        TrainConfig(env=MultiRoom(), world=_TINY, explorer=Random(), deployments=2, env_steps=256, envs=1, updates=2,
                    updates_per_step=2),
        2, Actor(horizon=3, starts=8, units=16, layers=1), 2,
    ),
    "cpu": Tier(
        TrainConfig(env=MultiRoom(rooms=4, size=5), world=_SMALL, explorer=Random(), deployments=5, env_steps=2000,
                    envs=1, updates=500, updates_per_step=50),
        4, Actor(horizon=10, starts=32, units=64, layers=2, lr=1e-3, critic_lr=1e-3), 5,
    ),
    "four_rooms": Tier(
        TrainConfig(env=FourRooms(), world=replace(_SMALL, lr=3e-3, ensemble_lr=3e-3), explorer=Random(),
                    deployments=6, env_steps=2000, envs=1, updates=2000, explorers_every=4, updates_per_step=100),
        4, Actor(horizon=10, starts=32, units=64, layers=2, lr=1e-3, critic_lr=1e-3), 5,
    ),
    "gpu": Tier(
        TrainConfig(env=MultiRoom(rooms=6, size=10), explorer=Random(), deployments=10, env_steps=10_000, envs=1,
                    world=WorldModel(deter=256, groups=16, classes=16, hidden=256, units=256, batch=16), updates=2000,
                    updates_per_step=100),
        10, Actor(horizon=15, starts=400, units=256), 10,
    ),
}  # fmt: skip


def arms(tier: Tier) -> dict[str, TrainConfig]:
    """Return name -> configuration. Every arm has the same number of streams, spread over its agents."""
    streams, b, actor = 2 * tier.agents, tier.agents, tier.actor
    explorers = {
        "random": Random(),
        "one explorer": Plan2Explore(actor=actor),
        "population": Population(agents=b, actor=actor),
        "cascade": Cascade(agents=b, actor=actor, share=0.3, diversity=Variance()),
        "cascade, info gain": Cascade(agents=b, actor=actor, share=0.5, diversity=InfoGain()),
    }
    return {
        name: _with(tier.base, explorer, streams // getattr(explorer, "agents", 1))
        for name, explorer in explorers.items()
    }


def _with(base: TrainConfig, explorer: Any, envs: int) -> TrainConfig:
    values = {name: getattr(base, name) for name in TrainConfig.__dataclass_fields__}  # ty: ignore
    return TrainConfig(**{**values, "explorer": explorer, "envs": envs})


def folder_of(runs: Path, arm: str, seed: int) -> Path:
    """Return where the run of an arm and seed is kept."""
    return runs / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"


def explore(trainer: ExploreTrainer, folder: Path, seed: int) -> Json:
    """Return what one run found, continuing what is in its folder."""
    state = run(trainer, folder, steps=trainer.config.steps, seed=seed, progress=False, keep=1)
    book = jax.device_get(state.ledger)
    return {name: np.asarray(getattr(book, name))[0].tolist() for name in ("coverage", "entropy", "distinct", "reward")}


def over_seeds(rows: list[list[float]]) -> Interval:
    """Return mean and interval over seeds, deployment by deployment."""
    columns = [stratified_bootstrap(np.array(c), "mean", reps=2000) for c in np.array(rows).T]
    return Interval(*(np.array([float(getattr(c, part)) for c in columns]) for part in ("point", "low", "high")))


def draw(numbers: Mapping[str, list[Json]]) -> Any:
    """Return coverage over deployments."""
    figure, axes = new_figure(5.6, 3.8)
    for i, (arm, runs) in enumerate(numbers.items()):
        curves = over_seeds([one["coverage"] for one in runs])
        band(axes, np.arange(1, len(curves.point) + 1), curves, i, arm)
    axes.set_xlabel("deployments")
    axes.set_ylabel("reachable cells visited")
    legend(axes)
    return figure


def verdicts(numbers: Mapping[str, list[Json]]) -> dict[str, bool]:
    """Return claim -> whether its intervals are apart after the last deployment."""
    ends = {arm: over_seeds([one["coverage"][-1:] for one in runs]) for arm, runs in numbers.items()}
    return {
        f"{ours} covers more than {rival}": bool(ends[ours].low[0] > ends[rival].high[0])
        for ours in ("cascade", "cascade, info gain")
        for rival in ("population", "one explorer", "random")
        if ours in ends and rival in ends
    }


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.rooms", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, help="where the runs are kept; none: a temporary folder")
    parser.add_argument("--seeds", type=int, help="of every arm (default: the tier's)")
    parser.add_argument("--zero-shot", action="store_true", help="learn goals from the runs that are there, instead")
    parser.add_argument("--updates", type=int, default=500, help="of the goals' policies")
    parser.add_argument("--only", nargs="*", help="some of the arms; the result has its own name")
    args = parser.parse_args(argv)
    tier = TIERS[args.tier]
    chosen = {name: config for name, config in arms(tier).items() if not args.only or name in args.only}
    seeds, part = range(args.seeds or tier.seeds), "-only" if args.only else ""
    if args.zero_shot:
        if args.runs is None:
            parser.error("--zero-shot needs --runs")
        folders = {name: [folder_of(args.runs, name, seed) for seed in seeds] for name in chosen}
        actor = replace(tier.actor, entropy=3e-3)
        return study(chosen, folders, actor, name=f"cascade_zero_shot-{args.tier}{part}", updates=args.updates,
                     argv=sys.argv[1:] if argv is None else argv)  # fmt: skip
    trainers = {name: ExploreTrainer(config) for name, config in chosen.items()}
    numbers: dict[str, list[Json]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in seeds:
            for name, trainer in trainers.items():
                folder = folder_of(args.runs or Path(temporary), name, seed)
                numbers[name].append(explore(trainer, folder, seed))
                print(f"seed {seed}, {name}: {np.round(numbers[name][-1]['coverage'], 3)}", file=sys.stderr, flush=True)
    rows = []
    for name, runs in numbers.items():
        ends = [over_seeds([one[what][-1:] for one in runs]) for what in ("coverage", "entropy", "distinct")]
        rows.append([name, *(f"{e.point[0]:.3f} [{e.low[0]:.3f}, {e.high[0]:.3f}]" for e in ends)])
    print(table(rows, ["arm", "cells visited", "entropy of visits, bits", "distinct explorers"]))
    curves = {name: over_seeds([one["coverage"] for one in runs]) for name, runs in numbers.items()}
    rows = [[name, *(f"{p:.3f} [{low:.3f}, {high:.3f}]" for p, low, high in zip(*c, strict=True))]
            for name, c in curves.items()]  # fmt: skip
    print(table(rows, ["cells visited after", *(str(k + 1) for k in range(tier.base.deployments))]))
    last = {name: np.array([one["coverage"][-1] for one in runs]) for name, runs in numbers.items()}
    if {"cascade", "population"} <= last.keys():
        print(f"P(cascade > population) = {probability_of_improvement(last['cascade'], last['population'])}")
    claims = verdicts(numbers) if args.tier != "smoke" else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if args.tier != "smoke":
        name = f"cascade_rooms-{args.tier}{part}"
        origin = record("benchmarks.cascade.rooms", sys.argv[1:] if argv is None else argv, ["jax", "cascade-explore"])
        write_result(name, {"record": origin, "arms": numbers, "claims": claims})
        draw(numbers).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
