"""Prune to revive: remove the few weights whose removal helps the old task most (Jain et al. 2024, algorithm 3)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from llm_probes.wrapped.instruments import Examples, View, accuracy, answer_loss
from paperloop.errors import UserError

__all__ = ["PruneResult", "Unit", "late", "prune", "pruned", "scores"]

Unit = Literal["weight", "row"]


@dataclass(frozen=True)
class PruneResult:
    """Accuracies in percent after pruning K units.

    Attributes:
        sizes: the K.
        accuracy: after removing the K units with the highest scores.
        random: the same for random units, mean over draws.
        classes: how many different answers the pruned model gives; 1 is a constant, whatever its accuracy.
        units: "<matrix>[row]" or "<matrix>[row, column]" of the highest scores, best first.
    """

    sizes: tuple[int, ...]
    accuracy: tuple[float, ...]
    random: tuple[float, ...]
    classes: tuple[int, ...]
    units: tuple[str, ...]

    @property
    def best(self) -> int:
        """The position in `sizes` of the best accuracy."""
        return max(range(len(self.sizes)), key=lambda i: self.accuracy[i])


def scores(
    view: View, model: Any, examples: Examples, *, unit: Unit = "weight", start: float = 0.0, batch: int = 250
) -> dict[str, Tensor]:
    """Return theta * dL/dtheta of the task's loss for every unit: minus the loss's first-order change if it is removed.

    A row of a weight matrix, one output unit, has the sum over its weights. The gradient is the mean over all examples;
    fewer than a thousand give an unsteady order.
    """
    parameters = late(view.prunable(model), start)
    total = {name: torch.zeros_like(parameter.detach()) for name, parameter in parameters.items()}
    wanted = list(parameters.values())
    frozen = [parameter for parameter in wanted if not parameter.requires_grad]  # as under an adapter
    for parameter in frozen:
        parameter.requires_grad_(True)
    for start in range(0, len(examples), batch):
        part = examples.take(slice(start, start + batch))
        gradients = torch.autograd.grad(answer_loss(view, model, part), wanted, allow_unused=True)
        for name, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient * (len(part) / len(examples))
    for parameter in frozen:
        parameter.requires_grad_(False)
    products = {name: (parameters[name] * total[name]).detach() for name in total}
    if unit == "weight":
        return products
    flipped = _flipped(model)
    return {name: product.sum(0 if name in flipped else 1) for name, product in products.items()}


def late(parameters: dict[str, Any], start: float) -> dict[str, Any]:
    """Return the parameters of the blocks from the share `start` of the depth on.

    A block's number is the first number in its parameters' names, as in `transformer.h.3.mlp.c_fc.weight`.

    Raises:
        UserError: no block is left.
    """
    number = {name: int(found[0]) for name in parameters if (found := re.search(r"\d+", name))}
    blocks = 1 + max(number.values(), default=-1)
    kept = {name: p for name, p in parameters.items() if start <= 0 or number.get(name, -1) >= start * blocks}
    if not kept:
        raise UserError(f"no block of the model's {blocks} lies behind the share {start} of its depth.")
    return kept


class pruned:  # used like a function: with pruned(...): ...
    """A context in which some units are zero; the weights come back at its end.

    Args:
        parameters: name -> matrix.
        chosen: (name, flat index of the unit) of every unit.
        unit: what a unit is.
        biases: name of a matrix -> its bias, whose entries go with a pruned row.
        flipped: names of matrices whose rows are inputs.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        chosen: Sequence[tuple[str, int]],
        unit: Unit,
        biases: dict[str, Any],
        flipped: Collection[str] = (),
    ):
        self.edits = []
        for name in {name for name, _ in chosen}:
            rows = torch.tensor([index for other, index in chosen if other == name])
            target = parameters[name].data.T if unit == "row" and name in flipped else parameters[name].data
            self.edits.append((target.view(-1) if unit == "weight" else target, rows))
            if unit == "row" and name in biases:
                self.edits.append((biases[name].data, rows))

    def __enter__(self) -> None:
        """Set the units to zero."""
        self.kept = [target[rows].clone() for target, rows in self.edits]
        for target, rows in self.edits:
            target[rows] = 0

    def __exit__(self, *_: object) -> None:
        """Put the weights back."""
        for (target, rows), values in zip(self.edits, self.kept, strict=True):
            target[rows] = values


def prune(
    view: View,
    model: Any,
    train: Examples,
    test: Examples,
    *,
    sizes: Sequence[int],
    unit: Unit = "weight",
    start: float = 0.0,
    random_draws: int = 3,
    candidates: int = 0,
    seed: int = 0,
) -> PruneResult:
    """Score the units on the old task, remove the K best, and measure the old task on other examples.

    The published algorithm scores once and removes the K best in one step. A score is the first-order change of the
    loss, though, and removing a large weight is far from a small change: in compiled models the highest scores belong
    to weights of the circuit itself. With `candidates`, units are removed one at a time; each time the scores are taken
    anew and the one of the best `candidates` units goes whose removal really lowers the loss most, as long as one does.

    Random units are drawn from those that are not zero already, since removing a zero says nothing.

    Args:
        view: how the model is read.
        model: comes back unchanged.
        train: examples of the old task for the scores.
        test: examples of the old task for the accuracy.
        sizes: the K, such as 0 ... 20.
        unit: single weights (compiled models) or rows, the neurons (trained models).
        start: only blocks from this share of the depth on, such as 0.5 for the later half, where a wrapper sits.
        random_draws: draws of the random control.
        candidates: 0 for the published algorithm; otherwise how many units are tried for every removal.
        seed: of the random control.

    Raises:
        UserError: a K is above the number of units.
    """
    parameters = late(view.prunable(model), start)
    biases = dict(model.named_parameters())
    biases = {name: biases[other] for name in parameters if (other := name.removesuffix("weight") + "bias") in biases}
    flipped = _flipped(model)
    zeroed = partial(pruned, parameters, unit=unit, biases=biases, flipped=flipped)
    found = scores(view, model, train, unit=unit, start=start)
    names = list(found)
    sizes_of = torch.tensor([found[name].numel() for name in names])
    flat = torch.cat([found[name].flatten() for name in names])
    if max(sizes) > len(flat):
        raise UserError(f"{max(sizes)} units are to be pruned and the model has {len(flat)}; ask for fewer.")
    ends = sizes_of.cumsum(0)
    alive = torch.cat([_alive(parameters[name], unit, name in _flipped(model)).flatten() for name in names]).nonzero()[
        :, 0
    ]

    def locate(index: int) -> tuple[str, int]:
        which = int(torch.searchsorted(ends, index, right=True))
        return names[which], int(index - (ends[which] - sizes_of[which]))

    if candidates:
        order = _verified(view, model, train, zeroed, max(sizes), candidates, unit=unit, start=start)
    else:
        order = [locate(int(i)) for i in flat.topk(max(sizes)).indices]
    generator = torch.Generator().manual_seed(seed)
    results: list[tuple[float, float, int]] = []
    for size in sizes:
        with zeroed(order[:size]):
            value, classes = accuracy(view, model, test), _classes(view, model, test)
        chance = []
        for _ in range(random_draws):
            rows = alive[torch.randperm(len(alive), generator=generator)[:size]]
            with zeroed([locate(int(i)) for i in rows]):
                chance.append(accuracy(view, model, test))
        results.append((value, sum(chance) / len(chance) if chance else float("nan"), classes))
    accuracies, randoms, classes_of = zip(*results, strict=True)
    units = tuple(_name(parameters, *place, unit) for place in order[:20])
    return PruneResult(tuple(sizes), accuracies, randoms, classes_of, units)


def _flipped(model: Any) -> set[str]:
    """Return the names of matrices stored as inputs x outputs, as GPT-2's are; elsewhere a row is an output."""
    return {f"{name}.weight" for name, module in model.named_modules() if type(module).__name__ == "Conv1D"}


def _verified(
    view: View, model: Any, train: Examples, zeroed: Callable[..., pruned], most: int, candidates: int, **options: Any
) -> list[tuple[str, int]]:
    """Return units in the order of removal, each the best of some candidates by the loss without it."""
    order: list[tuple[str, int]] = []
    lowest = math.inf
    while len(order) < most:
        with zeroed(order):
            found = scores(view, model, train, **options)
            best = [(float(s), name, int(i)) for name, v in found.items() for s, i in _top(v.flatten(), candidates)]
            best = [(name, i) for s, name, i in sorted(best, reverse=True)[:candidates] if s > 0]
            losses = []
            for place in best:
                with torch.no_grad(), zeroed([place]):
                    losses.append(float(answer_loss(view, model, train)))
        if not losses or min(losses) >= lowest:
            break
        lowest = min(losses)
        order.append(best[losses.index(lowest)])
    return order


def _top(values: Tensor, most: int) -> list[tuple[Any, Any]]:
    return list(zip(*values.topk(min(most, len(values))), strict=True))


def _alive(parameter: Tensor, unit: Unit, flipped: bool) -> Tensor:
    return (parameter != 0) if unit == "weight" else (parameter != 0).any(0 if flipped else 1)


def _classes(view: View, model: Any, test: Examples) -> int:
    with torch.no_grad():
        return len(view.read(model, test.take(slice(0, 512)))[0].argmax(-1).unique())


def _name(parameters: dict[str, Any], name: str, index: int, unit: Unit) -> str:
    if unit == "row":
        return f"{name}[{index}]"
    columns = parameters[name].shape[1]
    return f"{name}[{index // columns}, {index % columns}]"
