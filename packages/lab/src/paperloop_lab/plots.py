"""Figures in one style: lines with bands, interval bars, learning curves from rows of metrics.

Figures are made by matplotlib's objects and not by pyplot, so that nothing global changes and no window is needed.
Matplotlib itself is imported by the first figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paperloop.errors import UserError, printable
from paperloop.files import write_atomically
from paperloop.loop.metrics_file import Curve, Rows, curve, metric_names, read_metrics
from paperloop_lab import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "abscissa", "band", "curves_figure", "interval_bars", "legend", "new_figure", "plain", "pool",
    "pool_curves", "save_figure", "significant", "style",
]  # fmt: skip

#: Told apart by colour-blind eyes and in grey (Okabe and Ito 2008, without its yellow, which is too pale for a line).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
GRID, INK, FAINT = "#E6E6E6", "#222222", "#666666"
POINTS = 150  # on a curve; more rows than that are averaged in bins
NAMES = {"iqm": "interquartile mean", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}


# The style


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure of some inches and its axes, as matplotlib's `subplots` does, in the style of all figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns)
    for axes in np.ravel(grid):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("#AAAAAA")
        axes.grid(visible=True, color=GRID, lw=0.8, zorder=0)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors=FAINT, length=0)
        for text in (axes.xaxis.label, axes.yaxis.label):
            text.set(color=INK, fontsize=10)
        for place in ("left", "center", "right"):
            axes.set_title("", loc=place, fontsize=11, color=INK)
    return figure, grid


def style(number: int) -> dict[str, Any]:
    """Return colour and dashes of the n-th line, as keywords of matplotlib's `plot`."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS) % len(DASHES)]}


def band(axes: Axes, x: Any, interval: stats.Interval, number: int, label: str = "") -> None:
    """Draw an interval of curves, (n,) each, as the n-th line; shaded where its ends are not the line itself."""
    looks = style(number)
    marker = "o" if len(x) == 1 else None
    axes.plot(x, interval.point, lw=2.0, marker=marker, label=plain(label), zorder=3, **looks)
    if not np.array_equal(interval.low, interval.high):
        axes.fill_between(x, interval.low, interval.high, color=looks["color"], alpha=0.17, lw=0, zorder=2)


def legend(axes: Axes) -> None:
    """Name the lines: in the axes, or next to them where there are many."""
    labels = axes.get_legend_handles_labels()[1]
    place: dict[str, Any] = {}
    if len(labels) > 6 or sum(map(len, labels)) > 90:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    if labels:
        axes.legend(fontsize=9, frameon=False, labelcolor=INK, **place)


def plain(text: str) -> str:
    """Return text that matplotlib draws as it is: formulas are switched off, control characters escaped."""
    return printable(text).replace("$", r"\$")


def save_figure(figure: Figure, path: Path, *, dpi: int = 160) -> Path:
    """Write a figure as PNG, and as PDF next to it, each whole or not at all; return the path of the PNG.

    The folder is made if absent. The PDF holds no date.
    """
    from matplotlib import rc_context

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=dpi))
        with rc_context({"pdf.fonttype": 42}):  # text stays text
            dateless = {"CreationDate": None}
            write_atomically(
                path.with_suffix(".pdf"), lambda temporary: figure.savefig(temporary, format="pdf", metadata=dateless)
            )
    except OSError as error:
        raise UserError(f"The figure {path} cannot be written ({error.strerror}): choose another folder.") from None
    return path


def significant(value: float) -> str:
    """Return three significant digits, without an exponent where it can be avoided."""
    if not math.isfinite(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = 3 if value == 0 else max(0, min(4, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}"


# Kinds of figures


def curves_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    metric: str,
    split: str = "train",
    *,
    x: str = "step",
    statistic: str = "iqm",
    confidence: float = 0.95,
    reps: int = 2_000,
    seed: int = 0,
) -> Figure:
    """Draw one curve per label: a statistic over seeds, with its bootstrap interval (`stats.curve_interval`) shaded.

    Args:
        curves: label -> points (n,) and values (seeds, tasks, n), from `pool_curves` or `pool`. Entries along the first
            axis must be repetitions of one another.
        metric: its name, for the axis.
        split: "train", or the name of an evaluator, for the title.
        x: what the points are: "step", "wall" in seconds, or the name of a counter.
        statistic: over seeds.
        confidence: pointwise coverage of the interval. One seed has none.
        reps: resamples of the bootstrap.
        seed: of the bootstrap.
    """
    if not curves:
        raise UserError("There is nothing to draw: give at least one curve.")
    figure, axes = new_figure(6.4, 3.9)
    first, last = (pick(float(at[end]) for at, _ in curves.values()) for pick, end in ((min, 0), (max, -1)))
    scale, xlabel = _time_unit(last) if x == "wall" else (1.0, _words(x))
    ends = []
    for number, (label, (at, values)) in enumerate(curves.items()):
        interval = stats.curve_interval(values, statistic, reps=reps, confidence=confidence, seed=seed)
        band(axes, at / scale, interval, number, f"{label}, n={len(values)}" if label else "")
        ends += [interval.point.min(), interval.point.max()]
    if first < last:  # a single point keeps matplotlib's own limits
        axes.set_xlim(first / scale, last / scale)
    axes.margins(y=0.06)
    if min(ends) >= 0 and 0.5 < max(ends) <= 1:  # rates are shown on all of [0, 1], so that figures can be compared
        axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(_words(metric))
    axes.set_title(f"{_words(metric)} · {'training' if split == 'train' else _words(split)}", loc="left")
    if x != "wall" and last >= 10_000:
        from matplotlib.ticker import EngFormatter

        axes.xaxis.set_major_formatter(EngFormatter())
    legend(axes)
    shaded = any(len(values) > 1 for _, values in curves.values())
    text = f"{NAMES[statistic]} over seeds" + (f"; shaded: {confidence:.0%} bootstrap interval" if shaded else "")
    figure.supxlabel(text if shaded else "one seed", fontsize=8, color=FAINT, x=0.99, ha="right")
    return figure


def interval_bars(
    intervals: Mapping[str, Mapping[str, stats.Interval]], *, xlabel: str = "", title: str | None = None
) -> Figure:
    """Draw one panel per statistic or metric, in each one bar per label from low to high with a tick at the point.

    `intervals` is panel title -> label -> interval of floats; the labels are those of the first panel.
    """
    labels = list(next(iter(intervals.values()), ()))
    if not labels:
        raise UserError("There is nothing to draw: give at least one panel with one interval.")
    figure, row = new_figure(1.6 + 2.5 * len(intervals), 0.95 + 0.36 * len(labels), 1, len(intervals))
    for axes, (name, panel) in zip(np.ravel(row), intervals.items(), strict=True):
        for number, label in enumerate(labels):
            if label in panel:
                point, low, high = panel[label]
                axes.barh(number, high - low, 0.56, left=low, color=style(number)["color"], alpha=0.5, zorder=2)
                axes.vlines(point, number - 0.36, number + 0.36, color=INK, lw=2.0, zorder=3)
        shown = [plain(label) for label in labels] if axes is np.ravel(row)[0] else [""] * len(labels)
        axes.set_yticks(range(len(labels)), shown)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.use_sticky_edges = False  # a bar's start is not an origin
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(plain(name))
        axes.set_xlabel(plain(xlabel))
    if title:
        figure.suptitle(plain(title), fontsize=11.5, color=INK)
    return figure


# Curves of several runs on common points


def pool_curves(
    runs: Sequence[Path | Rows], metric: str, split: str = "train", *, x: str = "step", points: int = POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the curves of all seeds of several runs of one arm on common points; see `pool`.

    Args:
        runs: run folders, or the rows of runs (of `read_metrics`), which are repetitions of one
            another. Where the agents of a run are of different arms, use `paperloop_lab.report.report`.
        metric: the name of a metric; its leading axis, if it has one, is the seed axis, and further axes are tasks.
        split: "train", or the name of an evaluator.
        x: "step"; "wall", the running time; or a counter of the trainer's progress such as "env_steps".
        points: the most points to return.

    Raises:
        UserError: a run lacks the metric, or there is no point that all have in common.
    """
    found = []
    for run in [Path(runs)] if isinstance(runs, (str, Path)) else runs:
        rows = read_metrics(Path(run)) if isinstance(run, (str, Path)) else run
        where = str(run) if isinstance(run, (str, Path)) else "these rows"
        try:
            one = curve(rows, metric, split)
        except UserError as error:
            raise UserError(str(error).replace("these rows", where)) from None
        counters = {}
        known = metric_names(rows) if x not in ("step", "wall") else {}
        for name, place in [(name, place) for name in (x, f"progress/{x}") for place in (split, *known)]:
            if name not in counters and name in known.get(place, ()):
                counters[name] = curve(rows, name, place)
        values = one.values.reshape(len(one.steps), one.values.shape[1] if one.values.ndim > 1 else 1, -1)
        found.append((abscissa(one, x, counters, where), values))
    return pool(found, f"metric {metric!r} of {split}", points)


def pool(
    curves: Sequence[tuple[np.ndarray, np.ndarray]], what: str = "these curves", points: int = POINTS
) -> tuple[np.ndarray, np.ndarray]:
    """Return curves of several runs, which are repetitions of one another, on common points.

    Each curve is interpolated linearly on the union of all points that lie where every seed has values, so the set of
    seeds is the same everywhere and no curve is extended. If those points are more than `points`, each curve is
    averaged in that many bins of equal width instead. Values that are not finite are left out.

    Args:
        curves: of each run the points (n,), ascending, and the values (n, seeds, tasks).
        what: what they are, for messages.
        points: the most points to return: m of (m,) and of the values (seeds, tasks, m).
    """
    if len({values.shape[2] for _, values in curves}) != 1:
        raise UserError(f"The runs to pool have {what} with different axes: plot them under labels of their own.")
    tasks = curves[0][1].shape[2]
    lines = []
    for at, values in curves:
        for line in values.reshape(len(at), -1).T:
            kept = np.isfinite(line)
            lines.append((at[kept], line[kept]))
    if not all(len(at) for at, _ in lines):
        raise UserError(f"For some seed {what} has no finite value: leave that run out.")
    start, end = max(at[0] for at, _ in lines), min(at[-1] for at, _ in lines)
    union = np.unique(np.concatenate([at for at, _ in lines]))
    union = union[(union >= start) & (union <= end)]
    if not union.size:
        raise UserError(f"The runs to pool have no point in common for {what}: let them run equally far.")
    if len(union) > points:
        edges = np.linspace(start, end, points + 1)
        union = (edges[1:] + edges[:-1]) / 2
        drawn = [_binned(at, values, edges, union) for at, values in lines]
    else:
        drawn = [np.interp(union, at, values) for at, values in lines]
    return union, np.array(drawn).reshape(-1, tasks, len(union))


class NoCounterError(UserError):
    """A run has no counter of the name that was asked for as the horizontal axis."""


def abscissa(one: Curve, x: str, counters: Mapping[str, Curve], where: str = "these rows") -> np.ndarray:
    """Return the points (n,) at which a curve was measured, in terms of "step", "wall", or a counter.

    `counters` are the run's curves of that name, or of `progress/NAME`, as the runner calls a trainer's counters.
    """
    if x == "step":
        return one.steps.astype(float)
    if x == "wall":
        return one.wall
    for name in (x, f"progress/{x}"):
        if name in counters:
            at, values = counters[name].steps, counters[name].values
            count = values.reshape(len(at), -1).mean(axis=1)
            if name.startswith("progress/") and at[0] > 0:
                at, count = np.append(0, at), np.append(0.0, count)  # before the first step nothing was done
            return np.interp(one.steps, at, count)
    raise NoCounterError(f'There is no counter {x!r} in {where}: log it as a metric, or choose x="step" or "wall".')


def _binned(at: np.ndarray, values: np.ndarray, edges: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Bin means of one curve; a bin without a row is interpolated."""
    count, _ = np.histogram(at, edges)
    total, _ = np.histogram(at, edges, weights=values)
    return np.interp(centres, centres[count > 0], total[count > 0] / count[count > 0])


def _time_unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * scale:
            return scale, f"running time ({unit})"
    return 1.0, "running time (seconds)"


def _words(name: str) -> str:
    return plain(name.replace("_", " ").replace("/", " / "))
