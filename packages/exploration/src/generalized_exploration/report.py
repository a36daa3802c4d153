"""Figures and tables of the two experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from generalized_exploration.outer.families import FAMILIES
from paperloop.files import write_atomically
from paperloop.loop.metrics_file import read_metrics
from paperloop.settings import read_json
from paperloop_lab.plots import band, legend, new_figure, save_figure, style
from paperloop_lab.stats import curve_interval

__all__ = [
    "growth_figure", "growth_report", "growth_table", "read_curves", "selection_figure", "selection_report",
    "selection_table",
]  # fmt: skip

Curves = dict[str, np.ndarray]


def read_curves(run: Path) -> tuple[list[str], dict[str, Curves]]:
    """Return the arms, and metric -> arm -> [seeds, rows], of a run folder."""
    agents = read_json(run / "run.json")["agents"]
    rows = [row for row in read_metrics(run) if row["split"] == "train"]
    arms = list(dict.fromkeys(agents))
    # Counters of progress are not lists.
    names = [name for name, value in rows[0].items() if isinstance(value, list)]
    curves = {}
    for name in names:
        values = np.array([row[name] for row in rows]).T
        curves[name] = {arm: values[[agent == arm for agent in agents]] for arm in arms}
    return arms, curves


def _training(curves: dict[str, Curves]) -> dict[str, Curves]:
    """Leave out the rows in which only the references were trained."""
    first = next(iter(curves["gflops"].values()))[0]
    keep = first > 0
    return {name: {arm: values[:, keep] for arm, values in of.items()} for name, of in curves.items()}


def reached(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Return the first x at which y is at or above a level; NaN if it never is."""
    hits = np.flatnonzero(y >= level)
    return float(x[hits[0]]) if hits.size else float("nan")


def selection_table(run: Path, steps_per_row: int) -> list[dict[str, Any]]:
    """Return a row for each arm: final accuracy, steps and GFLOP until uniform's final accuracy, shares selected.

    Steps and GFLOP are medians over seeds of when an arm reaches the final accuracy of uniform with the same seed.
    """
    arms, curves = read_curves(run)
    curves = _training(curves)
    rows = []
    for arm in arms:
        accuracy = curves["accuracy"][arm]
        interval = curve_interval(accuracy[:, -1:], "mean")
        row: dict[str, Any] = {
            "arm": arm, "accuracy": float(interval.point[0]),
            "low": float(interval.low[0]), "high": float(interval.high[0]),
        }  # fmt: skip
        if "uniform" in arms:
            steps = np.arange(1, accuracy.shape[1] + 1) * steps_per_row
            goals = curves["accuracy"]["uniform"][:, -1]
            row["steps_to_uniform"] = _median([reached(steps, a, g) for a, g in zip(accuracy, goals, strict=True)])
            spent = curves["gflops"][arm]
            row["gflops_to_uniform"] = _median(
                [reached(f, a, g) for f, a, g in zip(spent, accuracy, goals, strict=True)]
            )
        for name in ("corrupted", "trivial", "irrelevant"):
            row[name] = float(curves[name][arm].mean())
        rows.append(row)
    return rows


def _median(values: list[float]) -> float | None:
    """Median in which "never" is larger than every number; None where that is the median."""
    middle = float(np.median(np.nan_to_num(values, nan=np.inf)))
    return middle if np.isfinite(middle) else None


def selection_figure(run: Path) -> Any:
    """Return accuracy against steps and operations, and the share of wrong labels in what was trained on."""
    config = read_json(run / "config.json")["config"]
    arms, curves = read_curves(run)
    reference = float(np.mean(next(iter(curves["reference_accuracy"].values()))[:, -1]))
    curves = _training(curves)
    figure, (left, middle, right) = new_figure(15, 4.2, 1, 3)
    for number, arm in enumerate(arms):
        accuracy = curve_interval(curves["accuracy"][arm], "mean")
        steps = np.arange(1, accuracy.point.size + 1) * config["steps_per_dispatch"]
        band(left, steps, accuracy, number)
        band(middle, curves["gflops"][arm][0], accuracy, number)
        band(right, steps, curve_interval(curves["corrupted"][arm], "mean"), number, arm.replace("_", " "))
    left.axhline(reference, color="#888888", lw=1, ls=":")
    left.set(xlabel="steps of selection", ylabel="test accuracy")
    left.set_title(f"dotted: reference model, {reference:.2f}", fontsize=10)
    middle.set(xlabel="GFLOP, reference not counted", ylabel="test accuracy", xscale="log")
    right.set(xlabel="steps of selection", ylabel="share of wrong labels in what was trained on")
    legend(right)
    return figure


def selection_report(run: Path, out: Path | None = None, *, quiet: bool = False) -> None:
    """Draw and write what `selection_figure` and `selection_table` return, and print the table."""
    config = read_json(run / "config.json")["config"]
    out = out or run / "plots"
    if not max(read_curves(run)[1]["updates"][config["arms"][0]][0]):
        print("No arm has been trained yet: the references come first.")
        return
    save_figure(selection_figure(run), out / "selection.png")
    head = ["arm", "accuracy", "steps to uniform's", "GFLOP to it", "wrong labels", "trivial", "irrelevant"]
    lines = [
        [
            row["arm"], f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            _number(row.get("steps_to_uniform")), _number(row.get("gflops_to_uniform")),
            *(f"{row[name]:.3f}" for name in ("corrupted", "trivial", "irrelevant")),
        ]
        for row in selection_table(run, config["steps_per_dispatch"])
    ]  # fmt: skip
    noise, seeds = config["task"]["label_noise"], config["seeds"]
    title = f"{config['task']['type']}, {noise:.0%} of labels drawn anew; means and 95 % intervals of {seeds} seeds"
    _write(out, "selection", title, head, lines, quiet)


def growth_table(run: Path) -> list[dict[str, Any]]:
    """Return a row for each arm: mean and 95 % interval at the end of families passed, lost again, and so on."""
    arms, curves = read_curves(run)
    rows = []
    for arm in arms:
        row: dict[str, Any] = {"arm": arm}
        for name in ("passed", "lost", "more_general", "accuracy"):
            interval = curve_interval(curves[name][arm][:, -1:], "mean")
            row[name] = [float(value[0]) for value in (interval.point, interval.low, interval.high)]
        rows.append(row)
    return rows


def growth_figure(run: Path) -> Any:
    """Return families passed and walls in the buffer over time, and accuracy by family at the end."""
    config = read_json(run / "config.json")["config"]
    arms, curves = read_curves(run)
    figure, (left, middle, right) = new_figure(15, 4.2, 1, 3)
    for number, arm in enumerate(arms):
        steps = np.arange(1, curves["passed"][arm].shape[1] + 1) * config["steps_per_dispatch"]
        band(left, steps, curve_interval(curves["passed"][arm], "mean"), number)
        band(middle, steps, curve_interval(curves["walls"][arm], "mean"), number, arm)
        final = [curves[f"accuracy_{family}"][arm][:, -1].mean() for family in FAMILIES]
        right.plot(range(len(FAMILIES)), final, marker="o", ms=4, lw=1, **style(number))
    right.axhline(config["threshold"], color="#888888", lw=1, ls=":")
    right.set_xticks(range(len(FAMILIES)), [name.replace("_", " ") for name in FAMILIES], rotation=60, ha="right")
    left.set(xlabel="steps", ylabel=f"of {len(FAMILIES)} families passed")
    middle.set(xlabel="steps", ylabel="walls in the mazes of the buffer")
    right.set(ylabel="accuracy at the end; dotted: passed")
    legend(middle)
    return figure


def growth_report(run: Path, out: Path | None = None, *, quiet: bool = False) -> None:
    """Draw and write what `growth_figure` and `growth_table` return, and print the table."""
    out = out or run / "plots"
    save_figure(growth_figure(run), out / "growth.png")
    rows = growth_table(run)
    lines = [[row["arm"], *(f"{v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]" for v in list(row.values())[1:])] for row in rows]
    head = ["arm", "families passed", "lost again", "times more general", "accuracy"]
    seeds = read_json(run / "config.json")["config"]["seeds"]
    _write(out, "growth", f"means and 95 % intervals of {seeds} seeds", head, lines, quiet)


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:,.0f}"


def _write(out: Path, name: str, title: str, head: list[str], lines: list[list[str]], quiet: bool) -> None:
    table = [head, ["---"] * len(head), *lines]
    text = "\n".join("| " + " | ".join(row) + " |" for row in table)
    write_atomically(out / f"{name}.md", f"# {title}\n\n{text}\n".encode())
    if quiet:
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(*head, title=title, title_justify="left", box=None)
    for line in lines:
        shown.add_row(*line)
    Console().print(shown)
    print(f"{name}.png and {name}.md: {out}")
