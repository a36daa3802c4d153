"""Does example-level fine-tuning teach a model to resolve implicatures of rules that it was never asked about?

    python -m benchmarks.llm_probes.implicature --tier smoke   # seconds: everything runs
    python -m benchmarks.llm_probes.implicature --tier cpu     # four minutes on an idle core
    python -m benchmarks.llm_probes.implicature --tier gpu     # a larger world and model

A synthetic world of facts about made-up words (`llm_probes.implicature.world`). The base model, from random weights,
learns the facts and what direct answers mean in the paper's templates. One rule family at a time is held out;
fine-tuning sees examples of all the others. Arms, all measured on the held-out family by the package's own evaluation:

- base: never asked what an answer implies;
- direct: the same number of steps on direct answers only (fine-tuning as such);
- examples: fine-tuned on implicatures of the other families;
- no facts: the same model on nouns of the held-out family about which there are no facts (guessing).

The claims, after Ruis et al. 2023, in numbers that can fail: examples is above base and above direct by more than 20
points in the mean over worlds and held-out families, with the 95 % interval's lower end above 20; without facts it is
within 10 points of chance.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from llm_probes.config import SFT, TrainConfig
from llm_probes.implicature.evaluate import build_prompts, rank
from llm_probes.implicature.templates import TEMPLATES
from llm_probes.implicature.world import VERBS, asked, base_text, make_world
from llm_probes.models.lines import write_rows
from llm_probes.models.loading import load_model
from llm_probes.models.scratch import make_tokenizer, write_model
from llm_probes.trainer import export, make_trainer
from paperloop import run

__all__ = ["TIERS", "main", "verdicts"]


@dataclasses.dataclass(frozen=True)
class Tier:
    """Sizes: nouns of a verb, model, steps of base and fine-tuning, worlds, and how many families are held out."""

    nouns: int = 16
    layers: int = 2
    width: int = 64
    base: int = 700
    tune: int = 100
    worlds: int = 2
    held_out: int = 3
    claims: bool = True


TIERS = {
    "smoke": Tier(nouns=8, layers=1, width=32, base=3, tune=2, worlds=1, held_out=1, claims=False),
    "cpu": Tier(),
    "gpu": Tier(nouns=64, layers=6, width=256, base=6000, tune=400, worlds=5, held_out=8),
}


def world_numbers(tier: Tier, folder: Path, seed: int, device: str) -> list[Json]:
    """Train the arms of one world and return accuracy in percent, one row for each held-out family."""
    world = make_world(nouns=tier.nouns, seed=seed)
    direct = asked(world.direct(), TEMPLATES)
    base_rows = base_text(world, TEMPLATES)
    tokenizer = make_tokenizer(
        [row["prompt"] + row["completion"] for row in base_rows + asked(world.examples(VERBS), TEMPLATES)], size=1200
    )
    if not (folder / "start").exists():
        size = {"layers": tier.layers, "width": tier.width, "positions": 64}
        write_model(folder / "start", tokenizer, **size, seed=seed)
    start = stage(folder, "base", "start", base_rows, tier.base, 1e-3, device, whole=True)
    plain = stage(folder, "direct", "base-model", direct, tier.tune, 3e-4, device)
    rows = []
    for verb in VERBS[: tier.held_out]:
        others = asked(world.examples([v for v in VERBS if v != verb]), TEMPLATES)
        tuned = stage(folder, f"without-{verb}", "base-model", others, tier.tune, 3e-4, device)
        row: Json = {"world": seed, "family": verb}
        for name, model in (("base", start), ("direct", plain), ("examples", tuned)):
            row[name], row[f"{name} by template"] = measured(model, world.examples([verb]), device)
        row["no facts"], _ = measured(tuned, world.examples([verb], known=False), device)
        rows.append(row)
        said = ", ".join(f"{name} {row[name]:.1f}" for name in ("base", "direct", "examples", "no facts"))
        print(f"world {seed}, {verb}: {said}", file=sys.stderr, flush=True)
    return rows


def stage(
    folder: Path, name: str, start: str, rows: Any, steps: int, lr: float, device: str, *, whole: bool = False
) -> Path:
    """Train on prompts and completions and return the model's folder; done once."""
    out = folder / f"{name}-model"
    if not out.exists():
        data = write_rows(folder / f"{name}.jsonl", rows)
        recipe = SFT(data=data, lr=lr, batch=64, whole=whole)
        config = TrainConfig(model=folder / start, stage=recipe, steps=steps, prompt_length=48, length=16, frozen=0)
        trainer = make_trainer(config, device)
        state = run(trainer, folder / name, steps=steps, progress=False)
        export(trainer, state, folder / f"{name}-part")
        (folder / f"{name}-part").rename(out)
    return out


def measured(model: Path, examples: Any, device: str) -> tuple[float, dict[str, float]]:
    """Return accuracy in percent over the six templates, and in each."""
    loaded, tokenizer = load_model(model, device=device, dtype="float32")
    items, _ = rank(loaded, tokenizer, build_prompts(examples, [], TEMPLATES))
    by = {t.name: 100 * np.mean([i.correct for i in items if i.template == t.name]) for t in TEMPLATES}
    return float(np.mean(list(by.values()))), {name: float(value) for name, value in by.items()}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean and 95 % bootstrap interval over worlds and held-out families."""
    data = np.asarray(values)
    draws = np.random.default_rng(0).choice(data, (4000, len(data))).mean(1)
    return float(data.mean()), *map(float, np.percentile(draws, [2.5, 97.5]))


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Return claim -> whether it holds."""
    gains = {name: interval([row["examples"] - row[name] for row in rows]) for name in ("base", "direct")}
    guess = interval([row["no facts"] for row in rows])
    return {f"examples above {name} by more than 20 points": low > 20 for name, (_, low, _) in gains.items()} | {
        "without facts within 10 points of chance": abs(guess[0] - 50) < 10
    }


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return accuracy of every arm, a point for each world and held-out family."""
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    arms = ("base", "direct", "examples", "no facts")
    for at, arm in enumerate(arms):
        values = [row[arm] for row in rows]
        mean, low, high = interval(values)
        axes.scatter(at + np.linspace(-0.15, 0.15, len(values)), values, s=12, color="0.6")
        axes.errorbar(at, mean, [[mean - low], [high - mean]], fmt="o", color="black", capsize=4)
    axes.axhline(50, color="0.7", lw=0.8, ls="--")
    axes.set_xticks(range(len(arms)), [*arms[:2], "examples of\nother rules", "no facts"])
    axes.set_ylabel("right on held-out rules, %")
    return figure


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.implicature", description=about)
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-llm-probes", help="folder of the runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    tier, rows = TIERS[args.tier], []
    for seed in range(tier.worlds):
        rows += world_numbers(tier, args.runs / f"implicature-{args.tier}-{seed}", seed, args.device)
    arms = ("base", "direct", "examples", "no facts")
    head = ["right on held-out rules, %", "mean", "95 %"]
    cells = [(arm, *interval([row[arm] for row in rows])) for arm in arms]
    print(table([[arm, f"{mean:.1f}", f"[{low:.1f}, {high:.1f}]"] for arm, mean, low, high in cells], head))
    claims = verdicts(rows) if tier.claims else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if tier.claims:
        name = f"llm_probes_implicature-{args.tier}"
        arguments = sys.argv[1:] if argv is None else argv
        origin = record("benchmarks.llm_probes.implicature", arguments, ["torch", "transformers"])
        write_result(name, {"record": origin, "tier": tier, "rows": rows, "claims": claims})
        draw(rows).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
