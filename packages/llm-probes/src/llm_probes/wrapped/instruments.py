"""How the instruments see a model: class logits and residual streams at the place of the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llm_probes.wrapped.rasp import RaspTransformer
from paperloop.errors import UserError

__all__ = ["CausalView", "CompiledView", "Examples", "View", "accuracy", "answer_loss"]


@dataclass(frozen=True)
class Examples:
    """Inputs of one task with the class of each answer.

    Attributes:
        tokens: int64 [examples, positions]; shorter inputs are padded at the left.
        targets: int64 [examples].
        mask: int64 [examples, positions], 0 at padding; None where there is none.
    """

    tokens: Tensor
    targets: Tensor
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, rows: Any) -> Examples:
        """Return the chosen examples."""
        return Examples(self.tokens[rows], self.targets[rows], None if self.mask is None else self.mask[rows])


class View(Protocol):
    """What an instrument needs to know of a family of models."""

    def read(self, model: Any, examples: Examples) -> tuple[Tensor, list[Tensor]]:
        """Return class logits [examples, classes] and the stream [examples, width] before and after every block."""
        ...

    def prunable(self, model: Any) -> dict[str, nn.Parameter]:
        """Return the weight matrices that may be pruned: those of the blocks, no embedding, norm or output layer."""
        ...


class CompiledView:
    """Compiled transformers: the answer is read at the last position."""

    def read(self, model: RaspTransformer, examples: Examples) -> tuple[Tensor, list[Tensor]]:
        """See `View`."""
        streams = [stream[:, -1] for stream in model.streams(examples.tokens)]
        return model.unembed(streams[-1]), streams

    def prunable(self, model: RaspTransformer) -> dict[str, nn.Parameter]:
        """See `View`."""
        return {name: p for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}


class CausalView:
    """Hugging Face causal models: the answer is the token after the last position, among given tokens.

    Args:
        answers: the token of each class.
    """

    def __init__(self, answers: Sequence[int]):
        self.answers = torch.tensor(list(answers))

    def read(self, model: Any, examples: Examples) -> tuple[Tensor, list[Tensor]]:
        """See `View`."""
        positions = None
        if examples.mask is not None:
            positions = (examples.mask.cumsum(1) - 1).clamp(min=0)
        out = model(
            input_ids=examples.tokens,
            attention_mask=examples.mask,
            position_ids=positions,
            output_hidden_states=True,
            logits_to_keep=1,
            use_cache=False,
        )
        return out.logits[:, -1, self.answers.to(out.logits.device)], [h[:, -1] for h in out.hidden_states]

    def prunable(self, model: Any) -> dict[str, nn.Parameter]:
        """See `View`."""
        if getattr(model, "is_quantized", False):
            raise UserError(
                "the model is quantised, so that single weights cannot be pruned: load it in full precision."
            )
        outside = {id(layer.weight) for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer}
        found = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.ndim == 2 and id(parameter) not in outside and "embed" not in name and ".wpe" not in name
        }
        if not found:
            raise UserError("the model has no weight matrix between its embedding and its output layer.")
        return found


def answer_loss(view: View, model: Any, examples: Examples) -> Tensor:
    """Return the mean cross entropy of the answers over the classes."""
    return nn.functional.cross_entropy(view.read(model, examples)[0].float(), examples.targets)


def accuracy(view: View, model: Any, examples: Examples, *, batch: int = 512) -> float:
    """Return the share of right answers in percent."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(examples), batch):
            part = examples.take(slice(start, start + batch))
            right += int((view.read(model, part)[0].argmax(-1) == part.targets).sum())
    return 100 * right / len(examples)


#: Number of examples -> a fresh batch of a task.
Draw = Callable[[int, torch.Generator], Examples]
