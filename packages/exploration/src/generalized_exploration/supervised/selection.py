"""Online batch selection for any array data set and any loss: score a large batch, train on the best of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from generalized_exploration.criteria.catalogue import Criterion
from generalized_exploration.criteria.evidence import Evidence
from generalized_exploration.samplers.draws import top_k
from paperloop.errors import UserError

__all__ = ["fit", "reference_losses", "take", "update"]

Losses = Callable[[Any, Any], Array]


def take(tree: Any, index: Array) -> Any:
    """Return the rows `index` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def update(
    losses: Losses, optimiser: optax.GradientTransformation, params: Any, opt_state: Any, batch: Any
) -> tuple[Any, Any]:
    """Do one step on the mean of `losses(params, batch)`, [n]; return parameters and the optimiser's state."""
    gradients = jax.grad(lambda p: losses(p, batch).mean())(params)
    changes, opt_state = optimiser.update(gradients, opt_state, params)
    return optax.apply_updates(params, changes), opt_state


def reference_losses(losses: Losses, params: Any, data: Any, *, batch: int = 1024) -> Array:
    """Return the losses [N] of a reference model on all examples, once, before training (Mindermann et al. 2022).

    Args:
        losses: parameters and a batch -> losses [n].
        params: of the reference.
        data: a pytree, [N, ...].
        batch: examples at a time.
    """
    n = jax.tree.leaves(data)[0].shape[0]
    blocks = -(-n // batch)
    index = jnp.minimum(jnp.arange(blocks * batch), n - 1).reshape(blocks, batch)
    return jax.lax.map(lambda rows: losses(params, take(data, rows)), index).reshape(-1)[:n]


def fit(
    losses: Losses, params: Any, data: Any, key: Array, *, criterion: Criterion, steps: int, pool: int, keep: int,
    optimiser: optax.GradientTransformation, evidence: Mapping[str, Array] | None = None,
) -> tuple[Any, Array]:  # fmt: skip
    """Train by batch selection, in one program.

    At each step `pool` examples are drawn without replacement from a permutation of the epoch, scored, and the `keep`
    highest are trained on, with equal weights.

    Args:
        losses: parameters and a batch -> losses [n]; traced.
        params: to begin with.
        data: a pytree, [N, ...].
        key: of the order.
        criterion: of the evidence `loss` and of what is in `evidence`.
        steps: updates.
        pool: n_B.
        keep: n_b.
        optimiser: of optax.
        evidence: field of `Evidence` -> [N], such as `reference_loss`.

    Returns:
        parameters, and the indices of what was trained on, [steps, keep].

    Raises:
        UserError: the numbers do not fit, or evidence is missing.
    """
    n = jax.tree.leaves(data)[0].shape[0]
    fixed = dict(evidence or {})
    for name, value in fixed.items():
        if jnp.shape(value)[:1] != (n,):
            raise UserError(f"Evidence {name} has shape {jnp.shape(value)}, and there are {n} examples.")
    if not 1 <= keep <= pool <= n:
        raise UserError(f"keep is {keep} and pool {pool}: they must be in this order, and at most {n} examples.")
    per_epoch = n // pool

    def step(carry: tuple[Any, Any], t: Array) -> tuple[tuple[Any, Any], Array]:
        params, opt_state = carry
        # A permutation is a function of the epoch alone, so that nothing but the step number is remembered.
        order = orders[t // per_epoch]
        rows = jax.lax.dynamic_slice(order, ((t % per_epoch) * pool,), (pool,))
        found = Evidence(loss=losses(params, take(data, rows)), **{name: value[rows] for name, value in fixed.items()})
        chosen = rows[top_k(criterion(found), keep)]
        return update(losses, optimiser, params, opt_state, take(data, chosen)), chosen

    epochs = -(-steps // per_epoch)
    orders = jax.vmap(lambda epoch: jax.random.permutation(jax.random.fold_in(key, epoch), n))(jnp.arange(epochs))
    (params, _), chosen = jax.lax.scan(step, (params, optimiser.init(params)), jnp.arange(steps))
    return params, chosen
