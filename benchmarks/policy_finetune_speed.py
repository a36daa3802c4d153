"""Updates a second of policy-finetune next to sbx, JAX-CORL and CORL, and how far they are from the hardware.

    python -m benchmarks.policy_finetune_speed               # ten to fifteen minutes on a quiet machine
    python -m benchmarks.policy_finetune_speed --rounds 1 --updates 100

TD3-type updates at Hopper's sizes: observations 11, actions 3, batch 256, actor and two critics 256 x 256, the actor
every second update. Each contestant is a process of its own on one pinned core, with the data where its own code keeps
it and sampling included; they take turns, round by round (`harness.py`). Random data: what an update costs does not
depend on its content.

Goals, per agent: 1.2 times sbx, 1.2 times JAX-CORL (with LayerNorm in our critics too, as it has), 2.5 times CORL. Two
agents on two cores are one process of ours on two cores; a user of a peer would start two.

The floor is the arithmetic: the multiplications that the matrix products of one update need, at the rate at which BLAS
or XLA, whichever is faster, multiplies [256, 256] matrices in the same rounds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import ChildProcess, Comparison, Json, alternate, record, table, write_result
from benchmarks.peers.pf_work import macs_per_update, parameters

NAME = "policy_finetune_speed"
CLOCKS = ("wall_s", "cpu_s")
OURS, NORMED, EIGHT, BESIDE, TWO = (
    "policy-finetune",
    "policy-finetune, LayerNorm",
    "policy-finetune, 8 agents",
    "policy-finetune, 8 by vmap",
    "policy-finetune, 2 on 2 cores",
)
FLOORS = ("products by BLAS", "products by XLA")
#: peer -> (ours to compare with it, goal)
GOALS = {"sbx TD3": (OURS, 1.2), "JAX-CORL TD3+BC": (NORMED, 1.2), "CORL TD3+BC, torch": (OURS, 2.5)}


def contestants(cores: Sequence[int] | None, updates: int, only: Sequence[str] | None) -> list[ChildProcess]:
    """All contestants, on the first of `cores`; those that need two have two."""
    one = cores[:1] if cores else None
    folder = "benchmarks/peers/"

    def ours(name: str, *flags: str, agents: int = 1, on: Sequence[int] | None = one) -> ChildProcess:
        each = 2 * -(-updates // (2 * agents))  # a multiple of the actor's delay
        sizes = [f"--agents={agents}", f"--updates={each}", f"--block={min(1000, each)}"]
        return ChildProcess(name, [f"{folder}pf_ours_speed.py", *sizes, *flags], cores=on)

    found = [
        ours(OURS),
        ChildProcess(
            "sbx TD3", [f"{folder}pf_sbx_speed.py", f"--updates={updates}"], peer="sbx", cores=one
        ),
        ours(NORMED, "--layer-norm"),
        ChildProcess(
            "JAX-CORL TD3+BC", [f"{folder}pf_jax_corl_speed.py", f"--updates={updates}"], peer="jax-corl",
            source="src", cores=one,
        ),
        ChildProcess(
            "CORL TD3+BC, torch", [f"{folder}pf_corl_speed.py", f"--updates={-(-updates // 2)}"], peer="corl",
            source="src", cores=one,
        ),
        ours(EIGHT, agents=8),
        ours(BESIDE, "--together=8", agents=8),
        ChildProcess(FLOORS[0], [f"{folder}pf_floor.py", "blas"], cores=one),
        ChildProcess(FLOORS[1], [f"{folder}pf_floor.py", "xla"], cores=one),
    ]  # fmt: skip
    if cores and len(cores) > 1:
        found.append(ours(TWO, "--devices=2", agents=2, on=cores[:2]))
    return [contestant for contestant in found if not only or contestant.name in only]


def same_work(comparison: Comparison) -> Json:
    """Whether all trained the same networks, updated as often as they say, and stayed finite."""
    checks: Json = {}
    for name, trials in comparison.trials.items():
        if name in FLOORS:
            continue
        info = comparison.info[name]
        wanted = parameters(bool(info.get("layer_norm")))
        losses = [value for trial in trials for value in trial["stats"].values()]
        counted = all(trial["updates"] * info.get("agents", 1) == trial["work"] > 0 for trial in trials)
        delayed = all(2 * trial["actor_updates"] == trial["updates"] for trial in trials if "actor_updates" in trial)
        checks[name] = {
            "parameters": info["parameters"],
            "expected": wanted,
            "finite": bool(losses) and all(map(math.isfinite, losses)),
            "equal": info["parameters"] == wanted and counted and delayed and all(map(math.isfinite, losses)),
        }
    checks["equal"] = all(check["equal"] for check in checks.values())
    return checks


def report(comparison: Comparison, checks: Json | None) -> tuple[Json, str]:
    """The figures and their table."""
    names = list(comparison.trials)
    floor = comparison.fastest(FLOORS)
    header = (
        "contestant", "updates/s", "CPU-ms/update", "of the floor", f"{OURS} faster, wall", "per CPU-s", "setup s",
    )  # fmt: skip
    rows = []
    for name in names:
        ratio = [str(comparison.ratio(OURS, name, clock)) if OURS in names and name != OURS else "" for clock in CLOCKS]
        rows.append(
            [
                name,
                f"{comparison.rate(name):,.0f}",
                f"{1000 / comparison.rate(name, 'cpu_s'):.2f}",
                f"{comparison.ratio(name, floor).median:.0%}" if floor else "",
                *ratio,
                f"{comparison.info[name]['setup_wall_s']:.0f}",
            ]
        )
    text = [table(rows, header)]
    result: Json = {
        "updates_per_s": {name: {clock: comparison.rate(name, clock) for clock in CLOCKS} for name in names},
        "ratios": {
            ours: {other: {c: asdict(comparison.ratio(ours, other, c)) for c in CLOCKS} for other in names}
            for ours in (OURS, NORMED, EIGHT, BESIDE, TWO)
            if ours in names
        },
        "macs_per_update": macs_per_update(),
        "goals": {},
    }
    if floor:
        speeds = [trial["gflop"] / trial["wall_s"] for trial in comparison.trials[floor]]
        result["floor"] = {
            "by": floor,
            "gflop_per_s": statistics.median(speeds),
            "ms_per_update": 1000 / comparison.rate(floor),
            "of_the_floor": {name: asdict(comparison.ratio(name, floor)) for name in names if name not in FLOORS},
        }
        text.append(
            f"\nfloor: {2 * macs_per_update() / 1e9:.3f} GFLOP an update at {statistics.median(speeds):.0f} GFLOP/s "
            f"({floor}) = {1000 / comparison.rate(floor):.2f} ms"
        )
    for peer, (ours, goal) in GOALS.items():
        if peer not in names or ours not in names:
            continue
        ratio = comparison.ratio(ours, peer)
        met = bool(ratio.median >= goal and checks and checks["equal"])
        result["goals"][peer] = {"ours": ours, "goal": goal, "ratio": asdict(ratio), "met": met}
        text.append(f"goal {goal:g}x {peer} ({ours}): {ratio} -> {'met' if met else 'NOT met'}")
    text += [f"skipped: {reason}" for reason in comparison.skipped.values()]
    if checks is not None:
        text.append("same work: " + ("yes" if checks["equal"] else "NO, see the result file"))
    return result, "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=1000, help="agents' updates in one trial (torch: half)")
    parser.add_argument(
        "--only", action="append", metavar="CONTESTANT", help="by its name in the table; may be repeated"
    )
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    origin = record(f"benchmarks.{NAME}", arguments, ["policy-finetune", "paperloop", "jax", "jaxlib", "numpy"])
    comparison, checks = alternate(contestants(cores, args.updates, args.only), args.rounds, same_work)
    if not comparison.trials:
        print("\n".join(["nobody took part", *comparison.skipped.values()]))
        return 1
    figures, text = report(comparison, checks)
    print(text)
    if not args.no_write:
        result = {
            "benchmark": NAME,
            **origin,
            "rounds": args.rounds,
            **figures,
            "checks": checks,
            "info": comparison.info,
            "trials": comparison.trials,
            "skipped": comparison.skipped,
        }
        print(write_result(NAME, result, args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
