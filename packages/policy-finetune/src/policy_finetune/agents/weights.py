"""Stacking the numbers by which agents of one program differ; `policy_finetune.agents.structure` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from policy_finetune.agents.structure import structure_of, weights_of

__all__ = ["stack_weights", "structure_of", "weights_of"]


def stack_weights(agents: Sequence[Mapping[str, float]]) -> dict[str, Array]:
    """Return name -> [A] f32."""
    return {name: jnp.asarray(np.array([agent[name] for agent in agents], np.float32)) for name in agents[0]}
