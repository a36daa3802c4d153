"""The tabular study as a table and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cascade_explore.config import FourRooms, MultiRoom
from cascade_explore.envs.families import make_layouts
from cascade_explore.envs.layouts import WALL
from cascade_explore.reports.folders import made
from cascade_explore.tabular.rooms import METHODS
from cascade_explore.tabular.study import Study, study
from cascade_explore.tabular.tree import cascade_deployments, identical_deployments, independent_deployments
from paperloop.files import write_json
from paperloop_lab.plots import COLOURS, band, legend, new_figure, save_figure
from paperloop_lab.stats import Interval, stratified_bootstrap

__all__ = ["coverage_figure", "heat_figure", "interval", "owner_map", "tabular_report", "tree_lines"]

LABELS = {
    "cascade": "cascade", "population": "population Plan2Explore", "identical": "identical agents", "random": "random",
}  # fmt: skip


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Return mean and 95 % bootstrap interval over the rows of `[n]` or, column by column, of `[n, K]`."""
    if values.ndim == 1:
        return stratified_bootstrap(values, "mean", reps=2000, seed=seed)
    columns = [interval(values[:, k], seed) for k in range(values.shape[1])]
    return Interval(*(np.array([float(getattr(c, name)) for c in columns]) for name in ("point", "low", "high")))


def tree_lines(cases: tuple[tuple[int, int], ...] = ((64, 8), (32, 10), (256, 10))) -> list[str]:
    """Return a Markdown table of the binary tree: deployments to see all leaves."""
    lines = ["| leaves | agents | cascade | alone, ties at random | identical |", "|---|---|---|---|---|"]
    for leaves, agents in cases:
        alone = independent_deployments(leaves, agents)
        lines.append(
            f"| {leaves} | {agents} | {cascade_deployments(leaves, agents)} | {alone:.2f} | "
            f"{identical_deployments(leaves, agents)} |"
        )
    return lines


def coverage_figure(found: dict[str, Study]) -> Any:
    """Return coverage over deployments, a panel for each environment, bands over layouts."""
    figure, panels = new_figure(4.6 * len(found), 3.5, 1, len(found))
    for axes, (name, one) in zip(np.ravel(panels), found.items(), strict=True):
        for i, (method, values) in enumerate(one.coverage.items()):
            band(axes, np.arange(1, values.shape[1] + 1), interval(values), i, LABELS[method])
        axes.set_title(name)
        axes.set_xlabel("deployments")
    first = np.ravel(panels)[0]
    first.set_ylabel("reachable state-actions tried")
    legend(first)
    return figure


def owner_map(visits: np.ndarray, walls: np.ndarray) -> np.ndarray:
    """Return a picture `[W, H, 3]` in which the colour of a cell is the agent that was there most.

    Args:
        visits: counts `[B, W, H]`.
        walls: bool `[W, H]`.
    """
    palette = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS[:-1]])
    picture = np.ones((*walls.shape, 3))
    picture[walls] = 0.25
    owner, total = visits.argmax(0), visits.sum(0)
    strength = 0.25 + 0.75 * np.log1p(total) / np.log1p(max(total.max(), 1))
    been = total > 0
    picture[been] = 1.0 - strength[been][:, None] * (1.0 - palette[owner[been] % len(palette)])
    return picture


def heat_figure(one: Study, walls: np.ndarray, *, shown: tuple[str, ...] = ("cascade", "population")) -> Any:
    """Return maps of the first layout, a panel for each method (`owner_map`)."""
    names = [name for name in shown if name in one.visits]
    figure, panels = new_figure(3.4 * len(names), 3.6, 1, len(names))
    for axes, name in zip(np.ravel(panels), names, strict=True):
        axes.imshow(owner_map(one.visits[name], walls).transpose(1, 0, 2), interpolation="nearest")
        axes.set_title(LABELS.get(name, name))
        axes.set_axis_off()
    return figure


def tabular_report(
    out: Path, *, layouts: int, agents: int, deployments: int, seed: int, rooms_only: str | None = None
) -> dict[str, Study]:
    """Run the study, print its table, and write tabular.json and figures into `out`."""
    envs: dict[str, Any] = {
        "four rooms": FourRooms(layouts=layouts),
        "chain of six rooms": MultiRoom(rooms=6, size=5, layouts=layouts),
    }
    envs = {name: env for name, env in envs.items() if rooms_only in (None, env.type)}
    made(out)
    print("\n".join(["Binary tree: deployments until all leaves are seen", "", *tree_lines(), ""]))
    found = {}
    for name, env in envs.items():
        found[name] = study(env, METHODS, agents=agents, deployments=deployments, seed=seed)
    print(f"Share of reachable state-actions tried, {agents} agents, {deployments} deployments, {layouts} layouts\n")
    print("| | " + " | ".join(LABELS.values()) + " |\n|" + "---|" * (len(LABELS) + 1))
    numbers: dict[str, Any] = {}
    for name, one in found.items():
        ends = {method: interval(values[:, -1]) for method, values in one.coverage.items()}
        print(f"| {name} | " + " | ".join(f"{e.point:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in ends.values()) + " |")
        numbers[name] = {
            method: {
                "coverage": one.coverage[method].tolist(),
                "success": one.success[method].tolist(),
                "end": [float(e.point), float(e.low), float(e.high)],
            }
            for method, e in ends.items()
        }
    write_json(out / "tabular.json", numbers)
    save_figure(coverage_figure(found), out / "coverage.png")
    first = next(iter(envs))
    walls = make_layouts(envs[first])[0].cells[..., 0] == WALL
    save_figure(heat_figure(found[first], walls), out / "who-went-where.png")
    print(f"\ntabular.json, coverage.png, who-went-where.png: {out}")
    return found
