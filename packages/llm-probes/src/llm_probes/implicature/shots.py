"""Which worked examples stand before a question: the paper's draws, and the ablation with random labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llm_probes.implicature.examples import LABELS, Example
from paperloop.errors import UserError

__all__ = ["draw_shots", "random_labels"]


def draw_shots(examples: int, development: int, shots: int, *, seed: int = 0) -> np.ndarray:
    """Return the indices of the worked examples of every test example, int [examples, shots].

    One generator runs through the test examples in order and draws without replacement for each; all templates share
    the draw (Ruis et al. 2023). So a prefix of the test set keeps its draws, and any other subset must be taken from
    the whole table. The draws of two values of `shots` are not nested.

    Raises:
        UserError: there are fewer development examples than shots.
    """
    if shots > development:
        raise UserError(f"{shots} worked examples cannot be drawn from a development set of {development}.")
    generator = np.random.default_rng(seed)
    draws = [generator.choice(development, shots, replace=False) for _ in range(examples)]
    return np.array(draws, dtype=np.int64).reshape(examples, shots)


def random_labels(shots: Sequence[Example], generator: np.random.Generator) -> list[Example]:
    """Return worked examples whose labels are replaced by a fair coin each: does the model need the mapping at all?"""
    coins = generator.integers(2, size=len(shots))
    return [replace(shot, label=LABELS[coin]) for shot, coin in zip(shots, coins, strict=True)]
