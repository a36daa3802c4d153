"""Does conditioning on the agents before one explore more than planning alone, when the model is exact? Three tiers.

    python -m benchmarks.cascade.tabular --tier smoke    # seconds: everything runs
    python -m benchmarks.cascade.tabular --tier cpu      # minutes: ten layouts of each family
    python -m benchmarks.cascade.tabular --tier gpu      # a hundred layouts

Claims, each of which can fail:

- In the binary tree a cascade needs ceil(L / B) deployments, and identical agents L: found by planning, exactly.
- In four rooms and in a chain of six rooms the cascade has tried more reachable state-actions after the last deployment
  than population Plan2Explore and than random data: intervals over layouts do not overlap.
- Population Plan2Explore has tried more than random data, with intervals apart.

Control: identical agents, which are what a population is without anything that tells its members apart.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from benchmarks.harness import figure_path, record, table, write_result
from cascade_explore.config import FourRooms, MultiRoom
from cascade_explore.reports.tabular import coverage_figure, interval
from cascade_explore.tabular import tree
from cascade_explore.tabular.rooms import METHODS
from cascade_explore.tabular.study import study

#: Tier -> layouts, agents, deployments.
TIERS = {"smoke": (2, 4, 3), "cpu": (10, 10, 6), "gpu": (100, 10, 6)}


def tree_claims() -> dict[str, bool]:
    """Return whether planning needs exactly what the closed forms say."""
    rng = np.random.default_rng(0)
    cases = [(6, 8), (5, 10), (8, 10)]
    return {
        "tree: a cascade needs ceil(L / B) deployments": all(
            tree.simulate(d, b, "cascade", rng=rng) == tree.cascade_deployments(2**d, b) for d, b in cases
        ),
        "tree: identical agents need L": all(tree.simulate(d, b, "identical", rng=rng) == 2**d for d, b in cases),
    }


def room_claims(name: str, ends: dict[str, Any]) -> dict[str, bool]:
    """Return claim -> whether its intervals are apart."""

    def above(one: str, other: str) -> bool:
        return bool(ends[one].low > ends[other].high)

    return {
        f"{name}: cascade above population Plan2Explore": above("cascade", "population"),
        f"{name}: cascade above random": above("cascade", "random"),
        f"{name}: population Plan2Explore above random": above("population", "random"),
    }


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.tabular", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    layouts, agents, deployments = TIERS[args.tier]
    envs = {"four rooms": FourRooms(layouts=layouts), "six rooms": MultiRoom(rooms=6, size=5, layouts=layouts)}
    claims, numbers, rows, found = tree_claims(), {}, [], {}
    for name, env in envs.items():
        found[name] = study(env, METHODS, agents=agents, deployments=deployments, seed=args.seed)
        ends = {method: interval(values[:, -1]) for method, values in found[name].coverage.items()}
        reached = {method: interval(values[:, -1]) for method, values in found[name].success.items()}
        rows += [[name, method, str(ends[method]), str(reached[method])] for method in METHODS]
        numbers[name] = {
            method: {
                "coverage": found[name].coverage[method].tolist(),
                "success": found[name].success[method].tolist(),
            }
            for method in METHODS
        }
        claims |= room_claims(name, ends)
    print(table(rows, ["rooms", "method", "state-actions tried [95 %]", "goals reached [95 %]"]))
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if args.tier == "smoke":
        return 0
    name = f"cascade_tabular-{args.tier}"
    origin = record("benchmarks.cascade.tabular", sys.argv[1:] if argv is None else argv, ["jax", "cascade-explore"])
    write_result(name, {"record": origin, "rooms": numbers, "claims": claims})
    coverage_figure(found).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
