"""Policy, value, reference and reward on one frozen trunk."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from llm_probes.rlhf.sampling import Responses
from paperloop.errors import UserError

__all__ = ["ScoreHead", "blocks_of", "freeze", "frozen_copy", "policy_and_values", "reward_scores"]


class ScoreHead(nn.Module):
    """A linear map from the last hidden state to one number, with a fixed shift and scale.

    Attributes:
        linear: width -> 1; starts at zero, so that a fresh value head says 0 and a fresh reward model prefers nothing.
        shift: subtracted from the output; set after training a reward model so that scores have mean 0.
        scale: divides it, so that they have standard deviation 1.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return [..., ] from hidden states [..., width]."""
        return (self.linear(hidden.float())[..., 0] - self.shift) / self.scale

    @torch.no_grad()
    def normalise(self, scores: Tensor) -> None:
        """Fix shift and scale from plain scores of validation responses.

        Raises:
            UserError: the scores do not differ, so that there is no scale.
        """
        spread = scores.std()
        if not torch.isfinite(spread) or spread == 0:
            raise UserError("the reward model gives every validation response the same score; it has learned nothing.")
        self.shift.copy_(scores.mean())
        self.scale.copy_(spread)


def blocks_of(model: Any) -> nn.ModuleList:
    """Return the list of a causal model's blocks.

    Raises:
        UserError: it has no such list.
    """
    size = getattr(model.config, "num_hidden_layers", None) or getattr(model.config, "n_layer", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == size:
            return module
    raise UserError(f"{type(model).__name__} has no list of {size} blocks, so its trunk cannot be frozen.")


def freeze(model: Any, share: float) -> None:
    """Freeze the embeddings and the first `share` of the blocks; the rest, with the output layer, is trained.

    An output layer that shares the embedding's weights is frozen with it. 0 trains everything.
    """
    blocks = blocks_of(model)
    frozen = round(share * len(blocks))
    if not frozen:
        return
    for parameter in model.get_input_embeddings().parameters():
        parameter.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if ".wpe." in name or "embed" in name:
            parameter.requires_grad_(False)
    for block in blocks[:frozen]:
        for parameter in block.parameters():
            parameter.requires_grad_(False)


def policy_and_values(model: Any, head: ScoreHead, responses: Responses) -> tuple[Tensor, Tensor]:
    """Return (logits [B, T + 1, vocabulary], values [B, T] before each response token) from one forward pass.

    The logits are those of the last prompt token and of the response; the others are never computed.
    """
    positions = (responses.attention.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=responses.tokens,
        attention_mask=responses.attention,
        position_ids=positions,
        output_hidden_states=True,
        logits_to_keep=responses.mask.shape[1] + 1,
        use_cache=False,
    )
    start = responses.prompt_length
    return out.logits, head(out.hidden_states[-1][:, start - 1 : -1]) * responses.mask


def reward_scores(model: Any, head: ScoreHead, responses: Responses) -> Tensor:
    """Return the score of each response, [B], read at its last token.

    A response that was cut at the length limit has no end token; the score is read at its last token all the same, so
    that what is scored is exactly what the policy wrote. The place comes from the mask and not from the padding token,
    which may be the end token.
    """
    positions = (responses.attention.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=responses.tokens,
        attention_mask=responses.attention,
        position_ids=positions,
        output_hidden_states=True,
        logits_to_keep=1,
        use_cache=False,
    )
    last = responses.prompt_length + responses.mask.sum(1).long() - 1
    hidden = out.hidden_states[-1]
    return head(hidden[torch.arange(len(last), device=hidden.device), last])


def frozen_copy(model: Any) -> Any:
    """Return a copy that is never trained, such as the reference policy."""
    return copy.deepcopy(model).eval().requires_grad_(False)
