"""What a game is to everything else here."""

from __future__ import annotations

from typing import Any, Protocol

from jax import Array

__all__ = ["Game", "Pair", "State", "cell_of"]

State = Any
Pair = tuple[Any, Any]


class Game(Protocol):
    """Two players who move at the same time, in `B` games at once (the leading axis of every array).

    All randomness comes in as uniform numbers, so that one draw serves a whole episode, candidates can share it, and a
    test can inject what it wants. The length of an episode is not the game's business.

    Attributes:
        name: for messages.
        actions: how many.
        reset_noise: uniforms that `reset` takes per game.
        step_noise: uniforms that `step` takes per game.
        ends: whether the end of an episode ends what a learner bootstraps through; False lets its return go on
            through the first state of the next episode, as the reference does in matrix games.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def actions(self) -> int: ...  # noqa: D102

    @property
    def reset_noise(self) -> int: ...  # noqa: D102

    @property
    def step_noise(self) -> int: ...  # noqa: D102

    @property
    def ends(self) -> bool: ...  # noqa: D102

    def reset(self, noise: Array) -> State:
        """Return the first states, from uniforms `[B, reset_noise]`."""
        ...

    def observe(self, state: State) -> Pair:
        """Return what each player sees, from his own side."""
        ...

    def step(self, state: State, actions: tuple[Array, Array], noise: Array) -> tuple[State, tuple[Array, Array]]:
        """Return the next states and both rewards `[B]`, from actions `[B]` and uniforms `[B, step_noise]`."""
        ...

    def statistics(self, state: State, actions: tuple[Array, Array], after: State) -> dict[str, Array]:
        """Return what an evaluation counts in this step: name -> `[B, ...]`, to be summed over steps."""
        ...


def cell_of(uniform: Array, cells: int) -> Array:
    """Return integers in [0, cells) from uniforms in [0, 1)."""
    return (uniform * cells).astype("int32").clip(0, cells - 1)
