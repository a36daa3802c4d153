"""What an environment shows and takes."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Actions", "Numbers", "Symbols"]


class Symbols(NamedTuple):
    """Observations of symbols, uint8 `[n]`: groups of entries, each entry one of the classes of its group.

    Attributes:
        groups: (entries, classes) of each group, in order.
    """

    groups: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Entries of an observation."""
        return sum(entries for entries, _ in self.groups)

    @property
    def width(self) -> int:
        """Width of an observation as one-hot vectors."""
        return sum(entries * classes for entries, classes in self.groups)


class Numbers(NamedTuple):
    """Observations of real numbers, float32 `[n]`.

    Attributes:
        size: entries of an observation.
    """

    size: int

    @property
    def width(self) -> int:
        """Width of an observation as the encoder takes it."""
        return self.size


class Actions(NamedTuple):
    """Actions as the world model takes them: one-hot vectors, or numbers in [-1, 1].

    Attributes:
        size: number of actions, or of their dimensions.
        discrete: which of the two.
    """

    size: int
    discrete: bool
