"""Does the reducible loss learn sooner, and where does each criterion fail? Three tiers.

    python -m benchmarks.exploration.supervised --tier smoke   # seconds: everything runs
    python -m benchmarks.exploration.supervised --tier cpu     # mazes and digits, all arms, five seeds: an hour
    python -m benchmarks.exploration.supervised --tier gpu     # ten times the data, a wider network, 20,000 steps

Runs are folders below --runs and continue where they were stopped. The claims, seed by seed in the median:

- with a good reference the reducible loss reaches uniform's final accuracy in at most half of the steps,
- and ends higher; with a poor reference it ends lower than uniform;
- high loss trains on more wrong labels than uniform, and ends lower.

Reported without a claim: the same at equal operations, and the baselines that see the holdout's labels.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Json, figure_path, record, table, write_result
from generalized_exploration.config import PRESETS
from generalized_exploration.report import read_curves, selection_figure, selection_table
from generalized_exploration.trainer import SelectionTrainer
from paperloop import run
from paperloop.settings import replace_in

__all__ = ["TIERS", "main", "verdicts"]

_TINY = {"steps": 40, "steps_per_dispatch": 20, "seeds": 2, "arms": ["uniform", "loss", "reducible_loss"]}
_LARGE = {"task.train": 600_000, "task.holdout": 400_000, "steps": 20_000, "width": 512}
#: Tier -> preset -> changes.
TIERS: dict[str, dict[str, dict[str, Any]]] = {
    "smoke": {"small": {**_TINY, "task.train": 6400, "task.holdout": 200, "task.test": 50, "reference.epochs": 1}},
    "cpu": {
        "mazes": {},
        "mazes_poor_reference": {"arms": ["uniform", "loss", "reducible_loss"]},
        "digits": {},
        "digits_clean": {},
        "digits_noisy": {},
    },
    "gpu": {"mazes": _LARGE, "mazes_poor_reference": _LARGE},
}


def measure(folder: Path, preset: str, changes: dict[str, Any]) -> Json:
    """Train or continue a run and return its table and curves."""
    trainer = SelectionTrainer(replace_in(PRESETS[preset], changes))
    wall, cpu = time.perf_counter(), time.process_time()
    run(trainer, folder, steps=trainer.config.dispatches, log_every=1)
    arms, curves = read_curves(folder)
    final = {arm: curves["accuracy"][arm][:, -1].tolist() for arm in arms}
    reference = curves["reference_accuracy"][arms[0]][:, -1].tolist()
    return {
        "table": selection_table(folder, trainer.config.steps_per_dispatch), "final": final, "reference": reference,
        "steps": trainer.config.steps, "wall_s_of_this_call": time.perf_counter() - wall,
        "cpu_s_of_this_call": time.process_time() - cpu,
    }  # fmt: skip


def verdicts(found: dict[str, Json]) -> dict[str, bool]:
    """Return claim -> whether it holds; claims whose runs are absent are left out."""

    def rows(name: str) -> dict[str, Json]:
        return {row["arm"]: row for row in found[name]["table"]}

    claims = {}
    if "mazes" in found:
        arms, steps = rows("mazes"), found["mazes"]["steps"]
        until = arms["reducible_loss"]["steps_to_uniform"]
        claims["mazes: the reducible loss reaches uniform's accuracy in half of the steps"] = (
            until is not None and until <= steps / 2
        )
        claims["mazes: and ends higher, intervals apart"] = arms["reducible_loss"]["low"] > arms["uniform"]["high"]
        claims["mazes: high loss ends lower than uniform"] = arms["loss"]["high"] < arms["uniform"]["low"]
        claims["mazes: high loss trains on more wrong labels"] = (
            arms["loss"]["corrupted"] > 1.2 * arms["uniform"]["corrupted"]
        )
    if "mazes_poor_reference" in found:
        arms = rows("mazes_poor_reference")
        claims["mazes, poor reference: the reducible loss ends lower than uniform"] = (
            arms["reducible_loss"]["high"] < arms["uniform"]["low"]
        )
    for name in ("digits", "digits_noisy"):
        if name in found:
            arms = rows(name)
            claims[f"{name}: high loss ends lower than uniform"] = arms["loss"]["high"] < arms["uniform"]["low"]
    return claims


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exploration.supervised")
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument(
        "--only", nargs="*", choices=list(PRESETS), help="some of the runs; the result has its own name"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/exploration"))
    args = parser.parse_args(argv)
    found, figures = {}, {}
    for preset, changes in TIERS[args.tier].items():
        if args.only and preset not in args.only:
            continue
        folder = args.runs / f"{preset}-{args.tier}"
        found[preset] = measure(folder, preset, changes)
        figures[preset] = folder
    for preset, result in found.items():
        cells = [
            [
                row["arm"], f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                _cell(row["steps_to_uniform"]), _cell(row["gflops_to_uniform"]), f"{row['corrupted']:.3f}",
                f"{row['trivial']:.3f}", f"{row['irrelevant']:.3f}",
            ]
            for row in result["table"]
        ]  # fmt: skip
        print(f"\n{preset}: reference {np.mean(result['reference']):.3f}")
        head = ["arm", "test accuracy", "steps to uniform's", "GFLOP to it", "wrong labels", "trivial", "irrelevant"]
        print(table(cells, head))
    claims = verdicts(found) if args.tier != "smoke" else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if args.tier != "smoke":
        name = f"exploration_supervised-{args.tier}" + ("-only" if args.only else "")
        origin = record(
            "benchmarks.exploration.supervised", sys.argv[1:] if argv is None else argv,
            ["jax", "generalized-exploration"],
        )  # fmt: skip
        write_result(name, {"record": origin, "runs": found, "claims": claims})
        first = next(iter(figures))
        selection_figure(figures[first]).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


def _cell(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
