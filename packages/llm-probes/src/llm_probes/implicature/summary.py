"""Accuracies with their controls: by template, group and type, next to constant answers and people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from llm_probes.implicature.evaluate import Item
from llm_probes.implicature.examples import LABELS, Example
from llm_probes.implicature.human import HumanBaseline
from llm_probes.implicature.templates import Template

__all__ = ["summarise"]


def summarise(
    items: Sequence[Item],
    test: Sequence[Example],
    templates: Sequence[Template],
    *,
    types: Sequence[str] | None = None,
    human: HumanBaseline | None = None,
) -> dict[str, Any]:
    """Return the figures of one evaluation, in percent.

    The mean and the *population* standard deviation over templates are the paper's. The interval is for the examples:
    mean over templates of each example, normal approximation.

    Args:
        items: every example in every template.
        test: the examples.
        templates: the templates that were used.
        types: the type of each example.
        human: the human baseline, whose items stand in the test set's order.

    Returns:
        A dictionary that JSON can hold.
    """
    used = sorted({item.example for item in items})
    row, column = {e: i for i, e in enumerate(used)}, {t.name: j for j, t in enumerate(templates)}
    correct = np.zeros((len(used), len(templates)))
    for item in items:
        correct[row[item.example], column[item.template]] = item.correct
    by_template = 100 * correct.mean(axis=0)
    labels = np.array([LABELS.index(test[i].label) for i in used])
    groups = {group: [t.group == group for t in templates] for group in dict.fromkeys(t.group for t in templates)}
    summary: dict[str, Any] = {
        "examples": len(used),
        "mean": float(by_template.mean()),
        "std_over_templates": float(by_template.std()),
        "interval_95": _interval(100 * correct.mean(axis=1)),
        "by_template": {t.name: float(a) for t, a in zip(templates, by_template, strict=True)},
        "by_group": {
            group: {"mean": float(by_template[chosen].mean()), "std": float(by_template[chosen].std())}
            for group, chosen in ((name, np.array(flags)) for name, flags in groups.items())
        },
        "always": {label: float(100 * np.mean(labels == i)) for i, label in enumerate(LABELS)},
        "answered": _answered(items),
        "valid": float(100 * np.mean([item.valid for item in items])),
    }
    if any(item.completion is not None for item in items):
        summary["reference_parser"] = {
            "valid": float(100 * np.mean([bool(item.reference_valid) for item in items])),
            "mean": float(100 * np.mean([bool(item.reference_correct) for item in items])),
        }
    if types is not None:
        kinds = np.array([types[i] for i in used])
        summary["by_type"] = {
            kind: {
                "examples": int((kinds == kind).sum()),
                "mean": float(100 * correct[kinds == kind].mean()),
                "interval_95": _interval(100 * correct[kinds == kind].mean(axis=1)),
                **({"human": float(100 * human.items[used][kinds == kind].mean())} if human else {}),
            }
            for kind in sorted(set(kinds))
        }
    if human is not None:
        names = ("mean", "mean_std", "best", "best_std", "worst", "worst_std", "blocks", "kappas")
        summary["human"] = {name: getattr(human, name) for name in names}
    return summary


def _interval(values: np.ndarray) -> list[float]:
    """95 % interval of a mean, normal approximation; [mean, mean] for a single value."""
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return [mean - half, mean + half]


def _answered(items: Sequence[Item]) -> dict[str, float]:
    """Share of valid items on which the model chose each answer: a model that always says yes shows here."""
    chosen = [item.answers[0 if item.correct else 1].strip() for item in items if item.valid]
    return {answer: float(100 * np.mean([c == answer for c in chosen])) for answer in sorted(set(chosen))}
