"""A diagnosis on the console and as JSON."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paperloop.errors import note, printable
from paperloop.files import write_json
from paperloop.loop.metrics_file import finite_or_null
from paperloop.settings import to_dict
from paperloop_lab.console import show
from paperloop_lab.stats import Interval
from policy_finetune.diagnosis.rules import LIMITS, NARROW, AgentDiagnosis, DataDiagnosis, Diagnosis, recommend

__all__ = ["show_data", "show_diagnosis"]


def _write(out: Path, **parts: Any) -> Path:
    """Write OUT/diagnosis.json: estimates and dataclasses as objects, what is undefined as null."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "diagnosis.json", finite_or_null(_plain(parts)))
    return out / "diagnosis.json"


def show_diagnosis(diagnosis: Diagnosis, run: Path, out: Path, **about: Any) -> None:
    """Print the table and the recommendations, and write them.

    Args:
        diagnosis: of the agents of a run.
        run: its folder, for the commands.
        out: where diagnosis.json goes.
        about: further entries of it.
    """
    ways = recommend(diagnosis)
    _table(diagnosis.data, diagnosis.random, diagnosis.agents)
    note(diagnosis.warnings)
    for number, way in enumerate(ways, 1):
        toss_up = way.uncertainty.startswith("A toss-up")
        sure = " (toss-up)" if toss_up else " (uncertain)" if way.uncertainty else ""
        begin = ["--start", str(run)]
        if way.program == "train":
            begin = ["--env-id", diagnosis.env_id, "--data", diagnosis.data.file]
        whole = ["policy-finetune", way.program, *begin, "--out", f"{run}-online-{number}", *way.options]
        command = shlex.join(whole) if way.complete else shlex.join(way.options)
        print(printable(f"\n{number}. {way.title}{sure}\n   {command}\n   {way.because}"))
        if way.uncertainty:
            print(printable(f"   {way.uncertainty}"))
    print(f"\n{LIMITS}")
    derived = {name: getattr(diagnosis, name) for name in ("margin", "regimes", "narrow", "misled", "fragile")}
    print(_write(out, **about, **_fields(diagnosis), **derived, recommendations=ways, limits=LIMITS))


def show_data(data: DataDiagnosis, chance: Interval, warnings: Sequence[str], out: Path | None, **about: Any) -> None:
    """Print what a dataset is like, and write it where a folder is given."""
    _table(data, chance, ())
    note(warnings)
    narrow = data.action_spread < NARROW
    said = (
        f"Narrow data: actions at a state vary by less than {NARROW}, so a policy may collapse when it goes online."
        if narrow
        else f"Not narrow: actions at a state vary by {NARROW} or more."
    )
    print(f"{said} Name a run as well, and replay and constraint are recommended.")
    if out is not None:
        print(_write(out, **about, data=data, random=chance, narrow=narrow, warnings=warnings))


def _table(data: DataDiagnosis, chance: Interval, agents: Sequence[AgentDiagnosis]) -> None:
    rows = [("data, mean of episodes", *_cells(data.returns)), ("random actions", *_cells(chance))]
    for agent in agents:
        rows.append((f"policy {agent.label} {agent.index}".replace("  ", " "), *_cells(agent.returns)))
        if agent.greedy is not None:
            rows.append(("  its critic alone", *_cells(agent.greedy)))
    show(("", "return", "± 95 %"), rows)
    print(
        f"data: {data.episodes} episodes, median {data.median:.1f}, best tenth {data.top:.1f}, best {data.best:.1f}; "
        f"{100 * data.terminated:.0f} % terminated, {100 * data.truncated:.0f} % at a time limit; actions at a state "
        f"vary by {data.action_spread:.3f} (uniform 0.58)"
    )


def _cells(value: Interval) -> tuple[str, str]:
    return f"{value.point:.1f}", f"{(value.high - value.low) / 2:.1f}"


def _fields(item: Any) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return value._asdict()
    if hasattr(type(value), "__pydantic_fields__"):
        return to_dict(value)
    if dataclasses.is_dataclass(value):
        return _plain(_fields(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
