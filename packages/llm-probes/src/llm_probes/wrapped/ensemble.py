"""Several runs as one program: the parameters of all members stacked, one forward and backward pass for all."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from llm_probes.wrapped.instruments import Examples
from llm_probes.wrapped.rasp import RaspTransformer
from llm_probes.wrapped.tune import Optimiser, make_optimiser, warmup_cosine

__all__ = ["Stacked", "by_vmap", "compiled_logits", "train_together"]

#: (parameters by name, each with the members in front; tokens [members, examples, positions])
#: -> class logits [members, examples, classes].
Stacked = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def by_vmap(model: nn.Module, read: Callable[[Callable[[Tensor], Any], Tensor], Tensor]) -> Stacked:
    """Return the logits of members of any architecture.

    Args:
        model: one of them.
        read: (function that calls a model on tokens, tokens) -> class logits [examples, classes].
    """
    shared, buffers = copy.deepcopy(model).to("meta"), dict(model.named_buffers())

    def one(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        return read(lambda tokens: functional_call(shared, (dict(parameters), buffers), (tokens,)), tokens)

    return vmap(one)


def compiled_logits(parameters: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Return the logits of compiled transformers (`RaspTransformer`) at the last position.

    Products over all members are one batched product, and the last block works at the last position alone.
    """
    members, examples, positions = tokens.shape
    table = parameters["token.weight"]
    rows = tokens.flatten(1) + table.shape[1] * torch.arange(members, device=tokens.device)[:, None]
    stream = nn.functional.embedding(rows, table.flatten(0, 1)).view(members, examples, positions, -1)
    stream = stream + parameters["position.weight"][:, None, :positions]
    blocks = 1 + max(int(name.split(".")[1]) for name in parameters if name.startswith("blocks."))
    for i in range(blocks):
        matrix = {name: parameters[f"blocks.{i}.{name}.weight"] for name in ("query", "key", "value", "out")}
        keys, values = (_linear(stream, matrix[name]).flatten(0, 1) for name in ("key", "value"))
        if i == blocks - 1:
            stream = stream[:, :, -1:]
        queries = _linear(stream, matrix["query"]).flatten(0, 1)
        attention = (queries @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])).softmax(-1)
        stream = stream + _linear((attention @ values).unflatten(0, (members, examples)), matrix["out"])
        names = ("mlp_in.weight", "mlp_in.bias", "mlp_out.weight")
        inward, bias, outward = (parameters[f"blocks.{i}.{name}"] for name in names)
        stream = stream + _linear(torch.relu(_linear(stream, inward, bias)), outward)
    return _linear(stream, parameters["unembed.weight"])[:, :, -1]


def train_together(
    models: Sequence[nn.Module],
    draw: Callable[[int], Sequence[Examples]],
    *,
    logits: Stacked | None = None,
    steps: int,
    lr: float,
    optimiser: Optimiser = "sgd",
    clip: float = 10.0,
) -> list[float]:
    """Fine-tune models of one architecture in place, all at once, and return each one's last loss.

    Every member gets the updates that it would get alone: the optimisers work weight by weight, and gradients are
    clipped by each member's own norm. Parameters without `requires_grad` in the first model stay as they are.

    Args:
        models: the members; may differ in their weights only.
        draw: step -> one batch of examples for each member, all of one size and without padding.
        logits: of the stacked members; may be left out for compiled transformers. `by_vmap` makes it for others.
        steps: of training, with the schedule of `warmup_cosine`.
        lr: peak rate.
        optimiser: SGD with momentum 0.9, or AdamW.
        clip: largest norm of a member's gradient.
    """
    if logits is None:
        if not isinstance(models[0], RaspTransformer):
            raise TypeError("only compiled transformers have logits of their own here; make others with by_vmap")
        logits = compiled_logits
    stacked, _ = stack_module_state(list(models))
    trained = {name for name, p in models[0].named_parameters() if p.requires_grad}
    stacked = {name: value.detach().requires_grad_(name in trained) for name, value in stacked.items()}
    moving = [stacked[name] for name in stacked if name in trained]

    update = make_optimiser(moving, optimiser, lr, foreach=True)
    losses = torch.zeros(len(models))
    for step in range(steps):
        batches = draw(step)
        tokens, targets = (torch.stack([getattr(b, name) for b in batches]) for name in ("tokens", "targets"))
        scores = logits(stacked, tokens).float()
        losses = nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none")
        losses = losses.view(targets.shape).mean(1)
        gradients = torch.autograd.grad(losses.sum(), moving)
        norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        scale = (clip / (norms + 1e-6)).clamp(max=1.0)
        for parameter, gradient in zip(moving, gradients, strict=True):
            parameter.grad = gradient * scale.view(-1, *[1] * (parameter.ndim - 1))
        for group in update.param_groups:
            group["lr"] = lr * warmup_cosine(step, steps=steps)
        update.step()
    with torch.no_grad():
        for i, model in enumerate(models):
            for name, parameter in model.named_parameters():
                if name in trained:
                    parameter.copy_(stacked[name][i])
    return losses.tolist()


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return inputs [members, ..., n] times the transposes of weights [members, m, n], plus biases [members, m]."""
    flat = inputs.flatten(1, -2)
    found = (
        flat @ weight.transpose(1, 2) if bias is None else torch.baddbmm(bias[:, None], flat, weight.transpose(1, 2))
    )
    return found.view(*inputs.shape[:-1], -1)
