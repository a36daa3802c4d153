"""What the runs of `benchmarks.policy_finetune_hopper` say: rows, claims that can fail, and the figure.

All of it works on records, one for each agent: `arm`, `start`, `seed`; `steps` and the measures at them, (T,) each;
`again`, the mean return over many fresh episodes with its interval; for agents that are not fine-tuned also `noise`,
what as many evaluations of fresh episodes give without training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paperloop_lab import plots
from paperloop_lab.stats import Interval

#: Share of the minimum / start without training that counts as kept.
KEEPS = 0.8

#: Agents of an arm without which it is not said to do both.
AGENTS = 2


def judged(agents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each fine-tuned agent: what it kept, what noise keeps, where it ended, and whether it does both.

    Ratios are to the start over many fresh episodes, because one over few may be luck.
    """
    before = {(one["start"], one["seed"]): one for one in agents if one["arm"] == "no training"}
    rows = []
    for one in agents:
        start = before.get((one["start"], one["seed"]))
        if one["arm"] == "no training":
            continue
        row = {"arm": one["arm"], "start": one["start"], "seed": one["seed"], "final": one["again"], "both": None}
        row |= {name: [float(one[name][0]), float(one[name][-1])] for name in ("level", "spread", "correlation")}
        if start is not None:
            from_, to = start["again"], one["again"]
            row |= {"from": from_, "kept": float(one["return"][1:].min() / from_[0])}
            row["noise_keeps"] = float(start["noise"].min() / from_[0])
            row["both"] = bool(row["kept"] >= KEEPS * row["noise_keeps"] and to[1] > from_[2])
        rows.append(row)
    return rows


def predicted_level(updates: Any, *, discount: float, tau: float, every: int) -> Any:
    """Return mean Q / mean return of a critic that began at zero, whose targets move by τ at every `every`-th update.

    The target's mean error e falls by τ (1 - γ) e with each move, because Q is the reward and γ times the target.
    """
    return 1.0 - np.exp(-(1.0 - discount) * tau * np.asarray(updates, float) / every)


def verdicts(agents: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the claims, whether they hold (None: a run is missing), and the figures that say so."""
    before = {(one["start"], one["seed"]): one for one in agents if one["arm"] == "no training"}
    zero = [one for (name, _), one in before.items() if name in ("plain", "ln")]
    level = [one for (name, _), one in before.items() if name not in ("plain", "ln")]
    off = [
        float(np.abs(one["level"] - predicted_level(one["steps"], discount=0.99, tau=0.005, every=2))[1:].max())
        for one in zero
    ]
    kept = {(row["arm"], row["seed"]): row.get("kept") for row in rows}
    final = {(row["arm"], row["seed"]): row["final"][0] for row in rows}
    pairs = _pairs(kept, "TD3, level", "TD3, plain")
    offline = _pairs(final, "RLPD", "RLPD from scratch")
    found: dict[str, list[bool]] = {}
    for row in rows:
        if row["both"] is not None:
            found.setdefault(row["arm"], []).append(row["both"])
    both = [arm for arm, agents_do in found.items() if len(agents_do) >= AGENTS and all(agents_do)]
    said = [
        ("critics that begin at zero are below 0.7 of the returns at the switch", zero and all(
            one["level"][-1] < 0.7 for one in zero), [float(one["level"][-1]) for one in zero]),
        ("as the speed of their targets predicts, to 0.1", zero and max(off) <= 0.1, off),
        ("critics that begin at the data's mean return are within 0.15 of it", level and all(
            abs(one["level"][-1] - 1) <= 0.15 for one in level), [float(one["level"][-1]) for one in level]),
        ("TD3 keeps more of its start with a level critic", pairs and all(a > b for a, b in pairs), pairs),
        ("RLPD ends above RLPD from scratch", offline and all(a > b for a, b in offline), offline),
        ("an arm does both", bool(both) if rows else [], both),
    ]  # fmt: skip
    return [
        {"claim": c, "holds": None if holds == [] else bool(holds), "figures": figures} for c, holds, figures in said
    ]


def _pairs(values: Mapping[tuple[str, int], Any], first: str, second: str) -> list[tuple[Any, Any]]:
    """Return the values of two arms, by seed, where both have one."""
    seeds = [seed for arm, seed in values if arm == first and (second, seed) in values]
    return [(values[first, seed], values[second, seed]) for seed in seeds]


def curves_figure(agents: Sequence[dict[str, Any]]) -> Any:
    """Draw Q / return offline and online, and the returns: a line for each arm, mean and range over seeds."""
    figure, (offline, online, returns) = plots.new_figure(13, 5.2, 1, 3)
    before = [one for one in agents if one["arm"] == "no training"]
    after = [one for one in agents if one["arm"] != "no training"]
    _lines(offline, before, "start", "level", first=1)  # before any update the ratio says nothing
    if before:
        n = np.linspace(0, max(one["steps"][-1] for one in before), 50)
        expected = predicted_level(n, discount=0.99, tau=0.005, every=2)
        offline.plot(n, expected, color="#222222", lw=1, ls=":", label="begun at zero, predicted")
    _lines(online, after, "arm", "level")
    _lines(returns, after, "arm", "return")
    for axes, title, x, y in (
        (offline, "pre-training", "critic updates", "mean Q / mean return of the policy"),
        (online, "fine-tuning", "environment steps", ""), (returns, "fine-tuning", "environment steps", "return"),
    ):  # fmt: skip
        axes.set_title(title, loc="left")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0, top=None if axes is returns else 1.2 if axes is offline else 3)
    online.axhline(1, color="#222222", lw=1, ls=":")
    offline.legend(fontsize=8, frameon=False)
    handles, names = returns.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _lines(axes: Any, agents: Sequence[dict[str, Any]], by: str, measure: str, *, first: int = 0) -> None:
    for i, name in enumerate(dict.fromkeys(one[by] for one in agents)):
        own = [one for one in agents if one[by] == name]
        values = np.stack([one[measure][first:] for one in own])
        plots.band(axes, own[0]["steps"][first:], Interval(values.mean(0), values.min(0), values.max(0)), i, name)
