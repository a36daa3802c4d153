"""What the literature published on mazes, as plain numbers, next to evaluations of ours.

    python -m benchmarks.minimax_published [runs/small/plots/evaluation.json ...]

prints every table, with the evaluations that `minimax-ued evaluate` wrote beside the published columns.

The numbers were aggregated from the per-seed tables that the authors keep in their repositories, which are quoted here
and not shipped. Budgets, environments and networks differ from one table to the next and from any run of this package:
each source says how. None of these numbers was measured by this package.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Json, table

__all__ = ["CVAR_SFL", "OOD_25", "OOD_60", "PACE", "PUBLISHED", "AbstractClaim", "PublishedTable", "compared"]


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of another paper.

    Attributes:
        name: short, for headings.
        citation: authors, year, arXiv number.
        origin: where the per-seed numbers are.
        budget: what was trained for how long.
        seeds: runs behind each number.
        differs: in what the measurement is not ours.
        columns: the methods.
        rows: what was measured -> mean over seeds for each method, and its standard deviation over seeds (population).
        aggregates: "mean" and "iqm" over rows and seeds -> (point, low, high) for each method, with the 95 % stratified
            bootstrap interval of `paperloop_lab.stats`; empty where the rows are not tasks.
    """

    name: str
    citation: str
    origin: str
    budget: str
    seeds: int
    differs: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[tuple[float, float], ...]]
    aggregates: Mapping[str, tuple[tuple[float, float, float], ...]]

    def column(self, method: str) -> dict[str, tuple[float, float]]:
        """Return row -> (mean, standard deviation) of one method."""
        index = self.columns.index(method)
        return {row: values[index] for row, values in self.rows.items()}


@dataclass(frozen=True, kw_only=True)
class AbstractClaim:
    """A result that is known from an abstract only.

    Attributes:
        name: the method.
        citation: authors or title, year, arXiv number.
        claim: what the abstract says.
    """

    name: str
    citation: str
    claim: str


_DCD = "github.com/facebookresearch/dcd, results/minigrid_ood (CC BY-NC 4.0; numbers quoted)"
_DCD_DIFFERS = (
    "FourRooms and SimpleCrossing have walls that hide what is behind them, FourRooms cuts off at 100 steps, and "
    "PerfectMaze puts agent and goal into corners, all of which the test mazes with DCD in their names repeat; solved "
    "rates are over 100 episodes"
)

#: Mazes with up to 25 blocks in training; out-of-distribution solved rates.
OOD_25 = PublishedTable(
    name="25 blocks, 250 M steps",
    citation="Jiang, Dennis et al. 2021, arXiv 2110.02439",
    origin=_DCD,
    budget="250 M environment steps of one student, mazes of 25 blocks, LSTM-256",
    seeds=10,
    differs=_DCD_DIFFERS,
    columns=("DR", "minimax", "PAIRED", "PLR", "REPAIRED", "robust PLR"),
    rows={
        "SixteenRooms": (
            (0.903, 0.143),
            (0.093, 0.235),
            (0.671, 0.342),
            (0.958, 0.126),
            (0.869, 0.179),
            (0.834, 0.259),
        ),
        "Labyrinth": ((0.183, 0.345), (0.0, 0.0), (0.303, 0.444), (0.343, 0.434), (0.068, 0.124), (0.538, 0.427)),
        "Labyrinth2": ((0.204, 0.347), (0.0, 0.0), (0.247, 0.373), (0.372, 0.407), (0.173, 0.181), (0.590, 0.426)),
        "StandardMaze": ((0.036, 0.058), (0.0, 0.0), (0.004, 0.012), (0.281, 0.403), (0.196, 0.375), (0.592, 0.384)),
        "StandardMaze2": ((0.046, 0.057), (0.0, 0.0), (0.101, 0.296), (0.407, 0.416), (0.111, 0.264), (0.383, 0.417)),
        "Crossing": ((0.798, 0.212), (0.093, 0.155), (0.329, 0.215), (0.956, 0.077), (0.646, 0.160), (0.941, 0.076)),
        "SmallCorridor": (
            (0.824, 0.220),
            (0.078, 0.136),
            (0.654, 0.233),
            (0.818, 0.177),
            (0.608, 0.322),
            (0.859, 0.078),
        ),
    },
    aggregates={
        "mean": (
            (0.428, 0.375, 0.483),
            (0.038, 0.014, 0.068),
            (0.330, 0.261, 0.404),
            (0.591, 0.517, 0.668),
            (0.382, 0.326, 0.441),
            (0.677, 0.598, 0.753),
        ),
        "iqm": (
            (0.367, 0.276, 0.472),
            (0.0, 0.0, 0.0003),
            (0.202, 0.124, 0.326),
            (0.673, 0.530, 0.813),
            (0.303, 0.222, 0.405),
            (0.815, 0.680, 0.901),
        ),
    },
)

#: Mazes with up to 60 blocks in training; out-of-distribution solved rates.
OOD_60 = PublishedTable(
    name="60 blocks, 20,000 updates",
    citation="Parker-Holder et al. 2022, arXiv 2203.01302",
    origin=_DCD,
    budget="20,000 PPO updates of 32 x 256 steps (163.8 M steps with gradients), up to 60 blocks, LSTM-256",
    seeds=5,
    differs=_DCD_DIFFERS,
    columns=("DR", "robust PLR", "ACCEL"),
    rows={
        "SixteenRooms": ((0.872, 0.124), (0.952, 0.052), (1.000, 0.0)),
        "SixteenRooms2": ((0.534, 0.368), (0.488, 0.330), (0.934, 0.105)),
        "Labyrinth": ((0.452, 0.451), (0.550, 0.451), (0.740, 0.322)),
        "Labyrinth2": ((0.540, 0.355), (0.664, 0.351), (0.846, 0.308)),
        "StandardMaze": ((0.434, 0.451), (0.542, 0.374), (0.780, 0.391)),
        "StandardMaze2": ((0.486, 0.327), (0.742, 0.264), (0.998, 0.004)),
        "StandardMaze3": ((0.694, 0.389), (0.754, 0.243), (0.840, 0.177)),
        "Crossing": ((0.566, 0.306), (0.868, 0.096), (0.790, 0.266)),
        "FourRooms": ((0.774, 0.202), (0.640, 0.085), (0.684, 0.142)),
        "SmallCorridor": ((1.000, 0.0), (0.894, 0.093), (0.998, 0.004)),
        "LargeCorridor": ((0.644, 0.110), (0.792, 0.257), (0.986, 0.028)),
        "PerfectMazeMedium": ((0.448, 0.198), (0.618, 0.174), (0.900, 0.123)),
    },
    aggregates={
        "mean": ((0.620, 0.544, 0.698), (0.709, 0.643, 0.774), (0.875, 0.821, 0.924)),
        "iqm": ((0.685, 0.555, 0.797), (0.798, 0.711, 0.860), (0.985, 0.941, 0.998)),
    },
)

#: Mean win rate on the worst alpha of 10,000 solvable levels, by alpha in per cent.
CVAR_SFL = PublishedTable(
    name="CVaR of win rates",
    citation="Rutherford et al. 2024, arXiv 2408.15099",
    origin="github.com/amacrutherford/sampling-for-learnability, sfl/data/eval/results/minigrid (Apache-2.0)",
    budget="3e8 environment steps, 256 environments x 256 steps, mazes of 60 blocks, LSTM-256, learning rate annealed",
    seeds=10,
    differs=(
        "10,000 other levels from a generator of the same kind; PLR and ACCEL take gradients on all levels except in "
        "the robust rows; ties are broken by the order of the levels"
    ),
    columns=(
        "SFL",
        "SFL (v1)",
        "DR",
        "ACCEL-MaxMC",
        "PLR-PVL",
        "PLR-MaxMC",
        "PLR-L1VL",
        "robust ACCEL",
        "robust PLR",
    ),
    rows={
        "0.1": (
            (0.277, 0.10),
            (0.168, 0.05),
            (0.162, 0.07),
            (0.099, 0.03),
            (0.117, 0.04),
            (0.094, 0.02),
            (0.108, 0.05),
            (0.080, 0.02),
            (0.056, 0.01),
        ),
        "1": (
            (0.654, 0.072),
            (0.470, 0.060),
            (0.561, 0.057),
            (0.325, 0.055),
            (0.346, 0.087),
            (0.252, 0.083),
            (0.329, 0.062),
            (0.089, 0.044),
            (0.063, 0.012),
        ),
        "2": (
            (0.784, 0.057),
            (0.619, 0.049),
            (0.712, 0.044),
            (0.489, 0.074),
            (0.487, 0.095),
            (0.403, 0.103),
            (0.486, 0.072),
            (0.165, 0.091),
            (0.109, 0.026),
        ),
        "5": (
            (0.906, 0.032),
            (0.800, 0.033),
            (0.869, 0.025),
            (0.717, 0.063),
            (0.700, 0.074),
            (0.654, 0.084),
            (0.707, 0.057),
            (0.371, 0.119),
            (0.284, 0.048),
        ),
        "10": (
            (0.953, 0.016),
            (0.897, 0.019),
            (0.934, 0.012),
            (0.852, 0.038),
            (0.834, 0.049),
            (0.813, 0.052),
            (0.843, 0.036),
            (0.599, 0.100),
            (0.526, 0.046),
        ),
        "20": (
            (0.976, 0.008),
            (0.948, 0.009),
            (0.967, 0.006),
            (0.926, 0.019),
            (0.917, 0.025),
            (0.906, 0.026),
            (0.921, 0.018),
            (0.791, 0.055),
            (0.750, 0.027),
        ),
        "100": (
            (0.9946, 0.0018),
            (0.9884, 0.0021),
            (0.9926, 0.0013),
            (0.9839, 0.0039),
            (0.9818, 0.0052),
            (0.9800, 0.0054),
            (0.9829, 0.0038),
            (0.9567, 0.0111),
            (0.9482, 0.0053),
        ),
    },
    aggregates={},
)

#: Known from the abstract only.
PACE = AbstractClaim(
    name="PACE",
    citation="arXiv 2605.01358 (2026)",
    claim="interquartile mean 96.4 % and optimality gap 17.2 % on out-of-distribution MiniGrid mazes",
)

#: Every table.
PUBLISHED = {"ood_25": OOD_25, "ood_60": OOD_60, "cvar_sfl": CVAR_SFL}


def compared(published: PublishedTable, evaluations: Mapping[str, Json]) -> str:
    """Return a published table, with the mean solved or win rates of `evaluation.json` files (label -> its content)."""
    ours = {label: _rates(found) for label, found in evaluations.items()}
    runs = {f"{label}: {run}": rates for label, found in ours.items() for run, rates in found.items()}
    rows = []
    for name, values in published.rows.items():
        # The variants of dcd are what its tables were made on.
        own = [rates.get(f"{name}DCD", rates.get(name)) for rates in runs.values()]
        rows.append([name, *("" if x is None else f"{x:.2f}" for x in own), *(f"{m:.2f} ± {d:.2f}" for m, d in values)])
    for name, intervals in published.aggregates.items():
        rows.append([name, *[""] * len(runs), *(f"{x:.2f} [{low:.2f}, {high:.2f}]" for x, low, high in intervals)])
    text = table(rows, ("", *runs, *published.columns))
    return (
        f"{published.name} ({published.citation})\n{text}\nMean ± standard deviation over {published.seeds} seeds, "
        f"from {published.origin}. Budget: {published.budget}. Other differences: {published.differs}."
    )


def _rates(found: Json) -> dict[str, dict[str, float]]:
    """Run -> task or percent of worst levels -> mean rate."""
    tail = (found.get("worst_levels") or {}).get("cvar", {})
    return {
        run: {task: cell[0] for task, cell in found["intervals"]["solved"][run].items() if cell is not None}
        | {percent: cell[0] for percent, cell in tail.get(run, {}).items()}
        for run in found["runs"]
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="evaluation.json of `minimax-ued evaluate`")
    files = parser.parse_args(argv).files
    evaluations = {str(path.parent): json.loads(path.read_text()) for path in files}
    print("The budgets differ: the published rows are not like for like with ours.\n")
    print("\n\n".join(compared(one, evaluations) for one in PUBLISHED.values()))
    print(f"\n{PACE.name} ({PACE.citation}): {PACE.claim}; known from the abstract only.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
