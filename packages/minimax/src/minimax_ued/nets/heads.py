"""Policy heads and value heads on top of a recurrent core."""

from __future__ import annotations

from flax import linen as nn
from jax import Array

from minimax_ued.nets.products import Linear

__all__ = ["Head"]


class Head(nn.Module):
    """One tanh layer and a linear output, `[..., H]` -> `[..., outputs]`.

    Attributes:
        width: units of the hidden layer.
        outputs: width of the result.
        constant: initial value of all of the last kernel; None makes it orthogonal. A number and no initialiser, which
            would be equal to nothing but itself: modules are compared by value.
    """

    width: int
    outputs: int
    constant: float | None = None

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Apply the head."""
        init = nn.initializers.orthogonal()
        if self.constant is not None:
            init = nn.initializers.constant(self.constant)
        hidden = nn.tanh(Linear(self.width, nn.initializers.orthogonal(2.0**0.5), name="Dense_0")(features))
        return Linear(self.outputs, init, name="Dense_1")(hidden)
