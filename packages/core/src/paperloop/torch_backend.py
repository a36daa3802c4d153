"""Saving and restoring PyTorch states, through safetensors. The only module that knows safetensors.

    payload/
      tree.json             the nesting of every state dictionary, with numbers, strings and names of tensors
      tensors.safetensors   the tensors

A state dictionary (of a module, an optimiser, a scheduler ...) is nested dictionaries and lists of tensors and plain
values. The tensors go to safetensors and the rest to JSON, so nothing is ever pickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperloop.errors import CheckpointError, UserError
from paperloop.files import write_json
from paperloop.loop.checkpoint import compare_leaves

__all__ = ["load_objects", "save_objects"]


def save_objects(objects: Mapping[str, Any], folder: Path) -> None:
    """Write a torch state, given as named parts, into the existing `folder`.

    A part is a module, optimiser, scheduler (whatever has `state_dict` and `load_state_dict`), a `torch.Generator`, a
    tensor, or a plain value (nested dictionaries, lists, numbers, strings, None).
    """
    safetensors = _safetensors()
    tensors: dict[str, Any] = {}
    encoded = _encode({name: _to_tree(part) for name, part in objects.items()}, "", tensors)
    write_json(folder / "tree.json", encoded)
    safetensors.save_file(tensors, str(folder / "tensors.safetensors"))


def load_objects(objects: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Read back what `save_objects` wrote under the same names.

    Modules, optimisers and generators are overwritten in place, and returned; of the others the values read are.

    Raises:
        CheckpointError: names, shapes or dtypes differ; the message names the part. Nothing is changed then.
    """
    import torch

    saved = _load_tree(folder)
    if set(saved) != set(objects):
        raise CheckpointError(
            f"The checkpoint in {folder} holds the parts {sorted(saved)}, and this method has {sorted(objects)}: "
            "use the method and config.json that it was made with."
        )
    for name, part in objects.items():  # everything is compared before anything is changed
        if isinstance(part, (torch.Tensor, torch.Generator)) or hasattr(part, "load_state_dict"):
            there, here = _leaves(saved[name], name), _leaves(_to_tree(part), name)
            if isinstance(part, torch.optim.Optimizer):  # one that has not stepped yet has no moments
                there, here = (
                    {k: v for k, v in d.items() if not k.startswith(f"{name}/state/")} for d in (there, here)
                )
            compare_leaves(there, here, folder)
    result = {}
    for name, part in objects.items():
        if isinstance(part, torch.Generator):
            part.set_state(saved[name])
            result[name] = part
        elif hasattr(part, "load_state_dict"):
            part.load_state_dict(saved[name])
            result[name] = part
        else:
            value = saved[name]
            result[name] = value.to(part.device) if isinstance(part, torch.Tensor) else value
    return result


def _load_tree(folder: Path) -> Any:
    """The tree that `save_objects` wrote; its tensors are on the CPU."""
    safetensors = _safetensors()
    try:
        encoded = json.loads((folder / "tree.json").read_text())
        return _decode(encoded, safetensors.load_file(str(folder / "tensors.safetensors")))
    except Exception as error:  # safetensors has an error type of its own
        raise CheckpointError(
            f"The torch state in {folder} cannot be read ({type(error).__name__}: {error})."
        ) from None


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise UserError(f"Saving torch states needs safetensors ({error}): pip install 'paperloop[torch]'.") from None
    return safetensors.torch


def _to_tree(part: Any) -> Any:
    import torch

    if isinstance(part, torch.Generator):
        return part.get_state()
    return part.state_dict() if hasattr(part, "state_dict") else part


def _encode(node: Any, path: str, tensors: dict[str, Any]) -> Any:
    """JSON for `node`; its tensors are moved into `tensors` under their path.

    Containers become {"dict": [[key, value], ...]}, {"list": [...]}, {"tuple": [...]} because the keys of an
    optimiser's state are integers, which a JSON object would turn into strings. JSON has no infinity: {"float": "inf"}.
    """
    import torch

    if isinstance(node, torch.Tensor):
        # A copy: safetensors refuses tensors that share memory, as tied weights do.
        name = path if path not in tensors else f"{path}#{len(tensors)}"  # {"a/b": x, "a": {"b": y}}
        tensors[name] = node.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(node, Mapping):
        return {"dict": [[key, _encode(value, f"{path}/{key}", tensors)] for key, value in node.items()]}
    if isinstance(node, (list, tuple)):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return {kind: [_encode(value, f"{path}/{i}", tensors) for i, value in enumerate(node)]}
    if isinstance(node, float) and not math.isfinite(node):  # the best loss so far of ReduceLROnPlateau
        return {"float": str(float(node))}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise UserError(
        f"State part {path or '/'} is a {type(node).__name__}, which is neither a tensor nor a plain value: "
        "keep a tensor, a number, a string, or a list or dictionary of these in its place."
    )


def _decode(node: Any, tensors: Mapping[str, Any]) -> Any:
    if not isinstance(node, dict):
        return node
    kind, content = next(iter(node.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {key: _decode(value, tensors) for key, value in content}
    values = [_decode(value, tensors) for value in content]
    return tuple(values) if kind == "tuple" else values


def _leaves(node: Any, path: str) -> dict[str, list[Any]]:
    """Path -> [shape, dtype] of every tensor; a plain value has neither."""
    if isinstance(node, Mapping):
        entries = node.items()
    elif isinstance(node, (list, tuple)):
        entries = enumerate(node)
    else:
        return {path: [list(node.shape), str(node.dtype)] if hasattr(node, "dtype") else [None, None]}
    return {name: leaf for key, value in entries for name, leaf in _leaves(value, f"{path}/{key}").items()}
