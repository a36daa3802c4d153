"""How fast the maze and the whole training cycle run, next to the peers on the same cores.

    python -m benchmarks.minimax_speed                    # everything; about ten minutes
    python -m benchmarks.minimax_speed --part env --rounds 9

Three comparisons, each alternately, each with the check that all played the same game:

- `env`: 256 mazes of 13x13 with 60 walls under the random policy, an episode that ends is followed by one on a fresh
  random level. Goal: 5 times the faster peer.
- `step`: the same without following episodes, so the dynamics and the observation alone.
- `train`: whole cycles of domain randomisation, 32 environments x 256 steps, LSTM-256 student, 5 epochs x 1 minibatch.
  Goal: 1.5 times the faster peer on two cores.

Peers: jaxued and minimax-lib (as released, on jax 0.4.35; and on current jax). See peers.md for how to install them.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import ChildProcess, Comparison, Json, alternate, record, table, write_result

OURS = ("minimax-ued", "minimax-ued x2")
CLOCKS = ("wall_s", "cpu_s")
GOALS = {"env": 5.0, "train": 1.5}
SIZES = {
    "env": {"batch": 256, "length": 100, "scans": 10},
    "step": {"batch": 256, "length": 100, "scans": 100},
    "train": {"batch": 32, "length": 256, "scans": 2},
}
#: A peer spends longer on the same work; it gets fewer scans a trial, and rates are per unit of work.
PEER_SCANS = {"env": 3, "step": 40, "train": 1}


def contestants(part: str, cores: Sequence[int] | None) -> list[ChildProcess]:
    size = SIZES[part]
    flags = [f"--batch={size['batch']}", f"--length={size['length']}"]

    def child(name: str, script: str, scans: int, *extra: str, **where: Any) -> ChildProcess:
        command = [f"benchmarks/peers/{script}", part, *flags, f"--scans={scans}", *extra]
        return ChildProcess(name, command, cores=cores, **where)

    ours = [child(OURS[0], "ours_maze.py", size["scans"])]
    if part == "train":
        ours.append(child(OURS[1], "ours_maze.py", size["scans"], "--devices=2"))
    scans = PEER_SCANS[part]
    return [
        *ours,
        child("jaxued", "jaxued_maze.py", scans, peer="jaxued", source="src"),
        child("minimax-lib", "minimax_lib_maze.py", scans, peer="minimax-lib"),
        child("minimax-lib, new jax", "minimax_lib_maze.py", scans, peer="minimax-lib-jax010", source="src"),
    ]


def same_game(part: str, comparison: Comparison) -> Json:
    """Compare what the contestants did, in units of the standard error of each difference from the pooled value."""
    checks: Json = {}
    for name in comparison.trials:
        info, trials = comparison.info[name], comparison.trials[name]
        if part == "train":
            checks[name] = {
                "parameters": info["parameters"],
                "entropy": trials[0]["entropy"],
                # The direction embedding is a table in one and a dense layer with bias in the other.
                "equal": abs(info["parameters"] - 432_924) <= 5 and abs(trials[0]["entropy"] - math.log(7)) < 0.05,
            }
        else:
            checks[name] = _environment_check(part, comparison, name)
    checks["equal"] = all(check["equal"] for check in checks.values())
    return checks


def _environment_check(part: str, comparison: Comparison, name: str) -> Json:
    """Levels against their expectation; episodes, rewards and observations against all contestants together."""
    levels, trials = comparison.info[name]["level_statistics"], comparison.trials[name]
    every = [trial for other in comparison.trials.values() for trial in other]
    steps, all_steps = sum(t["work"] for t in trials), sum(t["work"] for t in every)
    image = sum(t["image_mean"] * t["work"] for t in trials) / steps
    all_image = sum(t["image_mean"] * t["work"] for t in every) / all_steps
    check = {"level_statistics": levels, "image_mean": image}
    # 60 draws of 169 cells leave 169 (1 - (168/169)^60) = 50.63 distinct walls; .857 of the levels can be solved.
    n = levels["levels"]
    z = [(levels["walls_mean"] - 50.63) / (2.5 / math.sqrt(n)), (levels["solvable"] - 0.857) / math.sqrt(0.1225 / n)]
    equal = max(map(abs, z)) < 4 and abs(image / all_image - 1) < 0.03
    if part == "env":  # without following episodes, all environments stay where they ended
        episodes = sum(t["episodes"] for t in trials)
        expected = sum(t["episodes"] for t in every) / all_steps * steps
        z.append((episodes - expected) / math.sqrt(expected))
        check |= {
            "steps_per_episode": steps / episodes,
            "return_per_episode": sum(t["reward_sum"] for t in trials) / episodes,
        }
        equal = equal and abs(z[-1]) < 4 + 0.01 * math.sqrt(expected)
    return check | {"z": z, "equal": equal}


def measure(part: str, rounds: int, cores: Sequence[int] | None) -> tuple[Json, str]:
    comparison, checks = alternate(contestants(part, cores), rounds, lambda c: same_game(part, c))
    peers = [name for name in comparison.trials if name not in OURS]
    ours = comparison.fastest(OURS)
    rows = [
        [
            name,
            f"{comparison.rate(name):,.0f}",
            f"{comparison.rate(name, 'cpu_s'):,.0f}",
            *(str(comparison.ratio(ours, name, clock)) if ours not in (None, name) else "" for clock in CLOCKS),
            f"{comparison.info[name]['setup_wall_s']:.0f}",
        ]
        for name in comparison.trials
    ]
    header = ("contestant", "steps/s", "steps/CPU-s", f"{ours} faster, wall", "per CPU-s", "setup s")
    text = [f"\n{part}", table(rows, header)]
    text += [f"skipped: {reason}" for reason in comparison.skipped.values()]
    result: Json = {
        "sizes": SIZES[part],
        "rounds": rounds,
        "info": comparison.info,
        "trials": comparison.trials,
        "skipped": comparison.skipped,
        "checks": checks,
        "rates": {n: {c: comparison.rate(n, c) for c in CLOCKS} for n in comparison.trials},
        "ratios": {
            n: {p: {c: comparison.ratio(n, p, c) for c in CLOCKS} for p in peers}
            for n in OURS
            if n in comparison.trials
        },
    }
    if checks is not None:
        text.append("same game: " + ("yes" if checks["equal"] else "NO, see the result file"))
    fastest = comparison.fastest(peers)
    if part in GOALS and ours is not None and fastest is not None:
        ratio = comparison.ratio(ours, fastest)
        passed = bool(ratio.median >= GOALS[part] and checks and checks["equal"])
        result |= {"goal": GOALS[part], "fastest_peer": fastest, "ours": ours, "ratio": ratio, "passed": passed}
        text.append(f"goal {GOALS[part]:g}x the fastest peer ({fastest}): {ratio} -> {'met' if passed else 'NOT met'}")
    return result, "\n".join(text)


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minimax_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("env", "step", "train"), action="append", help="default: all three")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cores", type=int, default=2, help="cores that every contestant is pinned to")
    parser.add_argument("--out", type=Path, help="folder of the result (default: benchmarks/results)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    args = parser.parse_args(arguments)
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = available[: args.cores] if available else None
    result: Json = {"benchmark": "minimax_speed", **record("benchmarks.minimax_speed", arguments, ["minimax-ued"])}
    result |= {"pinned_cores": len(cores) if cores else None, "parts": {}}
    for part in args.part or ("env", "step", "train"):
        result["parts"][part], text = measure(part, args.rounds, cores)
        print(text, flush=True)
    if not args.no_write:
        print("\nwritten:", write_result("minimax_speed", result, args.out).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
