"""A diagnosis on the console and as JSON."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from paperloop.errors import printable
from paperloop.settings import to_dict
from policy_finetune.diagnosis.measures import (
    Estimate,
    Optimism,
)
from policy_finetune.diagnosis.rules import (
    LIMITS,
    AgentDiagnosis,
    DataDiagnosis,
    Diagnosis,
    Recommendation,
)

__all__ = ["fields_of", "measures_table", "plain", "returns_table", "show", "to_json", "warn"]


def to_json(diagnosis: Diagnosis, ways: Sequence[Recommendation], **about: Any) -> dict[str, Any]:
    """Return everything as a document for JSON."""
    document = {
        **about, "env_id": diagnosis.env_id, "learner": to_dict(diagnosis.learner),
        "data": fields_of(diagnosis.data), "agents": [fields_of(agent) for agent in diagnosis.agents],
        "random": diagnosis.random._asdict(), "returns": diagnosis.returns._asdict(),
        "difference": diagnosis.difference._asdict(), "scale": diagnosis.scale, "scale_is": diagnosis.scale_is,
        "margin": diagnosis.margin, "regimes": list(diagnosis.regimes), "narrow": diagnosis.narrow,
        "misled": diagnosis.misled, "fragile": diagnosis.fragile, "warnings": list(diagnosis.warnings),
        "recommendations": [{**dataclasses.asdict(way), "options": list(way.options)} for way in ways],
        "limits": LIMITS,
    }  # fmt: skip
    return document


def fields_of(item: Any) -> dict[str, Any]:
    """Return a dataclass as a dictionary, estimates by name."""
    values = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return {
        name: value._asdict() if isinstance(value, (Estimate, Optimism)) else value for name, value in values.items()
    }


def plain(value: Any) -> Any:
    """Return a document without NaN and infinity, which JSON does not know: None instead."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def show(diagnosis: Diagnosis, ways: Sequence[Recommendation], run: Path) -> None:
    """Print the tables and the recommendations."""
    console = Console()
    data = diagnosis.data
    console.print(returns_table(data, diagnosis.random, diagnosis.agents))
    console.print(measures_table(data, diagnosis.agents))
    warn(console, diagnosis.warnings)
    for number, way in enumerate(ways, 1):
        sure = "" if way.certain else " (toss-up)" if way.uncertainty.startswith("A toss-up") else " (uncertain)"
        begin = ["--start", str(run)]
        if way.program == "train":
            begin = ["--env-id", diagnosis.env_id, "--data", data.file]
        whole = ["policy-finetune", way.program, *begin, "--out", f"{run}-online-{number}"]
        command = f"{shlex.join(whole)} {way.command}" if way.complete else way.command
        lines = [f"\n{number}. {way.title}{sure}", f"   {command}", f"   {way.because}"]
        lines += [f"   {way.uncertainty}"] if way.uncertainty else []
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    console.print(f"\n{LIMITS}", markup=False, highlight=False, soft_wrap=True)


def warn(console: Console, warnings: Sequence[str]) -> None:
    """Print each warning on a line of its own."""
    for warning in warnings:
        console.print(printable(f"warning: {warning}"), markup=False, highlight=False, soft_wrap=True)


def returns_table(data: DataDiagnosis, chance: Estimate, agents: Sequence[AgentDiagnosis]) -> Table:
    """Return the returns of data and agents, next to one another."""
    table = Table("", "return", "± 95 %", "what else")
    table.add_row(
        "data, mean of episodes", *_cells(data.returns),
        f"median {data.median:.1f}, best tenth {data.top:.1f}, best {data.best:.1f}; {data.episodes} episodes, "
        f"{100 * data.terminated:.0f} % terminated, {100 * data.truncated:.0f} % at a time limit",
    )  # fmt: skip
    table.add_row("random actions", *_cells(chance), "")
    for agent in agents:
        table.add_row(
            printable(f"policy {agent.label} {agent.index}".replace("  ", " ")), *_cells(agent.returns),
            f"with noise {agent.noisy.point:.1f}; {agent.length:.0f} steps, {100 * agent.terminated:.0f} % terminated",
        )  # fmt: skip
        if agent.greedy is not None:
            table.add_row(
                "  its critic alone",
                *_cells(agent.greedy),
                f"{agent.greedy_distance:.2f} away from the policy's action",
            )
    return table


def measures_table(data: DataDiagnosis, agents: Sequence[AgentDiagnosis]) -> Table:
    """Return what was measured of data and agents."""
    table = Table("measure", "value", "to compare with")
    table.add_row("actions at a state vary by", f"{data.action_spread:.3f}", "uniform 0.58")
    table.add_row("behaviours in the data", f"{data.behaviours:.1f}", f"{data.episodes} episodes")
    table.add_row("effective rank of observations", f"{data.rank:.1f}", f"{data.obs_dim} dimensions")
    for agent in agents:
        who = printable(f"policy {agent.label} {agent.index}".replace("  ", " "))
        table.add_row(f"{who}: visits beyond the data", f"{100 * agent.beyond:.0f} %", "5 % for the data themselves")
        table.add_row("  distance to the data", f"{agent.gap:.3f}", f"{data.gap:.3f} between the data's episodes")
        table.add_row(
            "  action minus the data's", f"{agent.action_distance:.3f}", f"{data.action_spread:.3f} in the data"
        )
        if agent.optimism is not None and agent.preference is not None:
            relative, spread = 100 * agent.optimism.relative, 100 * agent.optimism.spread
            much = "much" if relative >= 0 else "little"
            table.add_row(f"  critic promises too {much} by", f"{abs(relative):.0f} %", f"± {spread:.0f} % over steps")
            gain = f"{100 * agent.preference:.1f} %"
            table.add_row("  Q of its actions minus Q of the data's", gain, "of the returns")
    return table


def _cells(value: Estimate) -> tuple[str, str]:
    return f"{value.point:.1f}", f"{(value.high - value.low) / 2:.1f}"
