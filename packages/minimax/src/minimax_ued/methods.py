"""A method of unsupervised environment design, as a declaration.

All methods share one training cycle (`minimax_ued.cycle`). What tells them apart is where the levels of a rollout come
from, which rollouts get gradients, and whether levels are scored and kept. Imports neither jax nor numpy, so that
configurations and command lines can name methods at no cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from outerloop.errors import UserError

__all__ = ["METHODS", "Method", "Source", "get_method"]

#: Where the levels of a rollout come from: `fresh` from the environment's random generator, `replay` from the buffer.
Source = Literal["fresh", "replay"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method does in one cycle.

    Attributes:
        name: the name in configurations and tables.
        gradient: the sources whose rollouts train the student. A source that is not named is only looked at: its
            levels are rolled out, scored and offered to the buffer.
        curated: whether levels are scored and kept in a buffer, and whether a cycle may replay from it. A curated
            rollout restarts the same level after each episode, so that its score is about that level; otherwise each
            episode has a level of its own.
        summary: one line for help texts.
        reference: the paper.
    """

    name: str
    gradient: frozenset[Source]
    curated: bool
    summary: str
    reference: str

    def __post_init__(self) -> None:
        if not self.gradient:
            raise UserError(f"Method {self.name!r} trains on nothing: name at least one source in `gradient`.")
        if "replay" in self.gradient and not self.curated:
            raise UserError(f"Method {self.name!r} trains on replayed levels but keeps none: set curated=True.")


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="dr",
            gradient=frozenset({"fresh"}),
            curated=False,
            summary="domain randomisation: a fresh random level for every episode",
            reference="Tobin et al. 2017, arXiv 1703.06907",
        ),
        Method(
            name="plr",
            gradient=frozenset({"fresh", "replay"}),
            curated=True,
            summary="prioritised level replay: gradients on fresh and on replayed levels",
            reference="Jiang, Grefenstette and Rocktäschel 2021, arXiv 2010.03934",
        ),
        Method(
            name="robust_plr",
            gradient=frozenset({"replay"}),
            curated=True,
            summary="robust prioritised level replay: fresh levels are only scored, gradients on replayed levels",
            reference="Jiang, Dennis et al. 2021, arXiv 2110.02439",
        ),
    )
}


def get_method(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        UserError: there is none of that name.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise UserError(f"method is {name!r}, but the methods are {', '.join(sorted(METHODS))}.") from None
