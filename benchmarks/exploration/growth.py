"""Does a learner that edits what it learns from come to pass more families of mazes than one that edits at random?

    python -m benchmarks.exploration.growth --tier smoke|cpu|gpu

Reported, arm by arm over seeds: families passed at the end, families passed once and lost, and how often a measurement
found the learner more general than the one before. The claim: some criterion passes more families than uniform,
intervals apart, and loses none.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Json, figure_path, record, table, write_result
from generalized_exploration.config import GROW_PRESETS
from generalized_exploration.outer.trainer import GrowthTrainer
from generalized_exploration.report import growth_figure, growth_table
from paperloop import run
from paperloop.settings import replace_in

__all__ = ["TIERS", "main", "verdicts"]

TIERS: dict[str, dict[str, Any]] = {
    "smoke": {"steps": 4, "steps_per_dispatch": 2, "seeds": 2, "capacity": 16, "batch": 4, "proposals": 4, "width": 8},
    "cpu": {"size": 9, "walls": 30, "threshold": 0.6, "seeds": 3, "steps": 6000},
    "gpu": {"steps": 60_000, "width": 512, "batch": 256, "proposals": 256, "capacity": 16_384},
}


def verdicts(rows: list[Json]) -> dict[str, bool]:
    """Return claim -> whether it holds."""
    uniform = next(row for row in rows if row["arm"] == "uniform")
    others = [row for row in rows if row["arm"] != "uniform"]
    return {
        "a criterion passes more families than uniform, intervals apart": any(
            row["passed"][1] > uniform["passed"][2] for row in others
        ),
        "and loses none of those it passed": any(
            row["passed"][1] > uniform["passed"][2] and row["lost"][0] == 0 for row in others
        ),
    }


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration.growth")
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/exploration"))
    args = parser.parse_args(argv)
    trainer = GrowthTrainer(replace_in(GROW_PRESETS["mazes"], TIERS[args.tier]))
    folder = args.runs / f"growth-{args.tier}"
    wall = time.perf_counter()
    run(trainer, folder, steps=trainer.config.dispatches, log_every=1)
    rows = growth_table(folder)
    cells = [
        [row["arm"], *(f"{row[n][0]:.2f} [{row[n][1]:.2f}, {row[n][2]:.2f}]" for n in list(row)[1:])] for row in rows
    ]
    print(table(cells, list(rows[0])))
    claims = verdicts(rows) if args.tier != "smoke" else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if args.tier != "smoke":
        origin = record("benchmarks.exploration.growth", sys.argv[1:] if argv is None else argv, ["jax"])
        took = time.perf_counter() - wall
        name = f"exploration_growth-{args.tier}"
        write_result(name, {"record": origin, "wall_s_of_this_call": took, "arms": rows, "claims": claims})
        growth_figure(folder).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
