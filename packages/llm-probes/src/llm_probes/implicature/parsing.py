"""What a free completion answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Parsed", "parse_reference", "parse_words"]

MARKER = "answer:"
WORD = re.compile(r"\b(yes|no)\b")
# "not yes", "isn't no": a word that is denied is not an answer.
DENIED = re.compile(r"(?:\bnot|n['’]t)\s+[\"'“]?$")


@dataclass(frozen=True)
class Parsed:
    """Whether a completion gives an answer at all, and whether it is the right one."""

    valid: bool
    correct: bool


def parse_words(completion: str, label: str) -> Parsed:
    """Read the answer by whole words: the text after the last "Answer:", or else all of it.

    Valid is exactly one of the two words, each time without a "not" before it. "know", "cannot" and "none" are neither,
    and a text with both words is invalid, which the original's rule counts as right for either label.
    """
    text = completion.lower().rpartition(MARKER)[2]
    found = {match[1] for match in WORD.finditer(text) if not DENIED.search(text[: match.start()])}
    denied = any(DENIED.search(text[: match.start()]) for match in WORD.finditer(text))
    valid = len(found) == 1 and not denied
    return Parsed(valid, valid and label in found)


def parse_reference(completion: str, label: str) -> Parsed:
    """Read the answer by the original's rule, for parity with published numbers.

    The text after the last "answer:", or else the last ten characters; valid if "yes" or "no" occurs in it as any
    substring, correct if the label does.
    """
    before, marker, after = completion.lower().rpartition(MARKER)
    text = after if marker else (before + after)[-10:]
    return Parsed("yes" in text or "no" in text, label in text)
