"""How fast whole training cycles run next to minimax-lib, method by method and architecture by architecture.

    python -m benchmarks.minimax_cycles                       # all eight; one to two hours on two cores
    python -m benchmarks.minimax_cycles --only paired-lstm --only accel-s5 --rounds 3

DR, robust PLR, ACCEL and PAIRED with LSTM-256 and S5, each in the configuration that minimax-lib 0.2.0 ships for it
(`peers/minimax_arms.py`): 32 environments x 256 steps, 5 epochs x 1 minibatch, the same network to the parameter.
Goal: each at least twice as fast as the faster of the peer's two versions, on two cores.

A robust method draws lots in each cycle: replay and learn, or only look at fresh levels. The two cost very different
times, so that lots would be most of the noise. Instead single cycles of either kind are timed, each with the device
waited for and compiling left out, and put together by the share that each has in the method's schedule. Both kinds are
in the result. Which kind a cycle is decides the content of the buffer: one too empty to replay, or one that is full
enough with the replay probability at 1.

Each configuration is measured on its own and kept in the result file until it is measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import ChildProcess, Comparison, Json, alternate, record, table, write_result
from benchmarks.peers.minimax_arms import ARMS, Arm, kinds

NAME = "minimax_cycles"
OURS = ("minimax-ued", "minimax-ued x2")
CLOCKS = ("wall_s", "cpu_s")
GOAL = 2.0


def contestants(arm: Arm, cores: Sequence[int] | None, learn: int, look: int) -> list[ChildProcess]:
    """Ours on one and on two devices, and both versions of the peer."""
    flags = [arm.name, f"--learn={learn}", f"--look={look}"]
    ours = ["benchmarks/peers/minimax_ued_cycle.py", *flags]
    peer = ["benchmarks/peers/minimax_lib_cycle.py", *flags]
    return [
        ChildProcess(OURS[0], ours, cores=cores),
        ChildProcess(OURS[1], [*ours, "--devices=2"], cores=cores),
        ChildProcess("minimax-lib", peer, cores=cores, peer="minimax-lib"),
        ChildProcess("minimax-lib, new jax", peer, cores=cores, peer="minimax-lib-jax010", source="src"),
    ]


def same_work(arm: Arm, comparison: Comparison) -> Json:
    """Whether all trained the networks of the table, and did or left out an update where they should."""
    checks: Json = {}
    for name, trials in comparison.trials.items():
        info, last = comparison.info[name], trials[-1]
        learned = {kind: all(trial["stats"][kind]["learned"] for trial in trials) for kind in kinds(arm)}
        looked = {kind: any(trial["stats"][kind]["learned"] for trial in trials) for kind in kinds(arm)}
        entropy = last["stats"]["learn"]["entropy"]
        checks[name] = {
            "parameters": info["parameters"],
            "teacher_parameters": info["teacher_parameters"],
            "entropy": entropy,
            "walls": last["walls"],
            "equal": info["parameters"] == arm.parameters
            and info["teacher_parameters"] == arm.teacher_parameters
            and learned["learn"]
            and not looked.get("look", False)
            and entropy is not None
            and abs(entropy - math.log(7)) < 0.05,
        }
    walls = [check["walls"] for check in checks.values() if check["walls"] is not None]
    if walls:  # levels of the buffer: from the same generator, and edited by as much
        checks["walls"] = {"spread": max(walls) - min(walls), "equal": max(walls) - min(walls) < 2}
    checks["equal"] = all(check["equal"] for check in checks.values())
    return checks


def measure(arm: Arm, rounds: int, cores: Sequence[int] | None, learn: int, look: int) -> tuple[Json, str]:
    """Measure one configuration; returns the result and its table."""
    comparison, checks = alternate(contestants(arm, cores, learn, look), rounds, lambda c: same_work(arm, c))
    peers = [name for name in comparison.trials if name not in OURS]
    ours, peer = comparison.fastest(OURS), comparison.fastest(peers)
    rows = [
        [
            name,
            *(f"{1 / comparison.rate(name, clock):.2f}" for clock in CLOCKS),
            *(
                f"{statistics.median(trial['kinds'][kind]['wall_s'] for trial in comparison.trials[name]):.2f}"
                for kind in kinds(arm)
            ),
            *(str(comparison.ratio(ours, name, clock)) if ours not in (None, name) else "" for clock in CLOCKS),
            f"{comparison.info[name]['setup_wall_s']:.0f}",
        ]
        for name in comparison.trials
    ]
    header = (
        "contestant",
        "s/cycle",
        "CPU-s",
        *(f"{kind} s" for kind in kinds(arm)),
        f"{ours} faster, wall",
        "per CPU-s",
        "setup s",
    )
    text = [f"\n{arm.name}", table(rows, header)]
    text += [f"skipped: {reason}" for reason in comparison.skipped.values()]
    result: Json = {
        "arm": asdict(arm),
        "shares": kinds(arm),
        "rounds": rounds,
        "info": comparison.info,
        "trials": comparison.trials,
        "skipped": comparison.skipped,
        "checks": checks,
        "seconds": {name: {c: 1 / comparison.rate(name, c) for c in CLOCKS} for name in comparison.trials},
        "ratios": {
            name: {p: {c: asdict(comparison.ratio(name, p, c)) for c in CLOCKS} for p in peers}
            for name in OURS
            if name in comparison.trials
        },
    }
    if checks is not None:
        text.append("same work: " + ("yes" if checks["equal"] else "NO, see the result file"))
    if ours is not None and peer is not None:
        ratio = comparison.ratio(ours, peer)
        passed = bool(ratio.median >= GOAL and checks and checks["equal"])
        result |= {"goal": GOAL, "fastest_peer": peer, "ours": ours, "ratio": asdict(ratio), "passed": passed}
        text.append(f"goal {GOAL:g}x the fastest peer ({peer}): {ratio} -> {'met' if passed else 'NOT met'}")
    return result, "\n".join(text)


def summary(arms: Json) -> str:
    """The table of all configurations that are in the result file and met a peer."""
    rows = [
        [
            name,
            f"{arm['seconds'][arm['ours']]['wall_s']:.2f}",
            f"{arm['seconds'][arm['fastest_peer']]['wall_s']:.2f}",
            f"{arm['ratio']['median']:.2f}x ({arm['ratio']['low']:.2f} .. {arm['ratio']['high']:.2f})",
            "met" if arm["passed"] else "NOT met",
        ]
        for name, arm in arms.items()
        if "ratio" in arm
    ]
    return table(rows, ("cycle of", "minimax-ued s", "fastest peer s", "faster", f"goal {GOAL:g}x"))


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax_cycles", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=tuple(ARMS), action="append", help="measure only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--learn", type=int, default=1, help="cycles with an update in one trial")
    parser.add_argument("--look", type=int, default=3, help="cycles without an update in one trial")
    parser.add_argument("--cores", type=int, default=2, help="cores that every contestant is pinned to")
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args(arguments)
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = available[: args.cores] if available else None
    path = (args.out or harness.RESULTS) / f"{NAME}.json"
    arms: Json = json.loads(path.read_text())["arms"] if path.exists() and not args.no_write else {}
    for name in args.only or ARMS:
        origin = record(f"benchmarks.{NAME}", arguments, ["minimax-ued"])
        result, text = measure(ARMS[name], args.rounds, cores, args.learn, args.look)
        print(text, flush=True)
        arms[name] = {**origin, "pinned_cores": len(cores) if cores else None, **result}
        if not args.no_write:
            ordered = {known: arms[known] for known in ARMS if known in arms}
            write_result(NAME, {"benchmark": NAME, "arms": ordered}, args.out)
    print("\n" + summary(arms))
    return 0


if __name__ == "__main__":
    sys.exit(main())
