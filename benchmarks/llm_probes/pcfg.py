"""Does fine-tuning remove or wrap what a model learned from a grammar? The small configuration, from random weights.

    python -m benchmarks.llm_probes.pcfg --tier smoke   # seconds: everything runs
    python -m benchmarks.llm_probes.pcfg --tier cpu     # about half an hour of one core
    python -m benchmarks.llm_probes.pcfg --tier gpu     # the paper's size

A GPT learns all five families of questions about windows of the grammar's strings (`llm_probes.wrapped.pcfg`); 999 of
1,000 operands are the letter a. It is then fine-tuned to count b. Arms:

- wrapped: every string has the relation b = a + 1, at the smaller rate;
- removed: no string has the relation, at the larger rate;
- control: the same pretraining with the operand b alone, then fine-tuned to count a, as the others are fine-tuned back.

The claims, after Jain et al. 2024 and their table 6, each in every seed: pretraining counts a in at least 95 % of fresh
strings without the relation and b in at most 30 %; the wrapped arm counts b in more than 94 % with the relation and at
most 5 % without; the probe finds at least half of the lost count beyond what it finds in the control; pruning at most
20 neurons, as published, restores 30 points and random ones less than 5; the wrapped arm is fine-tuned back in at most
half of the control's steps; the verdicts are "wrapped" and "removed". Pruning is also done with each removal verified
by the loss, with the same claims; in the removed arm it must find nothing.

Stopped at any moment, the same command continues.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from llm_probes.config import Answer, PcfgConfig, Pretrain
from llm_probes.pcfg_trainer import PcfgAccuracy, PcfgTrainer, write_outcome
from llm_probes.wrapped.tune import revival, steps_to
from llm_probes.wrapped.verdict import examine
from paperloop import run
from paperloop.errors import UserError

__all__ = ["TIERS", "main", "verdicts"]


@dataclasses.dataclass(frozen=True)
class Tier:
    """Sizes of one run.

    Attributes:
        length: letters of a window.
        reach: letters that are counted.
        layers: of the model.
        width: of the model.
        spread: share of edited windows in pretraining.
        batch: windows of an update.
        lr: peak rate of pretraining.
        pretrain: its steps.
        tune: steps of fine-tuning.
        small: its rate in the wrapped arm.
        large: its rate in the removed arm.
        back: steps of fine-tuning back, at the small rate.
        seeds: of fine-tuning.
        examples: for the instruments.
        claims: whether the result is judged.
    """

    length: int = 24
    reach: int = 10
    layers: int = 3
    width: int = 64
    spread: float = 0.5
    batch: int = 32
    lr: float = 2e-3
    pretrain: int = 3000
    tune: int = 200
    small: float = 1e-4
    large: float = 3e-3
    back: int = 200
    seeds: int = 2
    examples: int = 1000
    claims: bool = True


TIERS = {
    "smoke": Tier(length=14, reach=8, layers=2, width=32, batch=8, pretrain=4, tune=2, back=4, seeds=1, examples=80,
                  claims=False),
    "cpu": Tier(),
    "gpu": Tier(length=250, reach=40, layers=6, width=192, spread=0.0, batch=96, lr=1e-3, pretrain=50_000, tune=10_000,
                small=1e-5, large=1e-3, back=10_000, seeds=2, examples=4000),
}  # fmt: skip


class Pipeline:
    """The runs of one tier in one folder; what is complete there is not done again."""

    def __init__(self, tier: Tier, folder: Path, device: str):
        self.tier, self.folder, self.device = tier, folder, device

    def config(self, phase: Any, steps: int) -> PcfgConfig:
        """Return the configuration of a phase."""
        return PcfgConfig(phase=phase, length=self.tier.length, reach=self.tier.reach, nth=2, steps=steps)

    def train(self, name: str, phase: Any, steps: int, seed: int = 0) -> tuple[PcfgTrainer, Any]:
        """Return (trainer, final state) of a run, and leave its model's folder."""
        trainer = PcfgTrainer(self.config(phase, steps), self.device)
        state = run(
            trainer, self.folder / name, steps=steps, seed=seed, evaluators={"test": PcfgAccuracy(trainer, 300)},
            progress=False, eval_every=max(1, steps // 12), save_minutes=1,
        )  # fmt: skip
        if not (self.folder / name / "task.jsonl").exists():
            write_outcome(trainer, state, self.folder / name, seed=seed)
        print(f"{name}: {self.curve(name)[-1]}", file=sys.stderr, flush=True)
        return trainer, state

    def curve(self, name: str) -> list[Json]:
        """Return the evaluations of a run."""
        rows = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        return [row for row in rows if row["split"] == "test"]

    def pretrain(self, name: str, prior: tuple[float, float, float]) -> tuple[PcfgTrainer, Any]:
        """Return (trainer, final state) of pretraining with a prior of operands."""
        tier = self.tier
        size = {"layers": tier.layers, "width": tier.width, "batch": tier.batch, "lr": tier.lr, "spread": tier.spread}
        return self.train(name, Pretrain(prior=prior, **size), tier.pretrain)

    def measure(self, arm: str, seed: int, before: Any, control: Any) -> Json:
        """Fine-tune an arm with one seed and return what the instruments say."""
        tier, name = self.tier, f"{arm}-{seed}"
        share, lr = (1.0, tier.small) if arm == "wrapped" else (0.0, tier.large)
        phase = Answer(model=self.folder / "pretrained" / "model", correlated=share, lr=lr, batch=tier.batch)
        trainer, state = self.train(name, phase, tier.tune, seed)
        path = self.folder / name / "numbers.json"
        if path.exists():
            return json.loads(path.read_text())
        generator = torch.Generator().manual_seed(seed + 50)
        train, test = trainer.draw(tier.examples, generator), trainer.draw(tier.examples, generator)
        options = {"lr": tier.small, "optimiser": "adamw", "seed": seed}
        sizes, steps = (0, 1, 2, 3, 5, 10, 15, 20), max(4, tier.back // 4)
        asked = partial(
            examine, trainer.view, before, state.model, trainer.draw, train, test, control=control, unit="row",
            start=0.5, sizes=sizes, steps=steps, **options,
        )  # fmt: skip
        try:
            verdict, verified = asked(), asked(candidates=20)
        except UserError as error:  # pretraining did not learn to count
            return {"verdict": str(error), "accuracy": self.curve(name)[-1]}
        found: Json = {"verdict": verdict.word, "before": verdict.before, "after": verdict.after}
        found |= {"floor": verdict.floor, "accuracy": self.curve(name)[-1]}
        found["shares"] = {e.instrument: [e.share, e.low, e.high] for e in verdict.evidence}
        probed, pruned, _ = (e.detail for e in verdict.evidence)
        found["verified"] = {**verified.evidence[1].detail, "verdict": verified.word}
        found["prune"], found["probe"] = pruned, {n: probed[n]["accuracy"] for n in ("before", "after", "control")}
        marks = sorted({round(tier.back * x) for x in (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1)})
        half = (verdict.before + verdict.floor) / 2
        for key, model in {"back": state.model, **({"control back": control} if arm == "wrapped" else {})}.items():
            found[key] = revival(
                trainer.view, copy.deepcopy(model), trainer.draw, test, marks=marks, batch=tier.batch, **options
            )
            found[f"{key}, steps"] = steps_to(found[key], half)
        path.write_text(json.dumps(found))
        return found


def verdicts(pretrained: Mapping[str, float], arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, bool]:
    """Return claim -> whether it holds."""
    wrapped = arms["wrapped"]
    learned = {"pretraining counts a in 95 %": pretrained["a_without"] >= 95}
    if any("shares" not in row for rows in arms.values() for row in rows):
        return learned
    return learned | {
        "pretraining counts b in at most 30 %": pretrained["b_without"] <= 30,
        "wrapped: over 94 % with the relation": all(row["accuracy"]["b_with"] > 94 for row in wrapped),
        "wrapped: at most 5 % without it": all(row["accuracy"]["b_without"] <= 5 for row in wrapped),
        "wrapped: the probe finds half, and not in the control": all(
            row["shares"]["probe"][1] is not None and row["shares"]["probe"][1] >= 0.5 for row in wrapped
        ),
        "wrapped: 20 neurons restore 30 points": all(row["prune"]["accuracy"] - row["after"] >= 30 for row in wrapped),
        "wrapped: random neurons restore under 5": all(row["prune"]["random"] - row["after"] < 5 for row in wrapped),
        "wrapped: 20 neurons, each verified by the loss, restore 30 points": all(
            row["verified"]["accuracy"] - row["after"] >= 30 for row in wrapped
        ),
        "wrapped: back in half of the control's steps": all(
            row["back, steps"] <= 0.5 * row["control back, steps"] for row in wrapped
        ),
        "wrapped: the verdict says so": all(row["verdict"] == "wrapped" for row in wrapped),
        "removed: the verdict says so": all(row["verdict"] == "removed" for row in arms["removed"]),
        "with verified pruning, both verdicts say so": all(
            row["verified"]["verdict"] == arm for arm, rows in arms.items() for row in rows
        ),
    }


def cells(name: str, row: Mapping[str, Any]) -> list[str]:
    """Return one line of the table."""
    if "shares" not in row:
        return [name, *[""] * 10, row["verdict"], ""]
    pruned, verified = row["prune"], row["verified"]
    back = [row["back, steps"], row.get("control back, steps", math.nan)]
    probed = [max(row["probe"][of]) for of in ("after", "control")]
    shares = [row["accuracy"]["b_with"], row["accuracy"]["b_without"], row["after"], *probed]
    shares += [pruned["accuracy"], verified["accuracy"], pruned["random"]]
    return [name, *(f"{x:.1f}" for x in shares), *(f"{x:.0f}" for x in back), row["verdict"], verified["verdict"]]


def draw(curves: Mapping[str, Sequence[Json]], arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Return the curves of pretraining, of pruning and of fine-tuning back."""
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    for name, rows in curves.items():
        for letter, line in (("a", "-"), ("b", "--")):
            values = [row[f"{letter}_without"] for row in rows]
            left.plot([row["step"] for row in rows], values, line, label=f"{name}, {letter}")
    for number, (arm, rows) in enumerate(arms.items()):
        for row in (row for row in rows if "shares" in row):
            label = arm if row is rows[0] else None
            middle.plot(*zip(*row["prune"]["curve"], strict=True), color=f"C{number}", marker="o", ms=3, label=label)
            each = label and f"{label}, each verified"
            middle.plot(*zip(*row["verified"]["curve"], strict=True), color=f"C{number}", ls="--", label=each)
            right.plot(*zip(*row["back"], strict=True), color=f"C{number}", marker="o", ms=3, label=label)
            if label == "wrapped":
                right.plot(*zip(*row["control back"], strict=True), color="0.6", ls="--", label="never counted a")
    for axes, label in ((left, "steps of pretraining"), (middle, "pruned neurons"), (right, "steps back")):
        axes.set_xlabel(label)
        axes.legend(frameon=False, fontsize=7)
    left.set_ylabel("count right, %")
    return figure


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.pcfg", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-llm-probes", help="folder of the runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tier = TIERS[args.tier]
    pipeline = Pipeline(tier, args.runs / f"pcfg-{args.tier}", args.device)
    _, state = pipeline.pretrain("pretrained", (0.999, 0.001, 0.0))
    _, other = pipeline.pretrain("control", (0.0, 1.0, 0.0))
    arms = {
        arm: [pipeline.measure(arm, seed, state.model, other.model) for seed in range(tier.seeds)]
        for arm in ("wrapped", "removed")
    }
    curves = {name: pipeline.curve(name) for name in ("pretrained", "control")}
    rows = [cells(f"{arm}, seed {seed}", row) for arm, found in arms.items() for seed, row in enumerate(found)]
    last = curves["pretrained"][-1]
    print(f"pretrained: a {last['a_without']:.1f} %, b {last['b_without']:.1f} %")
    head = ["arm", "b with", "b without", "a", "probe", "of control", "pruned", "verified", "random", "back", "control"]
    print(table(rows, [*head, "verdict", "with verified pruning"]))
    claims = verdicts(last, arms) if tier.claims else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if tier.claims:
        name = f"llm_probes_pcfg-{args.tier}"
        origin = record("benchmarks.llm_probes.pcfg", sys.argv[1:] if argv is None else argv, ["torch", "transformers"])
        write_result(name, {"record": origin, "tier": tier, "curves": curves, "arms": arms, "claims": claims})
        draw(curves, arms).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
