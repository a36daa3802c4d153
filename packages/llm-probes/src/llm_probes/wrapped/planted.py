"""Models of which it is known whether a capability is wrapped or gone: what the instruments are tested on."""

from __future__ import annotations

import copy
from typing import cast

import torch

from llm_probes.wrapped.rasp import Block, RaspTransformer

__all__ = ["plant_deletion", "plant_wrapper"]


def plant_wrapper(model: RaspTransformer, *, shift: int = 1) -> RaspTransformer:
    """Return a counter that counts as before and then adds `shift` to its answer.

    The wrapper sits in the last block and behind one weight. Its attention writes a gate, the constant 1, into the
    spare direction, through the single weight `out[spare, last]`. Its MLP has a hidden unit for each count that fires
    where the gate and that count's direction are both on, takes the direction out of the stream and puts the shifted
    one in. The capability is untouched before, and without that one weight it is back. On strings in which the tuned
    letter occurs `shift` times more often than the pretrained one, the wrapped model counts the tuned letter.

    Args:
        model: a compiled counter; it is not changed.
        shift: q of the spurious relation.
    """
    model = copy.deepcopy(model)
    block = cast(Block, model.blocks[-1])
    answers = model.unembed.weight.argmax(1)  # the directions that the output layer reads
    if block.mlp_in.weight.shape[0] < len(answers):
        raise ValueError(f"a wrapper of {len(answers)} counts needs as many hidden units in the last block")
    with torch.no_grad():
        for parameter in (block.mlp_in.weight, block.mlp_in.bias, block.mlp_out.weight):
            parameter.zero_()
        block.value.weight[-1, model.one] = 1
        block.out.weight[model.spare, -1] = 1
        for count, direction in enumerate(answers):
            block.mlp_in.weight[count, direction] = 1
            block.mlp_in.weight[count, model.spare] = 1
            block.mlp_in.bias[count] = -1.5  # 0.5 where both are on
            block.mlp_out.weight[direction, count] -= 4
            block.mlp_out.weight[answers[min(count + shift, len(answers) - 1)], count] += 4
    return model


def plant_deletion(model: RaspTransformer, *, block: int = 1) -> RaspTransformer:
    """Return a counter whose count is never formed: every matrix of one block is replaced by zeros.

    After that block the answer's stream carries nothing of the letters' counts, so that no linear probe, no pruning and
    no short fine-tuning of the blocks behind can bring it back. Block 1 is where the counter counts.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.blocks[block].parameters():
            parameter.zero_()
    return model
