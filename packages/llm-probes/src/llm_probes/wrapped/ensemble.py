"""Several runs as one program: the parameters of all members stacked, one forward and backward pass for all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from llm_probes.wrapped.instruments import Examples
from llm_probes.wrapped.tune import Optimiser, make_optimiser, warmup_cosine

__all__ = ["train_together"]


def train_together(
    models: Sequence[nn.Module],
    draw: Callable[[int], Sequence[Examples]],
    logits: Callable[[Callable[[Tensor], Any], Tensor], Tensor],
    *,
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
        logits: (function that calls a model on tokens, tokens) -> class logits [examples, classes].
        steps: of training, with the schedule of `warmup_cosine`.
        lr: peak rate.
        optimiser: SGD with momentum 0.9, or AdamW.
        clip: largest norm of a member's gradient.
    """
    shared = copy.deepcopy(models[0]).to("meta")
    stacked, buffers = stack_module_state(list(models))
    trained = {name: p for name, p in models[0].named_parameters() if p.requires_grad}
    moving: dict[str, Any] = {name: stacked[name].detach().requires_grad_(True) for name in trained}
    fixed = {name: value.detach() for name, value in stacked.items() if name not in trained}

    def loss(moving: Any, fixed: Any, buffers: Any, tokens: Tensor, targets: Tensor) -> Tensor:
        def call(tokens: Tensor) -> Any:
            return functional_call(shared, (moving, fixed, buffers), (tokens,))

        return nn.functional.cross_entropy(logits(call, tokens).float(), targets)

    step_of_all = vmap(grad_and_value(loss))
    update = make_optimiser(moving.values(), optimiser, lr)
    values = torch.zeros(len(models))
    for step in range(steps):
        batches = draw(step)
        tokens, targets = (torch.stack([getattr(b, name) for b in batches]) for name in ("tokens", "targets"))
        gradients, values = step_of_all(moving, fixed, buffers, tokens, targets)
        squares = torch.stack([g.flatten(1).square().sum(1) for g in gradients.values()]).sum(0)
        scale = (clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for name, parameter in moving.items():
            parameter.grad = gradients[name] * scale.view(-1, *[1] * (parameter.ndim - 1))
        for group in update.param_groups:
            group["lr"] = lr * warmup_cosine(step, steps=steps)
        update.step()
    with torch.no_grad():
        for i, model in enumerate(models):
            for name, parameter in model.named_parameters():
                if name in moving:
                    parameter.copy_(moving[name][i])
    return values.tolist()
