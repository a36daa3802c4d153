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

from minimax_ued.nets.recurrent.gru import GRUCore
from minimax_ued.nets.recurrent.lstm import LSTMCore
from minimax_ued.nets.recurrent.s5 import S5Core
from minimax_ued.settings.learners import Core, GRUConfig, S5Config

__all__ = ["make_core"]


def make_core(config: Core, inputs: int) -> nn.Module:
    """Return the core that `config` describes, from `inputs` = D to `config.features` = H."""
    if isinstance(config, S5Config):
        return S5Core(config.features, inputs, config)
    return (GRUCore if isinstance(config, GRUConfig) else LSTMCore)(config.features, inputs)
