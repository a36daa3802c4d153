"""What a run trained on, over training: the emergent-complexity curves of the UED literature.

Runs log, as means over the levels that the students learned from since the last row, `level/n_walls`,
`level/solvable` and `level/path_length` (0 where unsolvable). Under a curriculum that adapts they rise (Dennis et al.
2020; Jiang, Dennis et al. 2021; Parker-Holder et al. 2022); under domain randomisation they stay flat. Runs of
`minimax-ued train` also log, at each evaluation, the same of the levels that are kept (split `curriculum`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from minimax_ued.exhibits.style import INK, colour, make_figure, thousands
from paperloop.errors import UserError
from paperloop.loop.metrics_file import Rows, read_metrics
from paperloop_lab import plots, stats

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
    """Read the curves of a run.

    Rows of a time in which no level was learned from, or none was kept, are left out. Where there are many rows they
    are averaged in bins (`paperloop_lab.plots.pool_curves`).

    Args:
        run: a run folder, or the rows of its metrics.jsonl.

    Raises:
        UserError: the run has no metrics yet, or none about mazes.
    """
    rows = read_metrics(Path(run)) if isinstance(run, (str, Path)) else run
    learned = _series(rows, "train", "level/", "learn")
    if not learned:
        where = run if isinstance(run, (str, Path)) else "these rows"
        raise UserError(f"There are no metrics of the levels of mazes in {where}: nothing to draw of its curriculum.")
    return History(learned, _series(rows, KEPT_SPLIT, "", "kept"))


def complexity_figure(histories: Mapping[str, History]) -> Figure:
    """Draw the curves of several runs over one another: mean over seeds, shaded from the lowest to the highest seed.

    The first row is about the levels that were learned from, the second, if any run has it, about those kept.

    Args:
        histories: label -> history.
    """
    parts = [("learned from", {label: history.learned for label, history in histories.items()})]
    kept = {label: history.kept for label, history in histories.items() if history.kept}
    if kept:
        parts.append(("kept or built", kept))
    figure, grid = make_figure(11.0, 0.7 + 2.7 * len(parts), len(parts), len(MEASURES))
    labels = list(histories)
    # The legend names the runs of the first row, so that all of them are in it.
    for number, (row, (name, curves)) in enumerate(zip(grid, parts, strict=True)):
        for axes, (measure, title) in zip(row, MEASURES.items(), strict=True):
            for label, found in curves.items():
                if measure not in found:
                    continue
                at, values = found[measure]
                shade = colour(labels.index(label))
                marker = "o" if len(at) < 12 else None
                axes.plot(at, values.mean(0), color=shade, lw=1.8, marker=marker, ms=3.5, label=label)
                if len(values) > 1:
                    axes.fill_between(at, values.min(0), values.max(0), color=shade, alpha=0.17, lw=0)
            if number == 0:
                axes.set_title(title, fontsize=9.5, loc="left", color=INK)
            highest = max((found[measure].values.max() for found in curves.values() if measure in found), default=1.0)
            axes.set_ylim(0, 1.03 if measure == "solvable" else 1.08 * max(highest, 1.0))
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(thousands)
        row[0].set_ylabel(f"levels {name}", fontsize=10)
    for axes in grid[-1]:
        axes.set_xlabel("environment steps per seed", fontsize=9.5)
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(6, len(names)), frameon=False, fontsize=9.5)
    return figure


def _series(rows: Rows, split: str, prefix: str, weight: str) -> dict[str, Series]:
    """Curves of one split; empty where it has no maze metrics. `weight` names a metric that is 0 where nothing counts.

    The path length of solvable levels is the ratio of two logged means.
    """
    names = {"walls": "n_walls", "solvable": "solvable", "path": "path_length"}
    derived: list[dict[str, Any]] = []
    for row in rows:
        if row["split"] != split:
            if any(name.startswith("progress/") for name in row):
                derived.append({key: row[key] for key in row if key in _PLACE or key.startswith("progress/")})
            continue
        try:
            found = {key: np.atleast_1d(np.asarray(row[prefix + name], float)) for key, name in names.items()}
        except (KeyError, TypeError):
            continue
        counts = np.broadcast_to(np.asarray(row.get(weight, 1.0), float) > 0, found["walls"].shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            path = np.where(found["solvable"] > 0, found["path"] / found["solvable"], np.nan)
        new = {key: row[key] for key in row if key in _PLACE or key.startswith("progress/")}
        for key, values in (("walls", found["walls"]), ("path_length", path), ("solvable", found["solvable"])):
            new[key] = np.where(counts, values, np.nan).tolist()
        derived.append(new)
    curves = {}
    for measure in MEASURES:
        try:
            at, values = plots.pool_curves([derived], measure, split, x="env_steps")
        except UserError:  # no such rows, or no finite value
            continue
        curves[measure] = Series(at, values[:, 0])
    return curves


_PLACE = ("step", "wall", "split")


def changes(histories: Mapping[str, History], part: str = "learned") -> dict[str, dict[str, Sequence[stats.Interval]]]:
    """Return label -> measure -> intervals over the first and over the last tenth of training.

    Args:
        histories: label -> history.
        part: "learned" or "kept".
    """
    return {
        label: {measure: series.change for measure, series in getattr(history, part).items()}
        for label, history in histories.items()
    }
