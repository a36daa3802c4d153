"""Arms of the comparison: a criterion each, or a baseline, as one step of training on a pool of examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from generalized_exploration.criteria.catalogue import CRITERIA
from generalized_exploration.criteria.evidence import Evidence
from generalized_exploration.samplers.draws import top_k
from generalized_exploration.supervised.selection import update

__all__ = ["Arm", "ArmState", "cross_entropy", "make_arm"]


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Losses [n], in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


class ArmState(NamedTuple):
    """One learner, or an ensemble of them.

    Attributes:
        params: with a leading axis of members.
        optimiser: likewise.
        previous_loss: [N], when each example was last scored; log C before.
        previous_step: i32[N], when that was; -1 before.
    """

    params: Any
    optimiser: Any
    previous_loss: Array
    previous_step: Array


@dataclass(frozen=True)
class Arm:
    """How one arm chooses.

    Attributes:
        name: of the arm.
        criterion: by which it chooses; uniform needs no scores.
        members: learners; the first is measured.
        more_data: it also draws from the reference's holdout.
        from_reference: it starts with the reference's weights.
        updates: of `keep` examples each, in a step.
    """

    name: str
    criterion: str
    members: int = 1
    more_data: bool = False
    from_reference: bool = False
    updates: int = 1

    def cost(self, pool: int, keep: int) -> int:
        """Forward passes of one example that a step is worth: a backward pass counts as two."""
        needs = CRITERIA[self.criterion].needs
        scored = 0 if needs in ((), ("reference_loss",)) else pool
        return self.members * (scored + 3 * keep * self.updates)

    def step(
        self, network: Any, optimiser: Any, state: ArmState, rows: Array, pool: tuple[Array, Array],
        reference_loss: Array, t: Array, keep: int,
    ) -> tuple[ArmState, Array]:  # fmt: skip
        """Score a pool, train on the best of it, and return the places in the pool that were trained on.

        Args:
            network: flax module.
            optimiser: of optax.
            state: of the arm.
            rows: [n_B], the examples' indices.
            pool: examples and labels.
            reference_loss: [n_B].
            t: steps before this one.
            keep: n_b.
        """
        x, y = pool
        if self.criterion == "uniform":
            chosen = jnp.arange(keep * self.updates)  # the pool is in random order
        else:
            logits = jax.vmap(lambda p: network.apply(p, x))(state.params)
            loss = cross_entropy(logits[0], y)
            found = Evidence(
                loss=loss, reference_loss=reference_loss, logits=logits[0], labels=y,
                probabilities=jax.nn.softmax(logits) if self.members > 1 else None,
                previous_loss=state.previous_loss[rows], elapsed=(t - state.previous_step[rows]).astype(jnp.float32),
            )  # fmt: skip
            chosen = top_k(CRITERIA[self.criterion](found), keep)
            if self.criterion == "learning_progress":
                state = state._replace(
                    previous_loss=state.previous_loss.at[rows].set(loss),
                    previous_step=state.previous_step.at[rows].set(t),
                )

        def losses(params: Any, batch: tuple[Array, Array]) -> Array:
            return cross_entropy(network.apply(params, batch[0]), batch[1])

        params, memory = state.params, state.optimiser
        for part in jnp.split(chosen, self.updates):
            batch = (x[part], y[part])
            params, memory = jax.vmap(lambda p, o, b=batch: update(losses, optimiser, p, o, b))(params, memory)
        return state._replace(params=params, optimiser=memory), chosen


def make_arm(name: str, *, members: int, pool: int, keep: int) -> Arm:
    """Return the arm of that name."""
    if name == "disagreement":
        return Arm(name, "disagreement", members=members)
    if name == "uniform_more_data":
        return Arm(name, "uniform", more_data=True)
    if name == "uniform_from_reference":
        return Arm(name, "uniform", from_reference=True)
    if name == "uniform_equal_flops":
        # As many updates as cost no more than scoring the pool and training on the best of it.
        return Arm(name, "uniform", updates=min((pool + 3 * keep) // (3 * keep), pool // keep))
    return Arm(name, name)
