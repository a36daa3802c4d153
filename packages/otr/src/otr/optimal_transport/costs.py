"""Costs between two sequences of vectors, and the form in which solvers want their rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from otr.settings.transport import CosineCost, CostConfig, EuclideanCost, RegisteredCost
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["CostFunction", "Rows", "cost_matrix", "prepare_rows", "register_cost"]

#: (T, D) and (T', D) float32 vectors to their (T, T') costs, finite in float32.
CostFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Kinds of rows whose costs every solver computes itself.
BUILT_IN = ("dot", "euclidean", "sqeuclidean")
#: Of the cosine: float32 sees it for short vectors only.
RIDGE = 1e-8
_REGISTERED: dict[str, CostFunction] = {}


def register_cost(name: str, function: CostFunction) -> None:
    """Make `RegisteredCost(name=name)` mean `function`. Registering the same function again is not an error.

    Raises:
        UserError: another cost has that name.
    """
    if name in BUILT_IN or _REGISTERED.get(name, function) is not function:
        raise UserError(f"There is a cost named {name!r} already: choose another name.")
    _REGISTERED[name] = function


class Rows(NamedTuple):
    """Vectors as a solver takes them.

    Attributes:
        values: (N, D) float32.
        norms: (N,) float32, the lengths of the raw vectors, for the cosine's ridge; ones for other costs.
        kind: "dot" (the cost is 1 - <x, y>, times |x||y|/(|x||y| + ridge)), "euclidean", "sqeuclidean", or the name of
            a registered cost.
        ridge: of the cosine, 0 for other costs.
    """

    values: np.ndarray
    norms: np.ndarray
    kind: str
    ridge: float = 0.0

    def select(self, rows: slice) -> Rows:
        """Return some of the rows."""
        return self._replace(values=self.values[rows], norms=self.norms[rows])


def prepare_rows(values: np.ndarray, starts: np.ndarray, cost: CostConfig) -> Rows:
    """Bring vectors into the form that makes `cost` cheap.

    Args:
        values: (N, D) finite numbers.
        starts: (E,) first rows of the episodes, for costs over a context of several steps.
        cost: the cost.

    Raises:
        UserError: there is no such cost, or a value is too large for float32.
    """
    ones = np.ones(len(values), np.float32)
    if isinstance(cost, CosineCost):
        rows = _directions(values)
        # The mean of cosines is the product of the stacked unit vectors, but each has a ridge of its own: that of
        # vectors shorter than 1e-4 goes lost, all-zero ones keep their cost of 1.
        rows = rows._replace(norms=ones, ridge=0.0) if cost.context > 1 else rows
    else:
        kind = cost.name if isinstance(cost, RegisteredCost) else cost.type
        if kind not in (*BUILT_IN, *_REGISTERED):
            raise UserError(f"There is no cost registered as {kind!r}{did_you_mean(kind, _REGISTERED)}")
        with np.errstate(over="ignore"):
            rows = Rows(values.astype(np.float32), ones, kind)
        if not np.isfinite(rows.values).all():
            raise UserError(f"The cost {kind!r} works in float32, which ends at 3e38: scale the features down.")
    if not isinstance(cost, EuclideanCost | RegisteredCost) and cost.context > 1:
        rows = rows._replace(values=_stacked(rows.values, starts, cost.context))
    return rows._replace(values=np.ascontiguousarray(rows.values))


def _directions(values: np.ndarray) -> Rows:
    """Unit vectors and lengths, by float64, so that no squares of large values overflow nor of small ones vanish."""
    wide = values.astype(np.float64)
    largest = np.abs(wide).max(axis=1, initial=0.0)
    safe = np.where(largest > 0, largest, 1.0)
    norms = np.sqrt(np.square(wide / safe[:, None]).sum(axis=1)) * safe
    unit = np.where(largest[:, None] > 0, wide / np.where(largest > 0, norms, 1.0)[:, None], 0.0)
    norms = np.where(largest > 0, norms, 0.0)
    with np.errstate(over="ignore"):
        return Rows(unit.astype(np.float32), np.minimum(norms, 1e18).astype(np.float32), "dot", RIDGE)


def _stacked(values: np.ndarray, starts: np.ndarray, context: int) -> np.ndarray:
    """Each row followed by the next ones of its episode, over sqrt(context): products become means of products."""
    ends = np.append(starts[1:], len(values))
    last = np.repeat(ends - 1, ends - starts)
    rows = np.arange(len(values))
    parts = [values[np.minimum(rows + ahead, last)] for ahead in range(context)]
    return np.concatenate(parts, axis=1) / np.float32(np.sqrt(context))


def ridge_matters(x: Rows, y: Rows) -> bool:
    """Whether float32 can tell the cosine with its ridge from the one without."""
    if x.ridge == 0 or not len(x.norms) or not len(y.norms):
        return False
    return float(x.norms.min()) * float(y.norms.min()) < 1e8 * x.ridge


def cost_matrix(x: Rows, y: Rows, dtype: type = np.float32) -> np.ndarray:
    """Return the costs (T, T') of two prepared sequences.

    Raises:
        UserError: a registered cost returns another shape, or NaN or infinities.
    """
    if x.kind in _REGISTERED:
        with np.errstate(over="ignore"):
            result = np.ascontiguousarray(_REGISTERED[x.kind](x.values, y.values), dtype)
        if result.shape != (len(x.values), len(y.values)) or not np.isfinite(result).all():
            raise UserError(
                f"The cost {x.kind!r} returned an array of shape {result.shape}; it has to return finite numbers of "
                f"shape {(len(x.values), len(y.values))}."
            )
        return result
    a, b = x.values.astype(dtype), y.values.astype(dtype)
    if x.kind == "dot":
        product = a @ b.T
        if ridge_matters(x, y):
            norms = x.norms[:, None].astype(dtype) * y.norms[None].astype(dtype)
            product *= norms / (norms + dtype(x.ridge))
        return dtype(1) - product
    squares = np.zeros((len(a), len(b)), dtype)
    for d in range(a.shape[1]):  # differences, not |x|^2 + |y|^2 - 2<x, y>, which loses what is close
        squares += np.square(a[:, d, None] - b[None, :, d])
    return np.sqrt(squares) if x.kind == "euclidean" else squares
