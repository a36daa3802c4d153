"""Did fine-tuning remove a capability or only wrap it? Compiled counters fine-tuned for real, with controls.

    python -m benchmarks.llm_probes.wrapped --tier smoke   # seconds: everything runs
    python -m benchmarks.llm_probes.wrapped --tier cpu     # minutes on two cores
    python -m benchmarks.llm_probes.wrapped --tier gpu     # longer strings, more steps and seeds

A compiled counter of the letter a (exact at every count) is fine-tuned to count b. Arms, several seeds each:

- wrapped: every training string has the relation b = a + 1; all blocks are trained;
- wrapped, last block: the same, but only the last block is trained, so that a wrapper can only be behind the count;
- removed: no training string has the relation, at a large rate;
- control: a counter that never counted a, fine-tuned back next to the others.

The claims, after Jain et al. 2024, in numbers that can fail; each in every seed: the wrapped models count b in more
than 94 % of strings with the relation and less than 5 % without; the probe finds more than half of the lost count in
them; pruning at most 20 weights restores more than 60 points, mean over seeds, and random weights less than 5; both are
called "wrapped", the removed arm "removed"; fine-tuned back, the wrapped models reach half of what they lost in at most
half the steps of the control.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from llm_probes.config import CounterConfig
from llm_probes.counter_trainer import VIEW, CounterAccuracy, CounterTrainer, counter_verdict
from llm_probes.wrapped.tune import revival, steps_to
from paperloop import run

__all__ = ["ARMS", "TIERS", "main", "verdicts"]

#: Arm -> what differs from the tier's configuration.
ARMS: dict[str, dict[str, Any]] = {
    "wrapped": {"correlated": 1.0, "lr": 1e-4, "noise": 2e-4},
    "wrapped, last block": {"correlated": 1.0, "lr": 1e-3, "noise": 1e-3, "trained": 0.6},
    "removed": {"correlated": 0.0, "lr": 1e-2, "noise": 2e-4},
}
#: Rate of fine-tuning back, in every arm.
BACK_LR = 1e-4


@dataclasses.dataclass(frozen=True)
class Tier:
    """Letters, length of the strings, steps of fine-tuning and of fine-tuning back, seeds, test strings."""

    symbols: int = 6
    length: int = 8
    steps: int = 500
    back: int = 300
    seeds: int = 2
    examples: int = 400
    claims: bool = True


TIERS = {
    "smoke": Tier(symbols=4, length=5, steps=3, back=4, seeds=1, examples=60, claims=False),
    "cpu": Tier(),
    "gpu": Tier(symbols=9, length=40, steps=10_000, back=5000, seeds=8, examples=4000),
}


def measure(arm: str, tier: Tier, seed: int, folder: Path) -> Json:
    """Fine-tune one arm with one seed and return all that is measured; done once."""
    path = folder / "numbers.json"
    if path.exists():
        return json.loads(path.read_text())
    trainer = CounterTrainer(CounterConfig(symbols=tier.symbols, length=tier.length, steps=tier.steps, **ARMS[arm]))
    state = run(trainer, folder, steps=tier.steps, seed=seed, progress=False)
    found: Json = dict(CounterAccuracy(trainer, tier.examples)(state, seed + 100))
    verdict = counter_verdict(trainer, state, lr=BACK_LR, seed=seed, examples=tier.examples)
    found |= {"verdict": verdict.word, "before": verdict.before, "after": verdict.after, "floor": verdict.floor}
    found["shares"] = {e.instrument: [e.share, e.low, e.high] for e in verdict.evidence}
    found["prune"] = next(e.detail for e in verdict.evidence if e.instrument == "prune")
    test = trainer.draw(tier.examples, torch.Generator().manual_seed(seed + 200))
    marks = sorted({round(tier.back * share) for share in (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1)})
    control = trainer.compiled(trainer.config.tuned, seed)
    for name, model in (("back", copy.deepcopy(state.model).requires_grad_(True)), ("control back", control)):
        found[name] = revival(VIEW, model, trainer.draw, test, marks=marks, lr=BACK_LR, seed=seed)
        # Half of the way from the commonest answer to what the model had before.
        found[f"{name}, steps"] = steps_to(found[name], (verdict.before + verdict.floor) / 2)
    path.write_text(json.dumps(found))
    return found


def verdicts(numbers: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, bool]:
    """Return claim -> whether it holds."""
    both = [row for arm in ("wrapped", "wrapped, last block") for row in numbers[arm]]

    def restored(arm: str, name: str) -> float:
        return float(np.mean([row["prune"][name] - row["after"] for row in numbers[arm]]))

    return {
        "wrapped: over 94 % with the relation": all(row["tuned_with"] > 94 for row in both),
        "wrapped: under 5 % without it": all(row["tuned_without"] < 5 for row in both),
        "wrapped: the probe finds more than half": all(row["shares"]["probe"][1] > 0.5 for row in both),
        "wrapped: the verdict says so": all(row["verdict"] == "wrapped" for row in both),
        **{f"{arm}: pruning restores over 60 points": restored(arm, "accuracy") > 60 for arm in list(ARMS)[:2]},
        **{f"{arm}: random weights restore under 5": restored(arm, "random") < 5 for arm in list(ARMS)[:2]},
        "removed: the verdict says so": all(row["verdict"] == "removed" for row in numbers["removed"]),
        "back in at most half the steps of the control": all(
            row["back, steps"] <= 0.5 * row["control back, steps"] for row in both
        ),
    }


def draw(numbers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Return the pruning curves and the curves of fine-tuning back, a line for each seed."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for number, (arm, rows) in enumerate(numbers.items()):
        for row in rows:
            label = arm if row is rows[0] else None
            left.plot(*zip(*row["prune"]["curve"], strict=True), color=f"C{number}", marker="o", ms=3, label=label)
            right.plot(*zip(*row["back"], strict=True), color=f"C{number}", marker="o", ms=3, label=label)
            if arm == "wrapped":
                name = "never counted it" if row is rows[0] else None
                right.plot(*zip(*row["control back"], strict=True), color="0.6", ls="--", label=name)
    left.set_xlabel("pruned weights")
    left.set_ylabel("old count, % right")
    right.set_xlabel("steps of fine-tuning back")
    right.legend(frameon=False, fontsize=8)
    return figure


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.wrapped", description=about)
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-llm-probes", help="folder of the runs")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tier = TIERS[args.tier]
    numbers: dict[str, list[Json]] = {}
    for arm in ARMS:
        folder = args.runs / f"wrapped-{args.tier}"
        name = arm.replace(",", "").replace(" ", "-")
        numbers[arm] = [measure(arm, tier, seed, folder / f"{name}-{seed}") for seed in range(tier.seeds)]
        print(f"{arm}: {[row['verdict'] for row in numbers[arm]]}", file=sys.stderr, flush=True)
    rows = [
        [arm, *(_mean([row[name] for row in rows]) for name in ("tuned_with", "tuned_without", "after")),
         _mean([100 * row["shares"]["probe"][0] for row in rows]), _mean([row["prune"]["accuracy"] for row in rows]),
         _mean([row["prune"]["random"] for row in rows]), _mean([row["back, steps"] for row in rows]),
         _mean([row["control back, steps"] for row in rows]), ", ".join(sorted({row["verdict"] for row in rows}))]
        for arm, rows in numbers.items()
    ]  # fmt: skip
    head = ["mean over seeds", "b with", "b without", "a", "probe %", "pruned", "random", "back", "control", "verdict"]
    print(table(rows, head))
    claims = verdicts(numbers) if tier.claims else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if tier.claims:
        name = f"llm_probes_wrapped-{args.tier}"
        origin = record("benchmarks.llm_probes.wrapped", sys.argv[1:] if argv is None else argv, ["torch"])
        write_result(name, {"record": origin, "tier": tier, "arms": numbers, "claims": claims})
        draw(numbers).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f}"


if __name__ == "__main__":
    sys.exit(main())
