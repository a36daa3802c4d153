"""The policy of a student as named arrays, for `minimax_ued.use.numpy_student`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minimax_ued.config import S5Config, TrainConfig
from minimax_ued.nets.recurrent.s5 import S5Layer
from minimax_ued.use.numpy_student import S5_ARRAYS
from paperloop.errors import UserError
from paperloop.settings import to_dict

__all__ = ["about", "policy_arrays"]

_FORMAT = 2


def about(config: TrainConfig) -> dict[str, Any]:
    """Return what a reader of the arrays must know, and the whole configuration, as JSON."""
    core = config.student.core
    told: dict[str, Any] = {"format": _FORMAT, "core": core.type}
    if isinstance(core, S5Config):
        told |= {"layers": core.layers, "norm": core.norm}
    return told | {"config": to_dict(config)}


def policy_arrays(config: TrainConfig, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return name -> weights of the encoder, the core and the policy head.

    Args:
        config: of the run.
        params: variables of a student made by `make_student`.

    Raises:
        UserError: they are those of another network.
    """
    try:
        weights = params["params"]
        encoder, core, policy = (weights[name] for name in ("encoder", "core", "policy"))
        found = {
            "hidden": policy["Dense_0"]["kernel"],
            "hidden_bias": policy["Dense_0"]["bias"],
            "policy": policy["Dense_1"]["kernel"],
            "policy_bias": policy["Dense_1"]["bias"],
        }
        if "Embed_0" in encoder:
            found |= {"conv": encoder["kernel"], "conv_bias": encoder["bias"]}
            found["directions"] = encoder["Embed_0"]["embedding"]
        else:
            found |= {"dense": encoder["Linear_0"]["kernel"], "dense_bias": encoder["Linear_0"]["bias"]}
        if isinstance(config.student.core, S5Config):
            found |= _s5_arrays(config.student.core, core)
        else:
            found |= {"input": core["input_kernel"], "recurrent": core["recurrent_kernel"], "bias": core["bias"]}
            if config.student.core.type == "gru":
                found["candidate_bias"] = core["candidate_bias"]
    except (KeyError, TypeError):
        raise UserError("Only students made by make_student can be exported, and this one is another.") from None
    return {name: np.asarray(value) for name, value in found.items()}


def _s5_arrays(config: S5Config, core: Mapping[str, Any]) -> dict[str, Any]:
    """The layers with their recurrence discretised: x_t = a x_{t-1} + u_t b, y_t = 2 Re(x_t c) + d u_t."""
    found = {"embed": core["embed"]["kernel"], "embed_bias": core["embed"]["bias"]}
    for i in range(config.layers):
        layer = core[f"layers_{i}"]
        a, kernel = S5Layer(config.features, config).apply({"params": layer}, method="discretise")
        b = np.asarray(kernel).reshape(config.features, 2, -1)
        arrays = (
            np.asarray(a[0] + 1j * a[1]),
            b[:, 0] + 1j * b[:, 1],
            (layer["C"][0] + 1j * layer["C"][1]).T,
            layer["D"],
            layer["gate"]["kernel"],
            layer["gate"]["bias"],
            layer["norm"]["scale"],
            layer["norm"]["bias"],
        )
        found |= {f"{name}{i}": array for name, array in zip(S5_ARRAYS, arrays, strict=True)}
    return found
