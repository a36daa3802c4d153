"""Removed or only wrapped? Each instrument's evidence on one scale, and what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from llm_probes.wrapped.instruments import Draw, Examples, View, accuracy
from llm_probes.wrapped.probes import ProbeResult, probe
from llm_probes.wrapped.prune import PruneResult, Unit, prune
from llm_probes.wrapped.tune import Optimiser, revival, steps_to
from paperloop.errors import UserError

__all__ = ["Evidence", "Verdict", "conclude", "examine", "recovered"]

Word = Literal["wrapped", "removed", "not lost", "undecided"]


@dataclass(frozen=True)
class Evidence:
    """What one instrument says.

    Attributes:
        instrument: "probe", "prune" or "revive".
        share: how much of the lost accuracy the instrument finds again: 1 all of it, 0 none; None if it finds as much
            in a model that never had the capability, so that it says nothing.
        low: lower end of its 95 % interval.
        high: upper end.
        detail: the instrument's own result, for a report.
    """

    instrument: str
    share: float | None
    low: float | None
    high: float | None
    detail: dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        word: "wrapped", "removed", "not lost" (the tuned model still has it) or "undecided".
        before: accuracy on the old task before fine-tuning, in percent.
        after: the same after it.
        floor: what the commonest answer earns.
        evidence: of every instrument.
    """

    word: Word
    before: float
    after: float
    floor: float
    evidence: tuple[Evidence, ...]

    def document(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        return asdict(self)


def recovered(found: float, *, before: float, floor: float, examples: int) -> tuple[float, float, float]:
    """Return (share, low, high) of (found - floor) / (before - floor), clipped to [0, 1], with a binomial interval.

    Args:
        found: accuracy that an instrument reaches, in percent.
        before: accuracy before fine-tuning.
        floor: what needs no capability: the commonest answer, or the control.
        examples: number of test examples behind `found`.

    Raises:
        UserError: the model before fine-tuning is not above the floor.
    """
    spread = before - floor
    if spread <= 0:
        raise UserError(
            f"the model before fine-tuning is right on {before:.1f} % and {floor:.1f} % need no capability: there is "
            "nothing to recover."
        )
    rate = found / 100
    half = 196 * math.sqrt(max(rate * (1 - rate), 1 / examples) / examples)
    low, share, high = (float(np.clip((v - floor) / spread, 0, 1)) for v in (found - half, found, found + half))
    return share, low, high


def conclude(before: float, after: float, floor: float, evidence: Sequence[Evidence]) -> Word:
    """Return the verdict.

    Not lost: the model after fine-tuning keeps more than nine tenths of what it had above the floor. Wrapped: an
    instrument that reads or edits the model without training it (probe, prune) finds at least half of it, surely (its
    interval's lower end). Removed: no instrument finds half of it, surely (all upper ends). Otherwise undecided.
    Evidence without a share does not count.
    """
    if after - floor > 0.9 * (before - floor):
        return "not lost"
    if any(one.low >= 0.5 for one in evidence if one.low is not None and one.instrument in ("probe", "prune")):
        return "wrapped"
    if all(one.high < 0.5 for one in evidence if one.high is not None):
        return "removed"
    return "undecided"


def examine(
    view: View,
    before: Any,
    after: Any,
    draw: Draw,
    train: Examples,
    test: Examples,
    *,
    control: Any = None,
    unit: Unit = "weight",
    start: float = 0.5,
    sizes: Sequence[int] = (0, 1, 2, 3, 5, 10, 20),
    candidates: int = 0,
    steps: int = 100,
    lr: float = 1e-3,
    optimiser: Optimiser = "sgd",
    seed: int = 0,
) -> Verdict:
    """Turn every instrument on a fine-tuned model and say whether the old capability is removed or wrapped.

    The probe's floor is the best of the commonest answer, the accuracy of a probe for permuted answers, and that of a
    probe of the control, so that what the probe learns by itself or from the inputs alone does not count. Pruning
    chooses weights and their number on `train` and reports that choice's accuracy on `test`. Revival reports the
    accuracy after `steps` steps of fine-tuning back, to be compared with the control's (`revival` on that model).

    Args:
        view: how the models are read.
        before: the model before fine-tuning.
        after: the model after it; neither is changed.
        draw: fresh training examples of the old task.
        train: examples of the old task for probes and scores.
        test: other examples of it. Neither may hold the spurious relation.
        control: a model that never had the capability, if there is one; without it a probe may read what any model of
            such inputs would show.
        unit: what is pruned.
        start: the share of the depth from which on blocks are pruned.
        sizes: numbers of pruned units to try.
        candidates: see `prune`.
        steps: of fine-tuning back.
        lr: of fine-tuning back.
        optimiser: of fine-tuning back.
        seed: of everything random.
    """
    had, has = accuracy(view, before, test), accuracy(view, after, test)
    floor = 100 * float(test.targets.bincount().max()) / len(test)
    options = {"unit": unit, "start": start, "candidates": candidates}
    probed = [model and probe(view, model, train, test, seed=seed) for model in (before, after, control)]
    evidence = [
        _probe_evidence(*probed),
        _prune_evidence(view, after, train, test, had, floor, sizes, seed, **options),
        _revival_evidence(view, after, draw, test, had, floor, steps, lr, optimiser, seed),
    ]
    return Verdict(conclude(had, has, floor, evidence), had, has, floor, tuple(evidence))


def _probe_evidence(old: ProbeResult, new: ProbeResult, control: ProbeResult | None) -> Evidence:
    block, had = new.best, old.accuracy[old.best]
    floor = max(new.majority, new.control[block], *(control.accuracy if control else ()))
    detail: dict[str, Any] = {"before": asdict(old), "after": asdict(new), "block": block}
    if control:
        detail["control"] = asdict(control)
        if had - floor < 5:
            return Evidence("probe", None, None, None, detail)
    share, low, high = recovered(new.accuracy[block], before=had, floor=floor, examples=new.examples)
    return Evidence("probe", share, low, high, detail)


def _prune_evidence(
    view: View,
    model: Any,
    train: Examples,
    test: Examples,
    had: float,
    floor: float,
    sizes: Sequence[int],
    seed: int,
    **options: Any,
) -> Evidence:
    half = len(train) // 2  # one half scores the units, the other says how many to remove
    scoring, choosing = train.take(slice(0, half)), train.take(slice(half, None))
    chosen = prune(view, model, scoring, choosing, sizes=sizes, random_draws=0, **options)
    size = chosen.sizes[chosen.best]
    final: PruneResult = prune(view, model, scoring, test, sizes=[size], seed=seed, **options)
    share, low, high = recovered(final.accuracy[0], before=had, floor=floor, examples=len(test))
    detail: dict[str, Any] = {"size": size, "curve": list(zip(chosen.sizes, chosen.accuracy, strict=True))}
    detail |= {"accuracy": final.accuracy[0], "random": final.random[0], "classes": final.classes[0]}
    return Evidence("prune", share, low, high, detail | {"units": list(final.units[: max(size, 1)])})


def _revival_evidence(
    view: View,
    model: Any,
    draw: Draw,
    test: Examples,
    had: float,
    floor: float,
    steps: int,
    lr: float,
    optimiser: Optimiser,
    seed: int,
) -> Evidence:
    marks = sorted({0, *(round(steps * share) for share in (0.03, 0.1, 0.3, 1.0))})
    curve = revival(view, model, draw, test, marks=marks, lr=lr, optimiser=optimiser, seed=seed)
    share, low, high = recovered(curve[-1][1], before=had, floor=floor, examples=len(test))
    half = steps_to(curve, floor + 0.5 * (had - floor))
    detail = {"curve": curve, "steps_to_half": None if math.isinf(half) else half}
    return Evidence("revive", share, low, high, detail)
