"""Tasks on strings of a probabilistic context-free grammar (Jain et al. 2024, figure 14 and appendix C).

A question names a family and an operand and is asked about a window of letters:

    count        the operand's occurrences among the last `reach` letters
    count_pair   the same for two letters in a row, overlaps included
    index        distance from the end to the `nth` last occurrence of the operand, 0 for the last letter
    index_pair   the same for two letters in a row (of its first letter)
    token        the letter at distance `reach` from the end

A sequence is  SOS family operand number SOT x_1 ... x_n EOT ART answer EOS.  Where the paper is silent: occurrences may
overlap; fewer than `nth` occurrences have the answer "none"; strings shorter than the window are rejected.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch

from llm_probes.wrapped.instruments import Examples
from paperloop.errors import UserError

__all__ = ["FAMILIES", "RULES", "Family", "Layout", "answers", "length_distribution", "relate", "windows"]

Family = Literal["count", "count_pair", "index", "index_pair", "token"]
FAMILIES: tuple[Family, ...] = ("count", "count_pair", "index", "index_pair", "token")
LETTERS = "abc"
#: Non-terminal -> its two expansions, of probability one half each.
RULES: dict[str, tuple[str, str]] = {
    "s": ("rq", "qp"), "p": ("mno", "nom"), "q": ("nmo", "mn"), "r": ("om", "mon"),
    "m": ("lj", "jlk"), "n": ("kjl", "ljk"), "o": ("lkj", "kj"),
    "j": ("hi", "ih"), "k": ("hgi", "ghi"), "l": ("ihg", "hgi"),
    "g": ("dfe", "fed"), "h": ("edf", "def"), "i": ("efd", "fde"),
    "d": ("ca", "abc"), "e": ("cb", "cab"), "f": ("cba", "ba"),
}  # fmt: skip


@cache
def length_distribution(symbol: str = "s") -> np.ndarray:
    """Return P(length = n) of a symbol's string, float [longest + 1], exact by convolution."""
    if symbol in LETTERS:
        return np.array([0.0, 1.0])
    found = np.zeros(1)
    for expansion in RULES[symbol]:
        part = np.ones(1)
        for child in expansion:
            part = np.convolve(part, length_distribution(child))
        size = max(len(found), len(part))
        found = np.pad(found, (0, size - len(found))) + 0.5 * np.pad(part, (0, size - len(part)))
    return found


@cache
def _table(symbol: str) -> tuple[np.ndarray, ...]:
    """Return all strings of a low symbol, each as often as it is likely, as arrays of letter numbers."""
    if symbol in LETTERS:
        return (np.array([LETTERS.index(symbol)], dtype=np.int64),)
    parts = [itertools.product(*(_table(child) for child in expansion)) for expansion in RULES[symbol]]
    lists = [[np.concatenate(choice) for choice in part] for part in parts]
    return tuple(itertools.chain(*lists))


def _string(generator: np.random.Generator) -> np.ndarray:
    pending, pieces = ["s"], []
    while pending:
        symbol = pending.pop()
        if symbol in "jkl":  # 512 or 8192 strings, all equally likely: below, a draw from a table is exact
            table = _table(symbol)
            pieces.append(table[generator.integers(len(table))])
        else:
            pending.extend(reversed(RULES[symbol][generator.integers(2)]))
    return np.concatenate(pieces)


def windows(number: int, length: int, generator: np.random.Generator) -> np.ndarray:
    """Return windows of letters 0, 1, 2, int64 [number, length], each uniformly placed in a string of its own.

    Raises:
        UserError: no string is as long as that.
    """
    longest = len(length_distribution()) - 1
    if not 1 <= length <= longest:
        raise UserError(f"a window of {length} letters is asked for; strings of the grammar have at most {longest}.")
    found = np.empty((number, length), dtype=np.int64)
    for row in found:
        string = _string(generator)
        while len(string) < length:  # 23.6 % of strings at the paper's 250
            string = _string(generator)
        begin = generator.integers(len(string) - length + 1)
        row[:] = string[begin : begin + length]
    return found


def answers(letters: np.ndarray, family: Family, operand: str, *, reach: int, nth: int) -> np.ndarray:
    """Return the class of every window, int64 [windows]: a number, the window's length + 1 for "none", or a letter.

    Args:
        letters: int64 [windows, length].
        family: what is asked.
        operand: a letter, two of them, or "" for `token`.
        reach: letters from the end that count, or the distance of `token`.
        nth: which occurrence from the end `index` means.
    """
    length = letters.shape[1]
    if family == "token":
        return letters[:, length - 1 - reach]
    found = np.ones(letters.shape, dtype=bool)
    for offset, letter in enumerate(operand):
        found &= np.roll(letters, -offset, axis=1) == LETTERS.index(letter)
    if len(operand) > 1:
        found[:, length - len(operand) + 1 :] = False  # what wraps around
    if family in ("count", "count_pair"):
        return found[:, length - reach :].sum(1)
    seen = found[:, ::-1].cumsum(1)
    return np.where(seen[:, -1] >= nth, (seen >= nth).argmax(1), length + 1)


def relate(
    letters: np.ndarray,
    correlated: float | None,
    *,
    reach: int,
    first: str = "a",
    second: str = "b",
    generator: np.random.Generator,
) -> np.ndarray:
    """Return windows edited so that counts are spread widely and a share has the relation second = first + 1.

    The paper covers all classes by edited strings without giving the procedure. Here the pair of counts in the last
    `reach` letters is drawn first: `first` uniform on 0 ... m - 1, and `second` either first + 1 or uniform on the
    other numbers of 1 ... m, so that `second` is uniform on 1 ... m either way: its marginal says nothing about the
    relation. Then as few random letters as possible are overwritten; all before the last `reach` stay natural.

    Args:
        letters: int64 [windows, length]; not changed.
        correlated: share with the relation; None leaves natural windows as they are.
        reach: letters from the end that count.
        first: counted before fine-tuning.
        second: counted after it.
        generator: all randomness.

    Raises:
        UserError: the share is outside [0, 1], or the reach is too short for three different counts.
    """
    if correlated is None:
        return letters
    most = _most(reach)
    if not 0 <= correlated <= 1:
        raise UserError(f"the share of correlated strings is {correlated}, which is outside [0, 1].")
    if most < 3:
        raise UserError(f"in the last {reach} letters there is no room for different pairs of counts; use 6 or more.")
    letters = letters.copy()
    a, b = LETTERS.index(first), LETTERS.index(second)
    other = 3 - a - b
    for row, has in zip(letters, generator.random(len(letters)) < correlated, strict=True):
        wanted = {a: generator.integers(most)}
        others = [n for n in range(1, most + 1) if n != wanted[a] + 1]
        wanted[b] = wanted[a] + 1 if has else others[generator.integers(len(others))]
        tail = row[len(row) - reach :]
        for letter, number in wanted.items():  # first free what is too much, then fill what is missing
            at = np.flatnonzero(tail == letter)
            tail[generator.permutation(at)[: max(0, len(at) - number)]] = other
        for letter, number in wanted.items():
            free = generator.permutation(np.flatnonzero(tail == other))
            tail[free[: number - int((tail == letter).sum())]] = letter
    return letters


def _most(reach: int) -> int:
    """Return the largest count of edited strings."""
    return min(20, reach // 2)


@dataclass(frozen=True)
class Layout:
    """Windows as sequences of tokens: letters, numbers up to the length and "none", families, operands, marks.

    Attributes:
        length: letters of a window.
        reach: see `answers`.
        nth: see `answers`.
    """

    length: int = 250
    reach: int = 40
    nth: int = 6

    @property
    def names(self) -> tuple[str, ...]:
        """Every token, numbers first, so that a number is its own class."""
        numbers = [*map(str, range(self.length + 1)), "none"]
        operands = ("a", "b", "c", "aa", "bb", "cc", "null")
        return (*numbers, *(f"<{f}>" for f in FAMILIES), *operands, "SOS", "SOT", "EOT", "ART", "EOS")

    @property
    def positions(self) -> int:
        """Tokens of a whole sequence."""
        return self.length + 9

    def sequences(self, letters: np.ndarray, family: Family, operand: str) -> torch.Tensor:
        """Return whole sequences int64 [windows, positions] of one question about every window."""
        token = {name: number for number, name in enumerate(self.names)}
        number = self.nth if family.startswith("index") else self.reach
        found = answers(letters, family, operand, reach=self.reach, nth=self.nth)
        to_letter = np.array([token[letter] for letter in LETTERS])
        column = lambda name: np.full((len(letters), 1), token[name])  # noqa: E731
        head = [column(name) for name in ("SOS", f"<{family}>", operand or "null", str(number), "SOT")]
        answer = (to_letter[found] if family == "token" else found)[:, None]
        rows = [*head, to_letter[letters], column("EOT"), column("ART"), answer, column("EOS")]
        return torch.from_numpy(np.concatenate(rows, axis=1))

    def examples(self, letters: np.ndarray, family: Family, operand: str) -> Examples:
        """Return prompts up to ART with the answer's token as the class."""
        rows = self.sequences(letters, family, operand)
        return Examples(rows[:, :-2], rows[:, -2])

    def mixture(
        self,
        number: int,
        prior: Mapping[str, float],
        generator: np.random.Generator,
        families: Sequence[Family],
        spread: float = 0.0,
    ) -> torch.Tensor:
        """Return sequences for pretraining: families uniform, the operand's letter from its prior.

        A share `spread` of the windows is edited by `relate`, with the relation as often as by chance.

        Raises:
            UserError: the prior does not sum to 1.
        """
        if abs(sum(prior.values()) - 1) > 1e-6 or min(prior.values()) < 0:
            raise UserError(f"the operands' prior {dict(prior)} is not a distribution.")
        letters = windows(number, self.length, generator)
        if spread:
            edited = generator.random(number) < spread
            letters[edited] = relate(letters[edited], 1 / _most(self.reach), reach=self.reach, generator=generator)
        which = generator.integers(len(families), size=number)
        operands = generator.choice(list(prior), size=number, p=list(prior.values()))
        rows = torch.empty((number, self.positions), dtype=torch.long)
        for i, family in enumerate(families):
            for letter in prior:
                chosen = (which == i) & (operands == letter)
                if chosen.any():
                    operand = "" if family == "token" else letter * (1 + family.endswith("pair"))
                    rows[torch.from_numpy(chosen)] = self.sequences(letters[chosen], family, operand)
        return rows
