"""An agent's policy as an ONNX graph (extra `onnx`): observations [n, obs] in, actions [n, act] out, float32.

Observations are the environment's, actions in its units: normaliser and bounds are part of the graph.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from paperloop.errors import UserError
from paperloop.files import write_atomically
from policy_finetune.data.policies import exported_arrays
from policy_finetune.envs.acting import Policy

__all__ = ["export_onnx"]

#: Versions that runtimes since 2022 read.
OPSET, IR = 17, 8


def export_onnx(policy: Policy, path: str | Path, *, label: str = "", overwrite: bool = False) -> Path:
    """Write one agent's policy as an ONNX file.

    Args:
        policy: of one agent: `policy.agent(0)`.
        path: the file.
        label: the agent's arm, for those who read the file.
        overwrite: replace a file that is there.

    Raises:
        UserError: the package onnx is missing, see `exported_arrays`, or the file exists or cannot be written.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError:
        raise UserError("ONNX files need the package onnx: pip install 'policy-finetune[onnx]'.") from None
    path = Path(path)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already; choose another name, or remove it first.")
    arrays, spec = exported_arrays(policy, label)[1], policy.spec
    arrays |= {"half": (spec.high - spec.low) / 2, "centre": (spec.high + spec.low) / 2}
    steps = [("Sub", ["obs_mean"]), ("Div", ["obs_std"])]
    for layer in (*range(len(policy.canonical.layers) - 1), "_mu"):
        steps += [("Gemm", [f"w{layer}", f"b{layer}"]), ("Tanh" if layer == "_mu" else "Relu", [])]
    steps += [("Mul", ["half"]), ("Add", ["centre"])]
    nodes, names = [], ["observation", *(f"x{i}" for i in range(len(steps) - 1)), "action"]
    for (kind, inputs), (before, after) in zip(steps, itertools.pairwise(names), strict=True):
        options: dict[str, Any] = {"transB": 1} if kind == "Gemm" else {}
        nodes.append(helper.make_node(kind, [before, *inputs], [after], **options))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("observation", spec.obs_dim), ("action", spec.act_dim))
    ]
    weights = [numpy_helper.from_array(arrays[name], name) for _, inputs in steps for name in inputs]
    graph = helper.make_graph(nodes, "policy", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    helper.set_model_props(model, {"env_id": spec.env_id, "agent": label})
    checker.check_model(model)
    try:
        write_atomically(path, model.SerializeToString())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
    return path
