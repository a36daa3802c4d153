"""What is known about items, from which criteria compute how much each is worth training on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperloop.errors import UserError

__all__ = ["Evidence", "namespace"]

#: Fields with an axis in front of the one that counts items.
_SECOND = ("probabilities",)
#: Fields that are not one entry an item.
_FREE = ("memory", "exemplars")


@dataclass(frozen=True)
class Evidence:
    """What is known about n items: examples of a data set, or levels of a curriculum. Any field may be absent.

    Arrays are NumPy's or JAX's, and one family of them at a time. Of E episodes and T steps on each level.

    Attributes:
        loss: [n], of the learner now.
        reference_loss: [n], of a model trained on held-out data.
        previous_loss: [n], of the learner when the item was last seen.
        elapsed: [n], steps since then, above 0.
        logits: [n, C].
        labels: [n], integers.
        probabilities: [m, n, C], of m ensemble members.
        success_rate: [n], chance of a right answer, or share of episodes won.
        reference_success_rate: [n], that of a reference.
        mean_return: [n], of the learner.
        reference_return: [n], of a reference agent, or the best possible.
        best_return: [n], highest seen.
        advantages: [n, T], generalised advantage estimates.
        values: [n, T], the critic's.
        mask: [n, T], 1 where a step counts.
        features: [n, d].
        memory: [k, d], features of what was trained on.
        exemplars: [k, d], features of what matters.
        visits: [n], how often each was trained on.
    """

    loss: Any = None
    reference_loss: Any = None
    previous_loss: Any = None
    elapsed: Any = None
    logits: Any = None
    labels: Any = None
    probabilities: Any = None
    success_rate: Any = None
    reference_success_rate: Any = None
    mean_return: Any = None
    reference_return: Any = None
    best_return: Any = None
    advantages: Any = None
    values: Any = None
    mask: Any = None
    features: Any = None
    memory: Any = None
    exemplars: Any = None
    visits: Any = None

    def __post_init__(self) -> None:
        sizes = {}
        for name, value in self.given().items():
            if not hasattr(value, "shape"):
                object.__setattr__(self, name, value := np.asarray(value))
            if name not in _FREE:
                axis = 1 if name in _SECOND else 0
                if len(value.shape) <= axis:
                    raise UserError(f"Evidence {name} has shape {tuple(value.shape)}: it needs an axis of items.")
                sizes[name] = value.shape[axis]
        if len(set(sizes.values())) > 1:
            (first, n), *rest = sizes.items()
            name, other = next((name, size) for name, size in rest if size != n)
            raise UserError(f"Evidence {name} is of {other} items, and {first} of {n}: give both for the same items.")

    def given(self) -> dict[str, Any]:
        """Return the fields that are not None."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def n(self) -> int:
        """How many items.

        Raises:
            UserError: nothing that is given counts items.
        """
        for name, value in self.given().items():
            if name not in _FREE:
                return value.shape[1 if name in _SECOND else 0]
        raise UserError("There is no evidence about any item: give at least one field, such as loss.")

    def require(self, names: Sequence[str], who: str) -> None:
        """Raise a `UserError` that names the field which `who` needs and this lacks."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise UserError(
                f"The criterion {who} needs {' and '.join(missing)}, and the evidence has "
                f"{', '.join(self.given()) or 'nothing'}."
            )

    def check_finite(self) -> None:
        """Raise a `UserError` that names the first field and item with a value that is not finite.

        For concrete arrays: a traced program cannot raise, and there such items rank last.
        """
        for name, value in self.given().items():
            array = np.asarray(value, dtype=float)
            if not np.isfinite(array).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise UserError(
                    f"Evidence {name}{list(at)} is {array[at]}: drop the item, or mark it invalid with `valid`."
                )


def namespace(*arrays: Any) -> Any:
    """Return the module, NumPy or jax.numpy, that the arrays belong to: JAX if any of them is JAX's."""
    found = [array.__array_namespace__() for array in arrays if hasattr(array, "__array_namespace__")]
    return next((module for module in found if module is not np), np)
