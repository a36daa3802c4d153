"""Is our Crafter the published one? Success rates and score of uniform actions next to Hafner's (2022).

    python -m benchmarks.cascade.crafter --episodes 300      # about four minutes of one core

Claims, each of which can fail: the rates of wake_up, collect_sapling and collect_wood lie within three standard errors
of the published ones (their spread over seeds and our sampling error together), and the score rounds to the published
1.6 within .3, which is what that many episodes allow.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks.harness import record, table, write_result
from cascade_explore.config import Crafter
from cascade_explore.deploy.measures import crafter_score
from cascade_explore.envs.host import HostEnvs

#: Mean and standard deviation over seeds of a random policy, in percent.
PUBLISHED = {"wake_up": (94, 4), "collect_sapling": (50, 9), "collect_wood": (24, 8)}
SCORES = {"random": 1.6, "RND": 2.0, "Plan2Explore": 2.1}


def play(episodes: int, seed: int) -> tuple[np.ndarray, list[str], int]:
    """Return success rates over episodes of uniform actions, the achievements' names, and the steps done."""
    envs, rng = HostEnvs(Crafter(), 1), np.random.default_rng(seed)
    envs.begin(np.array([seed]))
    found, steps = [], 0
    while len(found) <= episodes:
        row = envs.step(rng.integers(0, envs.actions.size, 1))
        if row.first[0]:
            found.append(np.zeros(len(envs.facts)))
            if len(found) % 50 == 0:
                print(f"{len(found)} episodes, {steps} steps", file=sys.stderr, flush=True)
        found[-1] = np.maximum(found[-1], row.facts[0])
        steps += 1
    return np.mean(found[:-1], 0), list(envs.facts), steps


def main(argv: list[str] | None = None) -> int:
    """Play and write the result; 0 if all claims hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.crafter", description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    rates, names, steps = play(args.episodes, args.seed)
    ours, score = dict(zip(names, 100 * rates, strict=True)), crafter_score(rates)
    claims, rows = {}, []
    for name, (mean, spread) in PUBLISHED.items():
        error = np.sqrt(spread**2 + mean * (100 - mean) / args.episodes)
        claims[name] = bool(abs(ours[name] - mean) <= 3 * error)
        rows.append([name, f"{ours[name]:.1f}", f"{mean} ± {spread}", "yes" if claims[name] else "NO"])
    claims["score"] = abs(score - SCORES["random"]) <= 0.3
    rows.append(["score", f"{score:.2f}", "1.6", "yes" if claims["score"] else "NO"])
    print(table(rows, ["%", "ours", "published", "agrees"]))
    argv = sys.argv[1:] if argv is None else argv
    origin = record("benchmarks.cascade.crafter", argv, ["crafter", "cascade-explore"])
    result = {"episodes": args.episodes, "steps": steps, "score": score, "rates": ours, "claims": claims}
    write_result("cascade_crafter", {"record": origin, "published": PUBLISHED, "scores": SCORES, **result})
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
