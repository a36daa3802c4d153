"""Linear probes of every block at once, with a control that says what the probe alone can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llm_probes.wrapped.instruments import Examples, View
from paperloop.errors import UserError

__all__ = ["ProbeResult", "collect_streams", "fit_probes", "probe"]


@dataclass(frozen=True)
class ProbeResult:
    """Test accuracy in percent of a linear probe after each block, the embedding's output first.

    Attributes:
        accuracy: of probes fitted to the answers.
        control: of probes fitted to answers that were permuted among the examples, on the true answers' scale.
        majority: what the commonest answer earns.
        examples: number of test examples.
        unseen: how many of them have an answer that no training example has, so that no probe can be right.
    """

    accuracy: tuple[float, ...]
    control: tuple[float, ...]
    majority: float
    examples: int
    unseen: int = 0

    @property
    def best(self) -> int:
        """The block whose probe is best."""
        return max(range(len(self.accuracy)), key=lambda i: self.accuracy[i])

    @property
    def selectivity(self) -> tuple[float, ...]:
        """Accuracy minus control: what is the model's and not the probe's (Hewitt & Liang 2019)."""
        return tuple(a - c for a, c in zip(self.accuracy, self.control, strict=True))


def collect_streams(view: View, model: Any, examples: Examples, *, batch: int = 256) -> list[Tensor]:
    """Return the streams of all examples at the place of the answer, float32 [examples, width] for each block."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(examples), batch):
            parts.append([s.float() for s in view.read(model, examples.take(slice(start, start + batch)))[1]])
    return [torch.cat(streams) for streams in zip(*parts, strict=True)]


def fit_probes(
    features: Tensor, targets: Tensor, classes: int, *, decay: float = 1e-4, steps: int = 60
) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regressions to several sets of features at once, by L-BFGS on cached activations.

    Args:
        features: float [probes, examples, width], standardised.
        targets: int64 [probes, examples].
        classes: number of classes.
        decay: weight of the squared weights.
        steps: iterations.

    Returns:
        Weights [probes, width, classes] and biases [probes, 1, classes].
    """
    probes, _, width = features.shape
    weight = torch.zeros((probes, width, classes), requires_grad=True)
    bias = torch.zeros((probes, 1, classes), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = torch.baddbmm(bias, features, weight)
        value = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        value = value / features.shape[1] + decay * (weight**2).sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach(), bias.detach()


def probe(
    view: View, model: Any, train: Examples, test: Examples, *, seed: int = 0, decay: float = 1e-4, steps: int = 60
) -> ProbeResult:
    """Fit and test linear probes for the answers after every block.

    Args:
        view: how the model is read.
        model: the model.
        train: examples that the probes are fitted to.
        test: examples that they are tested on; a class that is not among the training examples is always wrong.
        seed: of the permutation of the control's answers.
        decay: see `fit_probes`.
        steps: see `fit_probes`.

    Raises:
        UserError: there are fewer training examples than classes.
    """
    classes = int(max(train.targets.max(), test.targets.max())) + 1
    if len(train) < classes:
        raise UserError(f"{len(train)} examples are too few to fit a probe with {classes} classes.")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    goals = torch.stack([train.targets, train.targets[order]])
    own, other = collect_streams(view, model, train), collect_streams(view, model, test)
    found = []
    for features, fresh in zip(own, other, strict=True):  # both probes of a block share its features
        mean, std = features.mean(0), features.std(0)
        std = torch.where(std > 1e-6, std, torch.ones_like(std))
        features, fresh = ((x - mean) / std for x in (features, fresh))
        weight, bias = fit_probes(features.expand(2, -1, -1), goals, classes, decay=decay, steps=steps)
        chosen = torch.baddbmm(bias, fresh.expand(2, -1, -1), weight).argmax(-1)
        found.append(100 * (chosen == test.targets).float().mean(1))
    accuracies, controls = torch.stack(found).T.tolist()
    most = 100 * float(test.targets.bincount().max()) / len(test)
    unseen = int((~torch.isin(test.targets, train.targets)).sum())
    return ProbeResult(tuple(accuracies), tuple(controls), most, len(test), unseen)
