"""Criteria as scores of levels in `minimax-ued` (extra `levels`).

    from generalized_exploration import criterion
    from generalized_exploration.levels import as_score

    as_score(criterion("learnability"))
    config = replace_in(PRESETS["small_robust_plr"], {"method.buffer.score": "learnability_criterion"})

A rollout of minimax-ued on B levels gives this evidence: `advantages`, `values` and `mask` of the steps of finished
episodes, `success_rate`, `mean_return`, `best_return`, and `reference_return` where the environment knows the optimum.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from generalized_exploration.criteria.catalogue import Criterion
from generalized_exploration.criteria.evidence import Evidence
from minimax_ued.replay.scores import Rollout, register_score
from paperloop.errors import UserError

__all__ = ["as_score", "evidence_of"]

#: The evidence that a rollout can give.
AVAILABLE = (
    "advantages", "values", "mask", "success_rate", "reference_success_rate", "mean_return", "best_return",
    "reference_return",
)  # fmt: skip


def evidence_of(rollout: Rollout) -> Evidence:
    """Return what a rollout says about its B levels. Steps of an episode that was cut off do not count."""

    def flat(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x, 1, 0).reshape(x.shape[1], -1)

    # A step belongs to a finished episode if any step from it on ends one.
    finished = jax.lax.cummax(rollout.dones.astype(jnp.int32), axis=0, reverse=True)
    optimal = rollout.optimal_returns
    return Evidence(
        advantages=flat(rollout.advantages), values=flat(rollout.values), mask=flat(finished),
        success_rate=rollout.episodes.success_rate, mean_return=rollout.episodes.mean_return,
        best_return=rollout.max_returns, reference_return=optimal,
        # The best policy succeeds, or fails, always: what it expects says which.
        reference_success_rate=None if optimal is None else (optimal > rollout.success_return).astype(jnp.float32),
    )  # fmt: skip


def as_score(criterion: Criterion, name: str | None = None) -> str:
    """Register a criterion as a score of levels, and return its name for the setting `score` of the level buffer.

    Args:
        criterion: of evidence that a rollout gives.
        name: of the score; None means the criterion's with "_criterion" behind.

    Raises:
        UserError: it needs evidence that no rollout gives, or there is another score of that name.
    """
    missing = [need for need in criterion.needs if need not in AVAILABLE]
    if missing:
        raise UserError(
            f"The criterion {criterion.name} needs {' and '.join(missing)}, and a rollout on levels gives "
            f"{', '.join(AVAILABLE)}: choose another criterion."
        )
    name = name or f"{criterion.name}_criterion"
    needs_optimum = bool({"reference_return", "reference_success_rate"} & set(criterion.needs))

    @register_score(name, needs_optimum=needs_optimum)
    def score(rollout: Rollout) -> Any:
        return criterion(evidence_of(rollout))

    return name
