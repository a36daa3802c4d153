"""Fine-tuning on the answers alone, and how many steps a capability needs to come back."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llm_probes.wrapped.instruments import Draw, Examples, View, accuracy, answer_loss

__all__ = ["Optimiser", "add_noise", "make_optimiser", "revival", "steps_to", "warmup_cosine"]

Optimiser = Literal["sgd", "adamw"]


def warmup_cosine(step: int, *, steps: int, warmup: float = 0.2, last: float = 0.01) -> float:
    """Return the factor of the learning rate: linear from 0 over the first share `warmup`, then a cosine to `last`.

    Jain et al. 2024: warm-up over 20 % of the steps and a cosine to 1 % of the peak.
    """
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    progress = (step - rise + 1) / max(1, steps - rise)
    return last + (1 - last) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def make_optimiser(
    parameters: Iterable[Tensor], kind: Optimiser, lr: float, *, foreach: bool | None = None
) -> torch.optim.Optimizer:
    """Return SGD with momentum 0.9 (the paper's for compiled models) or AdamW over what is trainable."""
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, foreach=foreach)
    return torch.optim.AdamW(parameters, lr=lr, foreach=foreach)


def add_noise(model: nn.Module, scale: float, generator: torch.Generator) -> None:
    """Add normal noise to every weight, so that weights that the compiler left at zero can learn."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))


def revival(
    view: View,
    model: Any,
    draw: Draw,
    test: Examples,
    *,
    marks: Sequence[int],
    lr: float,
    optimiser: Optimiser = "sgd",
    batch: int = 96,
    seed: int = 0,
) -> list[tuple[int, float]]:
    """Fine-tune a copy of a model back to a task and return (step, test accuracy) at the given steps.

    Args:
        view: how the model is read.
        model: it is not changed.
        draw: training examples of the task.
        test: other examples of it.
        marks: rising numbers of steps at which to measure; 0 is before training.
        lr: peak rate, warmed up and cooled down over the last mark.
        optimiser: see `make_optimiser`.
        batch: examples of one step.
        seed: of the training examples.
    """
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    optimiser_ = make_optimiser(model.parameters(), optimiser, lr)
    curve = [(0, accuracy(view, model, test))] if 0 in marks else []
    for step in range(max(marks)):
        for group in optimiser_.param_groups:
            group["lr"] = lr * warmup_cosine(step, steps=max(marks), warmup=0.05)
        optimiser_.zero_grad()
        answer_loss(view, model, draw(batch, generator)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser_.step()
        if step + 1 in marks:
            curve.append((step + 1, accuracy(view, model, test)))
    return curve


def steps_to(curve: Sequence[tuple[int, float]], level: float) -> float:
    """Return the first step at which the curve reaches `level`, interpolated; infinity where it never does."""
    previous = None
    for step, value in curve:
        if value >= level:
            if previous is None or value == previous[1]:
                return float(step)
            share = (level - previous[1]) / (value - previous[1])
            return previous[0] + share * (step - previous[0])
        previous = step, value
    return math.inf
