"""Data sets with known faults: which labels were changed, which examples are redundant, which irrelevant."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from generalized_exploration.config import Digits
from generalized_exploration.config import Mazes as MazeConfig
from generalized_exploration.supervised import mazes

__all__ = ["Examples", "Task", "make_task"]


class Examples(NamedTuple):
    """Examples and what is wrong with them.

    Attributes:
        x: u8 or f32 [n, d].
        y: i32[n], the label that a learner is given.
        corrupted: bool[n], the label is not the right one.
        trivial: bool[n], redundant.
        irrelevant: bool[n], unlike what the test asks for.
    """

    x: np.ndarray
    y: np.ndarray
    corrupted: np.ndarray
    trivial: np.ndarray
    irrelevant: np.ndarray


class Task(NamedTuple):
    """A data set to choose from, one for the reference model, and a test set with right labels.

    Attributes:
        train: to choose from.
        holdout: for the reference model.
        test_x: [n, d].
        test_y: i32[n].
        classes: how many.
    """

    train: Examples
    holdout: Examples
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int


def make_task(config: MazeConfig | Digits, rng: np.random.Generator) -> Task:
    """Return the data set that settings describe."""
    return _digits(config, rng) if isinstance(config, Digits) else _mazes(config, rng)


def _examples(
    x: np.ndarray,
    y: np.ndarray,
    noise: float,
    classes: int,
    rng: np.random.Generator,
    trivial: int = 0,
    irrelevant: int = 0,
) -> Examples:
    """Mark the first rows as trivial, the next as irrelevant, draw a share of the labels anew, and shuffle."""
    n = len(x)
    index = np.arange(n)
    anew = rng.random(n) < noise
    given = np.where(anew, rng.integers(classes, size=n), y).astype(np.int32)
    order = rng.permutation(n)
    rows = (x, given, given != y, index < trivial, (index >= trivial) & (index < trivial + irrelevant))
    return Examples(*(array[order] for array in rows))


def _mazes(config: MazeConfig, rng: np.random.Generator) -> Task:
    size, walls = config.size, config.walls
    easy, odd = round(config.train * config.trivial), round(config.train * config.irrelevant)
    kinds = [
        mazes.trivial(rng, easy, size),
        mazes.enclosed(rng, odd, size),
        mazes.random_mazes(rng, config.train - easy - odd, size, walls),
    ]
    parts = [np.concatenate(kinds), *(mazes.random_mazes(rng, n, size, walls) for n in (config.holdout, config.test))]
    labels = [mazes.classes_of(mazes.distances(x, size)) for x in parts]
    train = _examples(parts[0], labels[0], config.label_noise, mazes.CLASSES, rng, easy, odd)
    holdout = _examples(parts[1], labels[1], config.label_noise, mazes.CLASSES, rng)
    return Task(train, holdout, parts[2], labels[2], mazes.CLASSES)


def _digits(config: Digits, rng: np.random.Generator) -> Task:
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = (data.data / 16.0).astype(np.float32), data.target.astype(np.int32)
    order = rng.permutation(len(x))
    cuts = (config.images, config.images + config.holdout)
    (train_x, holdout_x, test_x), (train_y, holdout_y, test_y) = (np.split(a[order], cuts) for a in (x, y))
    copies = np.repeat(train_x, config.copies, axis=0)
    copies = copies + config.pixel_noise * rng.standard_normal(copies.shape, np.float32)
    train = _examples(copies, np.repeat(train_y, config.copies), config.label_noise, 10, rng)
    return Task(train, _examples(holdout_x, holdout_y, config.label_noise, 10, rng), test_x, test_y, 10)
