"""The criteria by name, with what each needs and what may be expected of it.

`mastered` says that an item with nothing left to learn scores lowest. `noise` says whether an item that cannot be
learned scores low too: "yes", "no", "in expectation", or under a condition. Tests hold the first; the second is what
`generalized-exploration run` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from generalized_exploration.criteria import scores
from generalized_exploration.criteria.evidence import Evidence, namespace
from paperloop.errors import UserError
from paperloop.settings import did_you_mean

__all__ = ["CRITERIA", "Criterion", "criterion"]


@dataclass(frozen=True)
class Criterion:
    """How much an item is worth training on.

    Attributes:
        name: what it is called.
        function: `Evidence` of n items -> scores [n].
        needs: the fields of `Evidence` that it reads and cannot do without.
        mastered: an item with nothing left to learn has the lowest score.
        noise: whether an item that cannot be learned scores low.
    """

    name: str
    function: Callable[[Evidence], Any]
    needs: tuple[str, ...]
    mastered: bool
    noise: str

    def __call__(self, evidence: Evidence) -> Any:
        """Return the scores, [n]; higher means sooner.

        Raises:
            UserError: the evidence lacks something; the message names it.
        """
        evidence.require(self.needs, self.name)
        return self.function(evidence)


def _uniform(e: Evidence) -> Any:
    return namespace(*e.given().values()).ones(e.n)


_ALL = (
    Criterion("uniform", _uniform, (), False, "no: takes everything alike"),
    Criterion("loss", lambda e: e.loss, ("loss",), True, "no"),
    Criterion("gradient_norm", lambda e: scores.gradient_norm(e.logits, e.labels), ("logits", "labels"), True, "no"),
    Criterion("entropy", lambda e: scores.entropy(e.logits), ("logits",), True, "no"),
    Criterion("margin", lambda e: scores.margin(e.logits), ("logits",), True, "no"),
    Criterion("least_confidence", lambda e: scores.least_confidence(e.logits), ("logits",), True, "no"),
    Criterion(
        "disagreement", lambda e: scores.disagreement(e.probabilities), ("probabilities",), True,
        "yes, where members agree on it",
    ),
    Criterion(
        "reducible_loss", lambda e: scores.reducible_loss(e.loss, e.reference_loss), ("loss", "reference_loss"), True,
        "yes, with a good reference",
    ),
    Criterion(
        "negative_irreducible_loss", lambda e: scores.negative_irreducible_loss(e.reference_loss), ("reference_loss",),
        False, "yes",
    ),
    Criterion(
        "learning_progress", lambda e: scores.learning_progress(e.previous_loss, e.loss, e.elapsed),
        ("previous_loss", "loss", "elapsed"), True, "in expectation",
    ),
    Criterion("l1_value_loss", lambda e: scores.l1_value_loss(e.advantages, e.mask), ("advantages",), True, "no"),
    Criterion(
        "positive_value_loss", lambda e: scores.positive_value_loss(e.advantages, e.mask), ("advantages",), True,
        "partly",
    ),
    Criterion(
        "max_mc", lambda e: scores.max_mc(e.best_return, e.values, e.mask), ("best_return", "values"), True, "no"
    ),
    Criterion("learnability", lambda e: scores.learnability(e.success_rate), ("success_rate",), True, "no"),
    Criterion(
        "reducible_learnability",
        lambda e: scores.reducible_learnability(e.success_rate, e.reference_success_rate),
        ("success_rate", "reference_success_rate"), True, "yes, with a good reference",
    ),
    Criterion(
        "relative_regret", lambda e: scores.relative_regret(e.reference_return, e.mean_return),
        ("reference_return", "mean_return"), True, "yes, with a good reference",
    ),
    Criterion(
        "novelty_by_count", lambda e: scores.novelty_by_count(e.visits), ("visits",), False, "decays with visits"
    ),
    Criterion(
        "novelty_by_distance", lambda e: scores.novelty_by_distance(e.features, e.memory), ("features", "memory"),
        False, "decays with visits",
    ),
    Criterion(
        "grounding", lambda e: scores.grounding(e.features, e.exemplars), ("features", "exemplars"), False, "no"
    ),
)  # fmt: skip

#: Name -> criterion.
CRITERIA: Mapping[str, Criterion] = {one.name: one for one in _ALL}


def criterion(name: str) -> Criterion:
    """Return the criterion called `name`.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name not in CRITERIA:
        raise UserError(f"There is no criterion {name!r}{did_you_mean(name, CRITERIA)}")
    return CRITERIA[name]
