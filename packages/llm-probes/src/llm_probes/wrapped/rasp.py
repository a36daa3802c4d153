"""A small compiler from RASP to transformer weights, after Tracr (Lindner et al. 2023): weights that are understood.

Categorical variables are one-hot in the residual stream, one slice each. A program is a sequence of three operations:

    map        y = f(x)                      an MLP with one hidden unit for each value of x
    width      w = #{j : p(x_i, y_j)}        attention to BOS and the chosen j gives 1 / (1 + w), an MLP the one-hot
    aggregate  z_i = y_j for chosen j        attention to the chosen j, which must agree on y; BOS where none is chosen

Attention logits are `COLD` for a chosen key and 0 otherwise, so that what is not chosen has a weight of e^-20.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from paperloop.errors import UserError

__all__ = ["Block", "Compiler", "RaspTransformer", "compile_counter", "compile_nth_largest", "tokens_of"]

COLD = 20.0
BOS = 0


class Block(nn.Module):
    """One head of attention without a mask and a ReLU MLP, both added to the stream; no layer norm."""

    def __init__(self, width: int, key: int, value: int, hidden: int):
        super().__init__()
        self.query = nn.Linear(width, key, bias=False)
        self.key = nn.Linear(width, key, bias=False)
        self.value = nn.Linear(width, value, bias=False)
        self.out = nn.Linear(value, width, bias=False)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width, bias=False)

    def forward(self, stream: Tensor) -> Tensor:
        """Map the residual stream [batch, positions, width] to the next one."""
        stream = stream + self.out(self.attention(stream) @ self.value(stream))
        return stream + self.mlp_out(torch.relu(self.mlp_in(stream)))

    def attention(self, stream: Tensor) -> Tensor:
        """Return who attends to whom, float [batch, positions, positions]."""
        logits = self.query(stream) @ self.key(stream).transpose(-1, -2) / math.sqrt(self.key.weight.shape[0])
        return logits.softmax(-1)


class RaspTransformer(nn.Module):
    """A transformer of compiled weights that reads [BOS, x_1 ... x_n] and gives a class at every position.

    Attributes:
        classes: number of classes.
        vocabulary: number of tokens, BOS (token 0) included.
        one: the direction of the stream that is always 1.
        spare: a direction that no compiled weight touches.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        positions: int,
        width: int,
        key: int,
        value: int,
        hidden: int,
        blocks: int,
        classes: int,
        one: int,
        spare: int,
    ):
        super().__init__()
        self.vocabulary, self.classes, self.one, self.spare = vocabulary, classes, one, spare
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, key, value, hidden) for _ in range(blocks))
        self.unembed = nn.Linear(width, classes, bias=False)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def streams(self, tokens: Tensor) -> list[Tensor]:
        """Return the residual stream before the first block and after every block, each [batch, positions, width]."""
        streams = [self.token(tokens) + self.position.weight[: tokens.shape[1]]]
        for block in self.blocks:
            streams.append(block(streams[-1]))
        return streams

    def forward(self, tokens: Tensor) -> Tensor:
        """Return class logits [batch, positions, classes] of tokens [batch, positions]."""
        return self.unembed(self.streams(tokens)[-1])

    def attention(self, tokens: Tensor) -> Tensor:
        """Return the attention maps, float [blocks, batch, positions, positions]."""
        pairs = zip(self.blocks, self.streams(tokens), strict=False)  # the last stream goes to no block
        return torch.stack([cast(Block, block).attention(stream) for block, stream in pairs])


@dataclass
class _Plan:
    """What one block shall do; each part writes into the block's weights."""

    attention: Callable[[Block], None] | None = None
    mlp: Callable[[Block], None] | None = None
    key: int = 1
    value: int = 1
    hidden: int = 1


@dataclass
class Compiler:
    """Collects operations and lays them out in blocks; `build` gives the model.

    Args:
        symbols: number of letters; letter i is token i + 1, after BOS.
        length: the longest input without BOS.
        exactness: steepness of the MLP's steps. Neighbouring widths w and w + 1 are 1 / ((w + 1) (w + 2)) apart, so an
            exact count up to w needs more than 2 (w + 1) (w + 2); a smaller one warns, None takes half as much again.
    """

    symbols: int
    length: int
    exactness: float | None = None
    width_: int = 0
    plans: list[_Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens, self.index = self._space(self.symbols), self._space(self.length)
        self.one, self.bos = self._space(1), self._space(1)
        self._space(1)  # the spare direction
        needed = 2 * (self.length + 1) * (self.length + 2)
        self.steepness = 1.5 * needed if self.exactness is None else self.exactness
        if self.steepness < needed:
            warnings.warn(
                f"counts up to {self.length} need an exactness above {needed}; with {self.steepness:g} they will be "
                "wrong from some count on.",
                stacklevel=3,
            )

    def _space(self, size: int) -> range:
        space = range(self.width_, self.width_ + size)
        self.width_ += size
        return space

    def map(self, source: range, function: Callable[[int], int], values: int) -> range:
        """Add y = function(x), with `values` values of y."""
        target = self._space(values)

        def write(block: Block) -> None:
            for unit, dimension in enumerate(source):
                block.mlp_in.weight[unit, dimension] = 1
                block.mlp_out.weight[target[function(unit)], unit] = 1

        self.plans.append(_Plan(mlp=write, hidden=len(source)))
        return target

    def width(self, query: range, keys: range, predicate: Callable[[int, int], bool]) -> range:
        """Add the number of positions j with predicate(query_i, key_j), a variable with length + 1 values."""
        inverse, target = self._space(1)[0], self._space(self.length + 1)
        attend = self._attend(query, keys, predicate, bos=1.0)
        # Shared by three matrices, so that neither gradients nor the effect of noise are far from one another's.
        root = self.steepness ** (1 / 3)

        def attention(block: Block) -> None:
            attend(block)
            block.value.weight[0, self.bos[0]] = root
            block.out.weight[inverse, 0] = 1

        def mlp(block: Block) -> None:
            steps = [(1 / (1 + w) + 1 / (2 + w)) / 2 for w in range(self.length)]  # between w and w + 1
            for w, step in enumerate(steps):  # rises from 0 to 1 within 1 / exactness around the step
                for unit, shift in ((2 * w, 0.5), (2 * w + 1, -0.5)):
                    block.mlp_in.weight[unit, inverse] = root
                    block.mlp_in.bias[unit] = -root * root * step + shift / root
                    sign = root if unit % 2 == 0 else -root
                    block.mlp_out.weight[target[w], unit] += sign  # above this step: at most w
                    block.mlp_out.weight[target[w + 1], unit] -= sign
            last = 2 * self.length
            block.mlp_in.weight[last, self.one[0]] = 1
            block.mlp_out.weight[target[self.length], last] = 1

        self.plans.append(_Plan(attention=attention, mlp=mlp, key=len(query) + 1, value=1, hidden=2 * self.length + 1))
        return target

    def aggregate(self, query: range, keys: range, predicate: Callable[[int, int], bool], values: range) -> range:
        """Add the value at the positions j with predicate(query_i, key_j), which must agree on it."""
        target = self._space(len(values))
        attend = self._attend(query, keys, predicate, bos=0.5)

        def attention(block: Block) -> None:
            attend(block)
            for unit, (source, goal) in enumerate(zip(values, target, strict=True)):
                block.value.weight[unit, source] = 1
                block.out.weight[goal, unit] = 1

        self.plans.append(_Plan(attention=attention, key=len(query) + 1, value=len(values)))
        return target

    def _attend(
        self, query: range, keys: range, predicate: Callable[[int, int], bool], bos: float
    ) -> Callable[[Block], None]:
        def write(block: Block) -> None:
            # Undoes the division in the attention; half of it in each matrix, for the gradients' sake.
            scale = math.sqrt(COLD * math.sqrt(block.key.weight.shape[0]))
            for i, dimension in enumerate(query):
                block.query.weight[i, dimension] = scale
                for j, key in enumerate(keys):
                    if predicate(i, j):
                        block.key.weight[i, key] = scale
            block.query.weight[len(query), self.one[0]] = scale
            block.key.weight[len(query), self.bos[0]] = scale * bos

        return write

    def build(self, output: range) -> RaspTransformer:
        """Return the model whose logits are the one-hot variable `output`, times 10 so that probabilities are sharp."""
        model = RaspTransformer(
            vocabulary=self.symbols + 1,
            positions=self.length + 1,
            width=self.width_,
            blocks=len(self.plans),
            classes=len(output),
            spare=self.bos[0] + 1,
            one=self.one[0],
            key=max(plan.key for plan in self.plans),
            value=max(plan.value for plan in self.plans) + 1,  # the last one is unused
            hidden=max(plan.hidden for plan in self.plans),
        )
        with torch.no_grad():
            model.token.weight[:, self.one[0]] = 1
            model.token.weight[BOS, self.bos[0]] = 1
            for letter, dimension in enumerate(self.tokens):
                model.token.weight[letter + 1, dimension] = 1
            for position, dimension in enumerate(self.index):
                model.position.weight[position + 1, dimension] = 1
            for plan, block in zip(self.plans, cast("list[Block]", list(model.blocks)), strict=True):
                for part in (plan.attention, plan.mlp):
                    if part is not None:
                        part(block)
            for number, dimension in enumerate(output):
                model.unembed.weight[number, dimension] = 10
        return model


def compile_counter(
    *, symbols: int = 9, length: int = 24, letter: int = 0, exactness: float | None = None
) -> RaspTransformer:
    """Return a transformer of three blocks whose class at every position but BOS is the number of `letter`s.

    Jain et al. 2024, algorithm 1: bin = (token == letter); w = width(bin == true); aggregate(index == index, w).
    """
    if not 0 <= letter < symbols:
        raise UserError(f"letter {letter} is not one of the {symbols} symbols.")
    program = Compiler(symbols, length, exactness)
    hit = program.map(program.tokens, lambda token: int(token == letter), 2)
    # The query is any letter; the key is a hit.
    count = program.width(program.tokens, hit, lambda _, key: key == 1)
    return program.build(program.aggregate(program.index, program.index, lambda i, j: i == j, count))


def compile_nth_largest(
    *, symbols: int = 16, length: int = 10, rank: int = 5, exactness: float | None = None
) -> RaspTransformer:
    """Return a transformer whose class at every position but BOS is the letter that is `rank`-th, a > b > c > ...

    Jain et al. 2024, algorithm 2, for different letters: a letter's place is the number of letters above it; the one
    whose place is rank - 1 is read by every position. Inputs with fewer than `rank` letters give no letter.
    """
    if not 1 <= rank <= min(symbols, length):
        raise UserError(f"rank {rank} is not between 1 and {min(symbols, length)}.")
    program = Compiler(symbols, length, exactness)
    place = program.width(program.tokens, program.tokens, lambda mine, other: other < mine)
    hit = program.map(place, lambda value: int(value == rank - 1), 2)
    return program.build(program.aggregate(program.tokens, hit, lambda _, key: key == 1, program.tokens))


def tokens_of(letters: Sequence[Sequence[int]]) -> Tensor:
    """Return tokens int64 [batch, 1 + length] with BOS in front, for letters counted from 0."""
    return torch.tensor([[BOS, *(letter + 1 for letter in row)] for row in letters])
