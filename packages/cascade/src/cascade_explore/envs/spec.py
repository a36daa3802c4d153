"""What an environment shows and takes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

__all__ = ["Actions", "HostEnv", "Numbers", "Observed", "Pixels", "Symbols"]


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


class Pixels(NamedTuple):
    """Images of 64 x 64, uint8, flat: `[64 · 64 · channels]`.

    Attributes:
        channels: 3, or 1 for shades of grey.
    """

    channels: int

    @property
    def size(self) -> int:
        """Entries of an observation."""
        return 64 * 64 * self.channels

    @property
    def width(self) -> int:
        """Width of an observation as the decoder gives it."""
        return self.size


Observed = Symbols | Numbers | Pixels


class Actions(NamedTuple):
    """Actions as the world model takes them: one-hot vectors, or numbers in [-1, 1].

    Attributes:
        size: number of actions, or of their dimensions.
        discrete: which of the two.
    """

    size: int
    discrete: bool


class HostEnv(Protocol):
    """One environment on the host."""

    @property
    def observation(self) -> Observed:
        """What is observed."""
        ...

    @property
    def actions(self) -> Actions:
        """What can be done."""
        ...

    @property
    def limit(self) -> int:
        """Steps after which an episode is cut."""
        ...

    @property
    def facts(self) -> tuple[str, ...]:
        """Names of what it can say of its state besides; labels may read them, no model does."""
        ...

    def reset(self, seed: int | None) -> Any:
        """Begin an episode, from a seed if one is given, and return its first observation."""
        ...

    def step(self, action: Any) -> tuple[Any, float, bool, bool]:
        """Return observation, reward, whether the episode ended for good, and whether it is cut here."""
        ...

    def measure(self) -> Any:
        """Return the facts as they are now, a number for each."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...
