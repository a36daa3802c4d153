"""A method of unsupervised environment design, as a declaration.

All methods share one training cycle (`minimax_ued.cycle`). What tells them apart is where new levels come from, which
levels are kept, which rollouts get gradients, and how many students there are. Imports neither jax nor numpy, so that
configurations and command lines can name methods at no cost.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal, get_args

from minimax_ued.support.registry import add
from paperloop.errors import UserError

__all__ = ["METHODS", "Curator", "Method", "Source", "get_method", "register_method"]

#: Where the levels of a rollout come from: `fresh` from the generator, `replay` from what the curator keeps, `mutation`
#: from replayed levels by small edits.
Source = Literal["fresh", "replay", "mutation"]

#: What keeps levels. `none`: nothing does. `buffer`: the scored level buffer of prioritised level replay. `learnable`:
#: the most learnable of many random levels, chosen again from time to time. `distribution`: a buffer with a learned
#: distribution over it.
Curator = Literal["none", "buffer", "learnable", "distribution"]


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method does in one cycle.

    Attributes:
        name: the name in configurations and tables.
        gradient: the sources whose rollouts train the students: "fresh", "replay" or both. A source that is not named
            is only looked at: its levels are rolled out, scored and offered to the curator.
        curator: what keeps levels: "none", "buffer", "learnable" or "distribution". Where something does, a rollout
            restarts the same level after each episode, so that its score is about that level; otherwise, and unless a
            teacher made it, each episode has a level of its own.
        parallel: with a buffer, roll out levels of all sources in each cycle, side by side; otherwise a cycle draws
            lots between fresh and replayed ones.
        mutates: edit the replayed levels and offer the results to the buffer.
        teacher: fresh levels are made by a learning teacher, not by the environment's random generator.
        objective: what the teacher is rewarded by, a name of `minimax_ued.teachers.regret.OBJECTIVES`.
        students: how many learn side by side on levels of one teacher; None for as many as the configuration says.
        summary: one line for help texts.
        reference: the paper.
    """

    name: str
    gradient: frozenset[Source]
    curator: Curator = "none"
    parallel: bool = False
    mutates: bool = False
    teacher: bool = False
    objective: str = ""
    students: int | None = 1
    summary: str
    reference: str

    def __post_init__(self) -> None:
        def refuse(sentence: str) -> None:
            raise UserError(f"Method {self.name!r} {sentence}")

        sources, curators = get_args(Source), get_args(Curator)
        if unknown := sorted(set(self.gradient) - set(sources)):
            refuse(f"has the gradient {unknown[0]!r}, but the sources are {', '.join(sources)}.")
        if self.curator not in curators:
            refuse(f"has the curator {self.curator!r}, but the curators are {', '.join(curators)}.")
        if self.students is not None and self.students < 1:
            refuse(f"has {self.students} students: give it at least one.")
        if not self.gradient:
            refuse("trains on nothing: name at least one source in `gradient`.")
        if "replay" in self.gradient and not self.curated:
            refuse("trains on replayed levels but keeps none: name a curator.")
        if (self.parallel or self.mutates) and self.curator != "buffer":
            refuse("is parallel or mutates, which takes curator='buffer'.")
        if "mutation" in self.gradient:
            refuse("trains on mutations, which are only ever scored: leave them out of `gradient`.")
        if self.teacher != bool(self.objective):
            refuse("needs an objective exactly if it has a teacher.")
        if self.teacher and (self.parallel or self.mutates or self.curator in ("learnable", "distribution")):
            refuse("has a teacher, which goes with no curator, or with a buffer that is neither parallel nor mutates.")
        if self.students != 1 and not self.teacher:
            refuse("has several students, which only a teacher's regret needs.")

    @property
    def curated(self) -> bool:
        """Whether levels are kept."""
        return self.curator != "none"

    @property
    def alternates(self) -> bool:
        """Whether a cycle draws lots between fresh and replayed levels."""
        return self.curator == "buffer" and not self.parallel

    @property
    def parts(self) -> int:
        """Batches of B environments that are rolled out side by side in one cycle."""
        return (2 + self.mutates) if self.parallel else 1


_PLR = "Jiang, Grefenstette and Rocktäschel 2021, arXiv 2010.03934"
_ROBUST_PLR = "Jiang, Dennis et al. 2021, arXiv 2110.02439"
_ACCEL = "Parker-Holder et al. 2022, arXiv 2203.01302"
_PAIRED = "Dennis et al. 2020, arXiv 2012.02096"
_MINIMAX = "Jiang et al. 2023, arXiv 2311.12716"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="dr",
            gradient=frozenset({"fresh"}),
            summary="domain randomisation: a fresh random level for every episode",
            reference="Tobin et al. 2017, arXiv 1703.06907",
        ),
        Method(
            name="plr",
            gradient=frozenset({"fresh", "replay"}),
            curator="buffer",
            summary="prioritised level replay: gradients on fresh and on replayed levels",
            reference=_PLR,
        ),
        Method(
            name="robust_plr",
            gradient=frozenset({"replay"}),
            curator="buffer",
            summary="robust prioritised level replay: fresh levels are only scored, gradients on replayed levels",
            reference=_ROBUST_PLR,
        ),
        Method(
            name="parallel_plr",
            gradient=frozenset({"replay"}),
            curator="buffer",
            parallel=True,
            summary="robust prioritised level replay with fresh and replayed levels side by side in every cycle",
            reference=_MINIMAX,
        ),
        Method(
            name="accel",
            gradient=frozenset({"replay"}),
            curator="buffer",
            mutates=True,
            summary="ACCEL: robust prioritised level replay whose replayed levels are edited and offered to the buffer",
            reference=_ACCEL,
        ),
        Method(
            name="parallel_accel",
            gradient=frozenset({"replay"}),
            curator="buffer",
            parallel=True,
            mutates=True,
            summary="ACCEL with fresh, replayed and edited levels side by side in every cycle",
            reference=_MINIMAX,
        ),
        Method(
            name="minimax",
            gradient=frozenset({"fresh"}),
            teacher=True,
            objective="neg_return",
            summary="a teacher builds levels on which the student does badly",
            reference=_PAIRED,
        ),
        Method(
            name="paired",
            gradient=frozenset({"fresh"}),
            teacher=True,
            objective="relative_regret",
            students=2,
            summary="a teacher builds levels which the antagonist solves and the protagonist does not",
            reference=_PAIRED,
        ),
        Method(
            name="population_paired",
            gradient=frozenset({"fresh"}),
            teacher=True,
            objective="population_regret",
            students=None,
            summary="PAIRED with a population: regret is the best student's return over the mean",
            reference=_PAIRED,
        ),
        Method(
            name="repaired",
            gradient=frozenset({"replay"}),
            curator="buffer",
            teacher=True,
            objective="relative_regret",
            students=2,
            summary="PAIRED whose students learn from replayed levels only; the teacher's levels are scored and kept",
            reference=_ROBUST_PLR,
        ),
        Method(
            name="sfl",
            gradient=frozenset({"fresh", "replay"}),
            curator="learnable",
            summary="sampling for learnability: half of the levels are random, half the most learnable of many",
            reference="Rutherford et al. 2024, arXiv 2408.15099",
        ),
        Method(
            name="ncc",
            gradient=frozenset({"replay"}),
            curator="distribution",
            summary="a distribution over kept levels, learned against the student by projected gradient ascent",
            reference="Monette et al. 2025, arXiv 2505.20659",
        ),
    )
}


def register_method(method: Method) -> Method:
    """Add a method to those that configurations can name, and return it.

    Raises:
        UserError: there is another of that name.
    """
    add("method", method.name, method, METHODS)
    return method


def get_method(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        UserError: there is none of that name.
    """
    try:
        return METHODS[name]
    except KeyError:
        near = difflib.get_close_matches(str(name), METHODS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(
            f"method is {name!r}{hint}, but the methods are {', '.join(sorted(METHODS))}, and those that the program "
            "itself registers."
        ) from None
