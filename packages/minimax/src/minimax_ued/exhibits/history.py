"""What a run trained on, over training: the emergent-complexity curves of the UED literature.

Runs log, as means over the levels that the students learned from since the last row, `level/n_walls`,
`level/solvable` and `level/path_length` (0 where unsolvable). Under a curriculum that adapts they rise (Dennis et al.
2020; Jiang, Dennis et al. 2021; Parker-Holder et al. 2022); under domain randomisation they stay flat. Runs of
`minimax-ued train` also log, at each evaluation, the same of the levels that are kept (split `curriculum`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paperloop.errors import UserError
from paperloop.loop.metrics_file import Rows, read_metrics
from paperloop_lab import plots, stats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KEPT_SPLIT", "MEASURES", "History", "Series", "complexity_figure", "read_history"]

#: The evaluator's name under which `train` logs the levels that are kept.
KEPT_SPLIT = "curriculum"

#: Measure -> title in figures.
MEASURES = {
    "walls": "walls",
    "path_length": "shortest path of solvable levels (moves)",
    "solvable": "part of the levels that are solvable",
}


class Series(NamedTuple):
    """One measure of one run over training.

    Attributes:
        env_steps: f64 `[n]`, environment steps of one seed.
        values: f64 `[seeds, n]`.
    """

    env_steps: np.ndarray
    values: np.ndarray

    @property
    def change(self) -> tuple[stats.Interval, stats.Interval]:
        """The mean over seeds with its 95 % bootstrap interval, over the first and over the last tenth."""
        n = max(1, self.values.shape[1] // 10)
        first, last = (
            stats.stratified_bootstrap(part.mean(1), "mean", reps=10_000)
            for part in (self.values[:, :n], self.values[:, -n:])
        )
        return first, last


class History(NamedTuple):
    """What one run trained on.

    Attributes:
        learned: measure -> the levels that gradients came from.
        kept: measure -> the levels kept, as likely as they are replayed, or those that a teacher builds; empty where
            there is neither, or nothing was logged.
    """

    learned: dict[str, Series]
    kept: dict[str, Series]


def read_history(run: Path | Rows) -> History:
    """Return the curves of a run folder, or of the rows of its metrics.jsonl.

    Rows of a time in which no level was learned from, or none was kept, are left out. Where there are many rows they
    are averaged in bins (`paperloop_lab.plots.pool_curves`).

    Raises:
        UserError: the run has no metrics yet, or none about mazes.
    """
    rows = read_metrics(Path(run)) if isinstance(run, (str, Path)) else run
    learned = _series(rows, "train", "level/", "learn")
    if not learned:
        where = run if isinstance(run, (str, Path)) else "these rows"
        raise UserError(f"There are no metrics of the levels of mazes in {where}: nothing to draw of its curriculum.")
    return History(learned, _series(rows, KEPT_SPLIT, "", "kept"))


def _series(rows: Rows, split: str, prefix: str, weight: str) -> dict[str, Series]:
    """Curves of one split; empty where it has no maze metrics. `weight` names a metric that is 0 where nothing counts.

    The path length of solvable levels is the ratio of two logged means.
    """
    derived: list[dict[str, Any]] = []
    for row in rows:
        new = {key: row[key] for key in row if key in ("step", "wall", "split") or key.startswith("progress/")}
        if row["split"] == split:
            try:
                names = (f"{prefix}{name}" for name in ("n_walls", "path_length", "solvable"))
                walls, path, solvable = (np.atleast_1d(np.asarray(row[name], float)) for name in names)
            except (KeyError, TypeError):
                continue
            counts = np.asarray(row.get(weight, 1.0), float) > 0
            with np.errstate(invalid="ignore", divide="ignore"):
                found = {"walls": walls, "path_length": np.where(solvable > 0, path / solvable, np.nan)}
            found["solvable"] = solvable
            new |= {name: np.where(counts, values, np.nan).tolist() for name, values in found.items()}
        derived.append(new)
    curves = {}
    for measure in MEASURES:
        try:
            at, values = plots.pool_curves([derived], measure, split, x="env_steps")
        except UserError:  # no such rows, or no finite value
            continue
        curves[measure] = Series(at, values[:, 0])
    return curves


def complexity_figure(histories: Mapping[str, History]) -> Figure:
    """Draw the curves of several runs over one another: mean over seeds, shaded its 95 % bootstrap interval.

    The first row is about the levels that were learned from, the second, if any run has it, about those kept.

    Args:
        histories: label -> history.
    """
    from matplotlib.ticker import EngFormatter

    parts = {"learned": "learned from"}
    if any(one.kept for one in histories.values()):
        parts["kept"] = "kept or built"
    figure, grid = plots.new_figure(11.0, 0.7 + 2.7 * len(parts), len(parts), len(MEASURES))
    grid = np.reshape(grid, (len(parts), len(MEASURES)))
    for row, (part, title) in zip(grid, parts.items(), strict=True):
        row[0].set_ylabel(f"levels {title}")
        for axes, measure in zip(row, MEASURES, strict=True):
            highest = 1.0
            for number, (label, history) in enumerate(histories.items()):
                found = getattr(history, part).get(measure)
                if found is not None:
                    interval = stats.curve_interval(found.values[:, None], "mean", reps=2000)
                    plots.band(axes, found.env_steps, interval, number, label)
                    highest = max(highest, float(np.max(interval.high)))
            axes.set_ylim(0, 1.03 if measure == "solvable" else 1.08 * highest)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(EngFormatter())
    for axes, title in zip(grid[0], MEASURES.values(), strict=True):
        axes.set_title(title, fontsize=10, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("environment steps per seed")
    handles, names = grid[0, 0].get_legend_handles_labels()  # all runs learned from something
    figure.legend(handles, names, loc="outside upper left", ncols=min(6, len(names)), frameon=False, fontsize=9)
    shaded = any(len(series.values) > 1 for one in histories.values() for series in one.learned.values())
    text = "mean over seeds; shaded: 95 % bootstrap interval" if shaded else "one seed"
    figure.supxlabel(text, fontsize=8, color=plots.FAINT, x=0.99, ha="right")
    return figure
