"""What the metrics of a run say about its health: divergence, multipliers out of range, constraints that do nothing.

for sentence in findings(read_metrics(Path("runs/x"))):
print(sentence)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paperloop.errors import setting
from policy_finetune.measures.readings import numbers

__all__ = ["findings"]

#: Critics whose mean |Q| is this many times the largest possible value are called divergent.
Q_FACTOR = 10.0
#: A multiplier beyond these does not steer any more: it has run away, or sits on its floor.
LAMBDA_RANGE = (1e-6, 1e4)
#: distance / ε that never comes near this has not felt the constraint ...
NEVER = 0.5
#: ... and that stays above this in the second half of a run does not obey it.
ALWAYS = 2.0


def findings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one sentence for each thing in a run's metrics that deserves a look.

    Args:
        rows: of metrics.jsonl (of `read_metrics`); rows of evaluators are not looked at. Rows from
            before the first update (`learning` 0) do not count.

    Returns:
        Sentences; none where all is well or there are no rows of training.
    """
    train = [row for row in rows if row.get("split") == "train"]
    if not train:
        return []
    learning = [row for row in train if np.any(np.asarray(row.get("learning", 1.0)) > 0)]
    if not learning:
        return [
            f"No update was made: the run ended within its warm-up. Raise {_of('env_steps')}, or lower "
            f"{_of('switch.warmup_env_steps')} and {_of('random_env_steps')}."
        ]
    return [*_nonfinite(train), *_divergence(learning), *_multipliers(learning), *_constraints(learning)]


def _of(name: str) -> str:
    """Return how a setting is called by whoever reads this; a command without it shows its name."""
    return setting(name, otherwise=name)


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray | None:
    """Return (rows, A) float64 of a metric, NaN where a row holds null; None where it is absent or no such thing."""
    values = [numbers(row[name]) for row in rows if name in row]
    if not values or values[0] is None or any(v is None or v.shape != values[0].shape for v in values):
        return None
    return np.array(values)


def _nonfinite(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    for row in rows:
        known = {name: numbers(value) for name, value in row.items() if name != "split"}
        bad = sorted(name for name, value in known.items() if value is not None and not np.isfinite(value).all())
        if bad:
            return [
                f"{', '.join(bad)} is not finite at step {row['step']}: lower the learning rates, or look into "
                "the data."
            ]
    return []


def _divergence(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    ratio = _series(rows, "q_over_bound")
    if ratio is None:
        return []
    agents = np.flatnonzero((ratio > Q_FACTOR).any(0))
    if not agents.size:
        return []
    return [
        f"The critics diverge in {_who(agents, ratio)}: mean |Q| reached {np.nanmax(ratio):.3g} times max |reward| / "
        "(1 - discount), which no policy can earn (SAC's entropy is allowed for). Lower "
        f"{_of('learner.critic_lr')}, use critics with {_of('learner.network.layer_norm')}, or more offline data."
    ]


def _multipliers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    value, over = _series(rows, "lambda"), _series(rows, "distance_over_epsilon")
    if value is None or over is None:
        return []
    said, constrained = [], (over > 0).any(0)
    high = np.flatnonzero(constrained & (value > LAMBDA_RANGE[1]).any(0))
    low = np.flatnonzero(constrained & (value[-1] < LAMBDA_RANGE[0]))
    if high.size:
        said.append(
            f"The multiplier ran away in {_who(high, value)} (up to {np.nanmax(value[:, high]):.3g}): the policy "
            f"cannot stay within ε. Raise {_of('learner.constraint.epsilon')}, or lower {_of('learner.actor_lr')}."
        )
    if low.size:
        said.append(
            f"The multiplier has fallen to its floor in {_who(low, value)}: the constraint is off. Lower "
            f"{_of('learner.constraint.epsilon')} if it should hold."
        )
    return said


def _constraints(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    # Agents without a constraint, and those with a fixed penalty, which knows no ε, log a distance of 0.
    over = _series(rows, "distance_over_epsilon")
    if over is None:
        return []
    said, constrained = [], (over > 0).any(0)
    idle = np.flatnonzero(constrained & (np.nanmax(over, 0) < NEVER))
    half = over[len(over) // 2 :]
    broken = np.flatnonzero(constrained & (np.nanmin(half, 0) > ALWAYS))
    if idle.size:
        said.append(
            f"The constraint was never active in {_who(idle, over)}: the distance stayed below "
            f"{np.nanmax(over[:, idle]):.2g} ε. It had no "
            f"effect beyond the multiplier's start; lower {_of('learner.constraint.epsilon')} or "
            f"{_of('learner.constraint.nu0')}."
        )
    if broken.size:
        said.append(
            f"The constraint was violated throughout the second half of the run in {_who(broken, over)} (at least "
            f"{np.nanmin(half[:, broken]):.2g} ε): raise {_of('learner.constraint.dual_lr')} or "
            f"{_of('learner.constraint.nu0')}, or lower {_of('learner.actor_lr')}."
        )
    return said


def _who(agents: np.ndarray, series: np.ndarray) -> str:
    """Return "agent 3", "agents 0, 2", or "all agents"."""
    if len(agents) == series.shape[1]:
        return "all agents" if len(agents) > 1 else "the agent"
    return f"agent{'s' if len(agents) > 1 else ''} {', '.join(map(str, agents))}"
