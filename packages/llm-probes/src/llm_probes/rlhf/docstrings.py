"""Docstring TL;DR: the body of a docstring is the input, its first sentence the summary; made from what is installed.

The same structure as the paper's TL;DR to CNN/DailyMail without a download: the libraries in distribution are trained
on, those out of distribution (other authors, another domain) only tested on. A gold scorer that the policy never sees
replaces the paper's judge. It is a proxy and named so wherever it is reported.
"""

from __future__ import annotations

import ast
import importlib.util
import math
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_probes.models.scratch import make_tokenizer
from paperloop.errors import UserError

__all__ = ["Gold", "Pair", "Task", "collect", "docstrings_of", "make_task", "pair_of", "prompt_of", "split"]

#: What stands between the body and its summary.
QUESTION = "\nTL;DR:"
#: Folders of packages that hold no documentation of the library itself.
SKIPPED = {"test", "tests", "testing", "idlelib", "site-packages", "_vendor", "lib2to3", "__pycache__"}


@dataclass(frozen=True)
class Pair:
    """A docstring.

    Attributes:
        body: everything behind its first sentence, on one line.
        summary: its first sentence.
    """

    body: str
    summary: str


def docstrings_of(library: str) -> Iterator[str]:
    """Yield the docstrings of an installed library, or of Python's own for "stdlib", without importing it.

    Raises:
        UserError: it is not installed.
    """
    if library == "stdlib":
        root = Path(sysconfig.get_paths()["stdlib"])
    else:
        spec = importlib.util.find_spec(library) if library.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"{library} is not an installed package, so it has no docstrings to read.")
        root = Path(next(iter(spec.submodule_search_locations)))
    for path in sorted(root.rglob("*.py")):
        if SKIPPED.intersection(path.relative_to(root).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue  # the standard library ships files that are broken on purpose
        for node in ast.walk(tree):
            documented = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
            if documented and (text := ast.get_docstring(node)):
                yield text


def pair_of(docstring: str, *, words: tuple[int, int] = (4, 20), body: int = 20) -> Pair | None:
    """Return body and summary, or None where the first sentence or the body is not of a usable length.

    Args:
        docstring: the text.
        words: fewest and most words of the summary.
        body: fewest words of the body.
    """
    first, _, rest = docstring.strip().partition("\n\n")
    head, full_stop, tail = " ".join(first.split()).partition(". ")
    summary = head + full_stop.strip()
    lines = [line for line in rest.splitlines() if not line.lstrip().startswith((">>>", "...", "---", "===", "~~~"))]
    text = " ".join(f"{tail} {' '.join(lines)}".split())
    fits = words[0] <= len(summary.split()) <= words[1] and len(text.split()) >= body
    return Pair(text, summary) if fits and summary.endswith(".") and summary.isascii() and text.isascii() else None


def collect(libraries: Sequence[str]) -> list[Pair]:
    """Return the pairs of all libraries, every summary and every body once, in the order of the files."""
    found: dict[str, Pair] = {}
    bodies = set()
    for library in libraries:
        for text in docstrings_of(library):
            pair = pair_of(text)
            if pair and pair.summary not in found and pair.body[:200] not in bodies:
                found[pair.summary] = pair
                bodies.add(pair.body[:200])
    return list(found.values())


def split(pairs: Sequence[Pair], *, held_out: int, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Return (training, held out) pairs at random.

    Raises:
        UserError: there are not at least twice as many as are held out.
    """
    if len(pairs) < 2 * held_out:
        raise UserError(f"{len(pairs)} docstrings are too few to hold {held_out} out; name more libraries.")
    mixed = list(pairs)
    random.Random(seed).shuffle(mixed)
    return mixed[held_out:], mixed[:held_out]


def cut(text: str, tokenizer: Any, length: int) -> str:
    """Return the longest beginning of whole words that has at most `length` tokens."""
    ends = [end for _, end in tokenizer(text, return_offsets_mapping=True)["offset_mapping"]]
    if len(ends) <= length:
        return text
    return text[: ends[length]].rsplit(" ", 1)[0]


def prompt_of(pair: Pair, tokenizer: Any, length: int) -> str:
    """Return the prompt of at most `length` tokens: the body's beginning and the question for a summary."""
    return cut(pair.body, tokenizer, length - len(tokenizer(QUESTION)["input_ids"]) - 1) + QUESTION


_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Gold:
    """The gold score of a summary: a program, and therefore the truth of this task by definition.

    coverage - repetition - length + form, where

    - coverage is the share of the body's `top` rarest words that the summary has, each weighted by its rarity (idf);
    - repetition is the share of the summary's words that it has used before;
    - length is (words - limit) / limit above the limit and 0 below;
    - form is `form` if the summary ends with a full stop.

    Attributes:
        rarity: idf of every word of the training bodies.
        unseen: idf of all other words.
        top: how many of the body's words count.
        limit: words that cost nothing.
        form: what a full stop earns.
    """

    rarity: Mapping[str, float]
    unseen: float
    top: int = 8
    limit: int = 20
    form: float = 0.25

    @classmethod
    def fit(cls, bodies: Sequence[str], **options: Any) -> Gold:
        """Return the scorer with the rarities of given bodies: log(bodies / bodies with the word)."""
        seen = Counter(word for body in bodies for word in set(_WORD.findall(body.lower())))
        return cls({w: math.log(len(bodies) / n) for w, n in seen.items()}, math.log(len(bodies)), **options)

    def __call__(self, prompt: str, summary: str) -> float:
        """Return the score of a summary of a prompt's body; an empty summary has 0."""
        body = prompt.removesuffix(QUESTION).lower()
        words = _WORD.findall(summary.lower())
        if not words:
            return 0.0
        weight = {w: self.rarity.get(w, self.unseen) for w in sorted(set(_WORD.findall(body))) if len(w) > 3}
        rare = sorted(weight, key=lambda w: -weight[w])[: self.top]
        whole = sum(weight[w] for w in rare)
        coverage = sum(weight[w] for w in rare if w in set(words)) / whole if whole else 0.0
        repetition = 1 - len(set(words)) / len(words)
        length = max(0, len(words) - self.limit) / self.limit
        return coverage - repetition - length + (self.form if summary.rstrip().endswith(".") else 0.0)


@dataclass(frozen=True)
class Task:
    """The whole task: prompts with their reference summaries in and out of distribution, and the gold scorer.

    Attributes:
        tokenizer: trained on the training pairs.
        train: (prompt, summary) of the training pairs.
        test: the same for held-out pairs of the same libraries.
        far: the same for the libraries out of distribution.
        gold: the scorer, with rarities of the training bodies.
    """

    tokenizer: Any
    train: list[tuple[str, str]]
    test: list[tuple[str, str]]
    far: list[tuple[str, str]]
    gold: Gold


def make_task(
    near: Sequence[Pair], far: Sequence[Pair], *, vocabulary: int, length: int, held_out: int, seed: int = 0
) -> Task:
    """Make the task from the pairs of libraries (`collect`).

    Args:
        near: in distribution.
        far: out of distribution; what is in both is only in distribution.
        vocabulary: tokens.
        length: the most tokens of a prompt.
        held_out: test prompts of either kind.
        seed: of the splits.
    """
    train, test = split(near, held_out=held_out, seed=seed)
    known = {pair.summary for pair in near}
    others = split([pair for pair in far if pair.summary not in known], held_out=held_out, seed=seed)[1]
    tokenizer = make_tokenizer((f"{p.body}{QUESTION} {p.summary}" for p in train), size=vocabulary)
    parts = [[(prompt_of(p, tokenizer, length), f" {p.summary}") for p in part] for part in (train, test, others)]
    return Task(tokenizer, *parts, Gold.fit([p.body for p in train]))
