"""The human baseline: accuracy and agreement from raw votes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm_probes.implicature.examples import LABELS, label_of, rows_of
from paperloop.errors import UserError

__all__ = ["Block", "HumanBaseline", "cohen_kappa", "human_baseline", "read_block"]

COLUMNS = ("Utterance", "Response", "Ground truth")


@dataclass(frozen=True)
class Block:
    """The votes of one group of annotators on the same examples.

    Attributes:
        truth: index into `LABELS`, int [examples].
        votes: the same of every annotator, int [annotators, examples].
    """

    truth: np.ndarray
    votes: np.ndarray

    @property
    def accuracies(self) -> np.ndarray:
        """Accuracy of each annotator in percent, float [annotators]."""
        return 100 * (self.votes == self.truth).mean(axis=1)

    @property
    def kappa(self) -> float:
        """Mean of Cohen's kappa over all pairs of annotators."""
        return float(np.mean([cohen_kappa(a, b) for a, b in itertools.combinations(self.votes, 2)]))


@dataclass(frozen=True)
class HumanBaseline:
    """What people reach, in percent.

    Attributes:
        mean: over all annotators.
        mean_std: population standard deviation over annotators.
        best: mean over blocks of the best annotator.
        best_std: population standard deviation over blocks.
        worst: mean over blocks of the worst annotator.
        worst_std: population standard deviation over blocks.
        blocks: mean of each block.
        kappas: mean pairwise agreement of each block.
        items: share of annotators that are right, per example in the blocks' order.
    """

    mean: float
    mean_std: float
    best: float
    best_std: float
    worst: float
    worst_std: float
    blocks: tuple[float, ...]
    kappas: tuple[float, ...]
    items: np.ndarray


def cohen_kappa(a: np.ndarray, b: np.ndarray) -> float:
    """Return Cohen's kappa of two raters: (observed - expected) / (1 - expected) agreement.

    Two raters who give the same single label throughout agree by necessity: the value is 1 there.
    """
    observed = float(np.mean(a == b))
    labels = np.union1d(a, b)
    expected = float(sum(np.mean(a == label) * np.mean(b == label) for label in labels))
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def read_block(path: str | Path) -> Block:
    """Read one annotators' file: `Utterance,Response,Ground truth,Annotator 1,...`; other columns are ignored.

    Raises:
        UserError: the file is unreadable, has fewer than two annotators, or a vote is neither yes nor no.
    """
    truth, votes = [], []
    for line, row in rows_of(path, COLUMNS):
        annotators = [name for name in row if re.fullmatch(r"Annotator \d+", name.strip())]
        if len(annotators) < 2:
            raise UserError(f"{path} has {len(annotators)} columns named `Annotator <n>`; agreement needs two or more.")
        labels = [label_of(row[name].strip()) for name in ("Ground truth", *annotators)]
        if None in labels:
            column = ("Ground truth", *annotators)[labels.index(None)]
            raise UserError(f"{path}, line {line}: the vote of {column} is {row[column]!r}, neither yes nor no.")
        truth.append(LABELS.index(str(labels[0])))
        votes.append([LABELS.index(str(label)) for label in labels[1:]])
    if not truth:
        raise UserError(f"{path} holds no votes.")
    return Block(np.array(truth), np.array(votes).T)


def human_baseline(blocks: Sequence[Block]) -> HumanBaseline:
    """Return accuracy and agreement over blocks of annotators; the paper's table row for people."""
    accuracies = [block.accuracies for block in blocks]
    best, worst = [a.max() for a in accuracies], [a.min() for a in accuracies]
    everybody = np.concatenate(accuracies)
    return HumanBaseline(
        mean=float(everybody.mean()),
        mean_std=float(everybody.std()),
        best=float(np.mean(best)),
        best_std=float(np.std(best)),
        worst=float(np.mean(worst)),
        worst_std=float(np.std(worst)),
        blocks=tuple(float(a.mean()) for a in accuracies),
        kappas=tuple(block.kappa for block in blocks),
        items=np.concatenate([(block.votes == block.truth).mean(axis=0) for block in blocks]),
    )
