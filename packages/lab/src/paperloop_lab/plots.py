"""Figures: learning curves from run folders, interval bars and performance profiles. Each is returned, not shown.

Figures are made by matplotlib's objects and not by pyplot, so that nothing global changes and no window is needed.
Matplotlib itself is imported by the first figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from paperloop.errors import UserError
from paperloop.files import write_atomically
from paperloop.metrics_file import Curve, Rows, curve, metric_names, read_metrics
from paperloop_lab import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "interval_bars",
    "learning_curves",
    "performance_profile_plot",
    "pool_curves",
    "save_figure",
    "significant",
]

#: Told apart by colour-blind eyes and in grey (Okabe and Ito 2008, its yellow left out: too pale for a line).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
GRID, INK, FAINT = "#E6E6E6", "#222222", "#666666"
POINTS = 150  # on a curve; more rows than that are averaged in bins
NAMES = {"iqm": "interquartile mean", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}


def learning_curves(
    runs: Mapping[str, Sequence[Path | Rows]],
    metric: str,
    split: str = "train",
    *,
    x: str = "step",
    statistic: str = "iqm",
    confidence: float | None = 0.95,
    reps: int = 2_000,
    seed: int = 0,
    title: str | None = None,
    ylabel: str | None = None,
) -> Figure:
    """Draw one curve per label: a statistic over seeds, with its bootstrap interval shaded.

    Args:
        runs: label -> run folders, or the rows of each. The seeds of a folder (the leading axis of the metric) and
            those of several folders are pooled; see `pool_curves`.
        metric: the name of a metric.
        split: "train", or the name of an evaluator.
        x: "step"; "wall", the running time; or a counter of the trainer's progress such as "env_steps".
        statistic: over seeds, one of `paperloop_lab.stats.STATISTICS`.
        confidence: pointwise coverage of the shaded interval; None draws none. One seed has none.
        reps: resamples of the bootstrap.
        seed: of the bootstrap.
        title: by default the metric and the split.
        ylabel: by default the metric.

    Raises:
        UserError: a folder lacks the metric, or the curves of one label have no step in common.
    """
    if not runs:
        raise UserError("There is nothing to draw: give at least one label with a run folder.")
    drawn, tasks = {}, 1
    for label, folders in runs.items():
        at, values = pool_curves(folders, metric, split, x=x)  # (points,), (seeds, tasks, points)
        if confidence is None:
            band = stats.curve_interval(values, statistic, reps=1, seed=seed)
        else:
            band = stats.curve_interval(values, statistic, reps=reps, confidence=confidence, seed=seed)
        drawn[label] = at, band, len(values)
        tasks = max(tasks, values.shape[1])
    figure, axes = _figure(6.4, 3.9)
    top = max(float(at[-1]) for at, _, _ in drawn.values())
    scale, xlabel = _time_unit(top) if x == "wall" else (1.0, _words(x))
    for number, (at, band, seeds) in enumerate(drawn.values()):
        style = _style(number)
        marker = "o" if len(at) == 1 else None
        axes.plot(at / scale, band.point, lw=2.0, marker=marker, solid_capstyle="round", zorder=3, **style)
        if confidence is not None and seeds > 1:
            axes.fill_between(at / scale, band.low, band.high, color=style["color"], alpha=0.17, lw=0, zorder=2)
    first = min(float(at[0]) for at, _, _ in drawn.values())
    if first < top:  # a single point keeps matplotlib's own limits
        axes.set_xlim(first / scale, top / scale)
    axes.margins(y=0.06)
    _fit_unit_interval(axes, [v for _, band, _ in drawn.values() for v in (band.point.min(), band.point.max())])
    axes.set_xlabel(xlabel, color=INK, fontsize=10)
    axes.set_ylabel(ylabel or _words(metric), color=INK, fontsize=10)
    where = "training" if split == "train" else _words(split)
    axes.set_title(title or f"{_words(metric)} · {where}", loc="left", fontsize=11.5, color=INK, pad=8)
    if x != "wall" and top >= 10_000:
        axes.xaxis.set_major_formatter(_thousands)
    counts = sorted({seeds for _, _, seeds in drawn.values()})
    labels = list(drawn)
    if len(counts) > 1:
        labels = [f"{label}, n={seeds}" for label, (_, _, seeds) in drawn.items()]
    _label_lines(figure, axes, labels, [(at[-1] / scale, band.point[-1]) for at, band, _ in drawn.values()])
    _caption(figure, _curve_caption(statistic, confidence, counts, tasks))
    return figure


def pool_curves(
    folders: Sequence[Path | Rows], metric: str, split: str = "train", *, x: str = "step", points: int = POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curves of all seeds of several runs on common points.

    Each seed's curve is interpolated linearly on the union of all points that lie where every seed has values, so the
    set of seeds is the same everywhere and no curve is extended. If those points are more than `points`, each curve
    is averaged in that many bins of equal width instead. Rows that hold null or NaN for a seed are left out for it.

    Args:
        folders: run folders, or the rows of runs (`read_metrics`).
        metric: the name of a metric; its leading axis, if it has one, is the seed axis, and further axes are tasks.
        split: "train", or the name of an evaluator.
        x: as in `learning_curves`.
        points: the most points to return.

    Returns:
        The points (n,) and the values (seeds, tasks, n).

    Raises:
        UserError: a run lacks the metric, or there is no point that all have in common.
    """
    lines: list[list[tuple[np.ndarray, np.ndarray]]] = []  # seeds, of tasks, of points and values
    if isinstance(folders, (str, Path)):
        folders = [Path(folders)]
    for folder in folders:
        rows = read_metrics(Path(folder)) if isinstance(folder, (str, Path)) else folder
        try:
            one = curve(rows, metric, split)
        except UserError as error:
            raise UserError(str(error).replace("these rows", str(folder))) from None
        at = _abscissa(folder, rows, one, x, split)
        values = one.values.reshape(len(at), one.values.shape[1] if one.values.ndim > 1 else 1, -1)
        for seed in range(values.shape[1]):
            kept = [np.isfinite(values[:, seed, task]) for task in range(values.shape[2])]
            lines.append([(at[k], values[k, seed, task]) for task, k in enumerate(kept)])
    if len({len(tasks) for tasks in lines}) != 1:
        raise UserError(f"The runs to pool have metric {metric!r} with different axes: plot them under labels apart.")
    flat = [line for tasks in lines for line in tasks]
    if not all(len(at) for at, _ in flat):
        raise UserError(f"Metric {metric!r} in split {split!r} has no finite value for some seed: leave that run out.")
    start, end = max(at[0] for at, _ in flat), min(at[-1] for at, _ in flat)
    union = np.unique(np.concatenate([at for at, _ in flat]))
    union = union[(union >= start) & (union <= end)]
    if not union.size:
        raise UserError(
            f"The runs to pool have no {_words(x)} in common for metric {metric!r}: let them run equally far, or plot "
            "them under labels apart."
        )
    if len(union) <= points:
        return union, np.array([[np.interp(union, *line) for line in tasks] for tasks in lines])
    edges = np.linspace(start, end, points + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    return centres, np.array([[_binned(line, edges, centres) for line in tasks] for tasks in lines])


def interval_bars(
    intervals: Mapping[str, Mapping[str, stats.Interval]], *, xlabel: str = "", title: str | None = None
) -> Figure:
    """Draw one panel per statistic or metric, in each one bar per label from low to high with a tick at the point.

    Args:
        intervals: panel title -> label -> interval of floats. The labels are those of the first panel.
        xlabel: under every panel, such as the unit of the scores.
        title: of the whole.
    """
    labels = list(next(iter(intervals.values()), ()))
    if not labels:
        raise UserError("There is nothing to draw: give at least one panel with one interval.")
    figure, row = _figure(1.6 + 2.5 * len(intervals), 0.95 + 0.36 * len(labels) + 0.3 * bool(title), len(intervals))
    for axes, (name, panel) in zip(np.atleast_1d(row), intervals.items(), strict=True):
        for number, label in enumerate(labels):
            if label not in panel:
                continue
            point, low, high = panel[label]
            colour = _style(number)["color"]
            axes.barh(number, high - low, 0.56, left=low, color=colour, alpha=0.5, lw=0, zorder=2)
            axes.vlines(point, number - 0.36, number + 0.36, color=INK, lw=2.0, zorder=3)
        axes.set_yticks(range(len(labels)), labels if axes.get_subplotspec().is_first_col() else [""] * len(labels))
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelsize=10, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.use_sticky_edges = False  # a bar's start is no origin
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(_ticks(4))
        axes.set_title(name, fontsize=10.5, color=INK, pad=6)
        axes.set_xlabel(xlabel, fontsize=9.5, color=INK)
    if title:
        figure.suptitle(title, fontsize=11.5, color=INK)
    return figure


def performance_profile_plot(
    scores: Mapping[str, stats.Scores],
    taus: ArrayLike | None = None,
    *,
    xlabel: str = "score",
    reps: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Figure:
    """Draw, for each label, the fraction of runs that score above every threshold, with its interval shaded.

    Args:
        scores: label -> scores as in `paperloop_lab.stats`: (runs, tasks), (runs,), or a mapping task -> (runs,).
        taus: thresholds; by default 101 from the lowest to the highest score.
        xlabel: what the scores are, with their unit.
        reps: resamples of the bootstrap.
        confidence: pointwise coverage.
        seed: of the bootstrap.
    """
    if not scores:
        raise UserError("There is nothing to draw: give the scores of at least one label.")
    if taus is None:
        every = np.concatenate([stats.flat_scores(s) for s in scores.values()])
        taus = np.linspace(every.min(), every.max(), 101)
    taus = np.asarray(taus, float)
    figure, axes = _figure(6.4, 3.9)
    for number, (label, matrix) in enumerate(scores.items()):
        profile = stats.performance_profile(matrix, taus, reps=reps, confidence=confidence, seed=seed)
        style = _style(number)
        axes.plot(taus, profile.point, lw=2.0, drawstyle="steps-post", label=label, zorder=3, **style)
        axes.fill_between(
            taus, profile.low, profile.high, step="post", color=style["color"], alpha=0.17, lw=0, zorder=2
        )
    axes.set_xlim(taus[0], taus[-1])
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"{xlabel} τ", fontsize=10, color=INK)
    axes.set_ylabel("fraction of runs above τ", fontsize=10, color=INK)
    _legend(axes)
    _caption(figure, f"shaded: {confidence:.0%} stratified bootstrap interval, pointwise")
    return figure


def save_figure(figure: Figure, path: Path, *, dpi: int = 160) -> Path:
    """Write a figure as PNG, whole or not at all, and return the path. Its folder is made if absent.

    Raises:
        UserError: it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=dpi))
    except OSError as error:
        raise UserError(f"The figure {path} cannot be written ({error.strerror}): choose another folder.") from None
    return path


# ------------------------------------------------------------------------------------------------------- the abscissa


def _abscissa(folder: Path | Rows, rows: Rows, one: Curve, x: str, split: str) -> np.ndarray:
    """The points at which `one` was measured, in terms of `x`."""
    if x == "step":
        return one.steps.astype(float)
    if x == "wall":
        return one.wall
    names = metric_names(rows)
    for place in [split, *(s for s in names if s != split)]:
        for name in (x, f"progress/{x}"):  # the runner logs a trainer's counters under progress/
            if name in names.get(place, ()):
                counter = curve(rows, name, place)
                at, count = counter.steps, counter.values.reshape(len(counter.steps), -1).mean(axis=1)
                if name.startswith("progress/") and at[0] > 0:
                    at, count = np.append(0, at), np.append(0.0, count)  # before the first step nothing was done
                return np.interp(one.steps, at, count)
    raise UserError(
        f"There is no counter {x!r} in {folder if isinstance(folder, (str, Path)) else 'these rows'}: log it as a "
        'metric, or take x="step" or "wall".'
    )


def _binned(line: tuple[np.ndarray, np.ndarray], edges: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Bin means of one curve; a bin without a row is interpolated."""
    at, values = line
    inside = (at >= edges[0]) & (at <= edges[-1])
    where = np.clip(np.searchsorted(edges, at[inside], side="right") - 1, 0, len(centres) - 1)
    count = np.bincount(where, minlength=len(centres))
    total = np.bincount(where, values[inside], minlength=len(centres))
    return np.interp(centres, centres[count > 0], total[count > 0] / count[count > 0])


def _time_unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * scale:
            return scale, f"running time ({unit})"
    return 1.0, "running time (seconds)"


# --------------------------------------------------------------------------------------------------------- the looks


def _figure(width: float, height: float, panels: int = 1) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    row = figure.subplots(1, panels)
    for axes in np.atleast_1d(row):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("#AAAAAA")
        axes.grid(visible=True, color=GRID, lw=0.8, zorder=0)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors=FAINT, length=0)
    return figure, row


def _style(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS) % len(DASHES)]}


def _words(name: str) -> str:
    return name.replace("_", " ").replace("/", " / ")


def _thousands(value: float, _: int | None = None) -> str:
    for scale, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= scale:
            return f"{value / scale:g}{unit}"
    return f"{value:g}"


def _ticks(most: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(most)


def _fit_unit_interval(axes: Axes, ends: Sequence[float]) -> None:
    """Show rates on all of [0, 1] when they use much of it, so that figures of one metric can be compared."""
    if min(ends) >= 0 and 0.5 < max(ends) <= 1:
        axes.set_ylim(-0.02, 1.02)


def _label_lines(figure: Figure, axes: Axes, labels: Sequence[str], ends: Sequence[tuple[float, float]]) -> None:
    """Name each line at its end, apart from one another; in a legend where there are too many or they end early."""
    right = axes.get_xlim()[1]
    lines = [line for line in axes.get_lines()]
    for line, label in zip(lines, labels, strict=True):
        line.set_label(label)
    if len(labels) == 1 and not labels[0]:
        return
    if len(labels) > 6 or max(map(len, labels)) > 30 or any(x < 0.98 * right for x, _ in ends):
        _legend(axes)
        return
    low, high = axes.get_ylim()
    height = figure.get_figheight() * 72 * 0.72  # of the axes, in points, nearly
    gap = 12.5 * (high - low) / height
    order = sorted(range(len(ends)), key=lambda i: ends[i][1])
    places = [ends[i][1] for i in order]
    for _ in range(200):  # push neighbours apart until all labels have room; the order is kept
        moved = False
        for a in range(len(places) - 1):
            need = gap - (places[a + 1] - places[a])
            if need > 1e-3 * gap:
                places[a], places[a + 1], moved = places[a] - need / 2, places[a + 1] + need / 2, True
        if not moved:
            break
    for place, i in zip(places, order, strict=True):
        axes.annotate(
            labels[i], (1.0, place), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=10, color=_style(i)["color"], annotation_clip=False,
        )  # fmt: skip


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    style: dict[str, Any] = {"fontsize": 9.5, "frameon": False, "labelcolor": INK, "handlelength": 2.0}
    if len(labels) > 6 or sum(map(len, labels)) > 90:  # beside the axes, where it hides nothing
        style |= {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    axes.legend(handles, labels, **style)


def _caption(figure: Figure, text: str) -> None:
    figure.supxlabel(text, fontsize=8, color=FAINT, x=0.99, ha="right")


def _curve_caption(statistic: str, confidence: float | None, seeds: Sequence[int], tasks: int) -> str:
    many = f"{seeds[0]} seeds" if len(seeds) == 1 else "n seeds"
    if list(seeds) == [1]:
        many = "one seed"
    if tasks == 1 and list(seeds) == [1]:
        return many
    text = f"{NAMES[statistic]} of {many}" + (f" on {tasks} tasks" if tasks > 1 else "")
    if confidence is not None and list(seeds) != [1]:
        text += f"; shaded: {confidence:.0%} bootstrap interval"
    return text


def significant(value: float) -> str:
    """Three significant digits, without an exponent where it can be avoided."""
    if not math.isfinite(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = 3 if value == 0 else max(0, min(4, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}"
