"""Recurrent cores: what they have in common, and the choice of one by name.

A core is a flax module with three methods. B denotes the number of environments, T the number of steps, D the width of
the input, H that of the output:

    initial_carry(batch)           -> carry, leaves [B, ...]
    step(carry, inputs, resets)    -> carry, outputs     inputs [B, D], resets bool [B], outputs [B, H]
    __call__(carry, inputs, resets)-> carry, outputs     the same for sequences, [T, B, ...]

`resets` is true where the memory must be forgotten before the step. A sequence is what its steps are, one after the
other; and the sequence from t on, started from the memory after step t - 1, is the rest of the long one.
"""

from __future__ import annotations

from flax import linen as nn

from minimax_ued.config import S5Config
from minimax_ued.nets.products import Precision
from minimax_ued.nets.recurrent.gru import GRUCore
from minimax_ued.nets.recurrent.lstm import LSTMCore
from minimax_ued.nets.recurrent.s5 import S5Core

__all__ = ["make_core"]


def make_core(arch: str, features: int, inputs: int, s5: S5Config, dtype: Precision = "float32") -> nn.Module:
    """Return the core that `arch` ("lstm", "gru" or "s5") names, from `inputs` = D to `features` = H."""
    if arch == "s5":
        return S5Core(features, inputs, s5, dtype)
    return {"lstm": LSTMCore, "gru": GRUCore}[arch](features, inputs, dtype)
