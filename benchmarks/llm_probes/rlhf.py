"""What does RLHF cost in diversity, and does it generalise? Docstring TL;DR, three tiers.

    python -m benchmarks.llm_probes.rlhf --tier smoke   # a minute: everything runs
    python -m benchmarks.llm_probes.rlhf --tier cpu     # minutes on two idle cores, from random weights
    python -m benchmarks.llm_probes.rlhf --tier gpu     # 16 million parameters, the paper's K = 16 and N = 500

Body of a docstring in, its first sentence out. A model from scratch is trained on everything, then on the sentences
(SFT); its samples, ranked by the gold scorer with label noise, train the reward model; PPO and best-of-N follow that.
The gold scorer is a program and a proxy of the paper's judge; training never sees it but through the noisy labels.
Trained on numpy and scipy (gpu: torch too), tested there and, out of distribution, on Python's own library.

The claims, after Kirk et al. 2024, in numbers that can fail:

- the reward model is right on more than 60 % of fresh pairs, in distribution;
- PPO (every seed) and best-of-N have a higher gold score than SFT, by more than 2 standard errors;
- diversity per input is lower for PPO than for SFT, by more than 3 standard errors (every seed);
- the drop across inputs is smaller than the drop per input;
- ten times the weight of the KL penalty gives a smaller KL.

Control: PPO on a reward model whose labels were random. Stopped at any moment, the same command continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.harness import ROOT, Json, figure_path, record, table, write_result
from llm_probes.config import PPO, SFT, Reward, TrainConfig
from llm_probes.diversity.embedders import load_embedder
from llm_probes.diversity.measure import measure
from llm_probes.models.lines import write_rows
from llm_probes.models.loading import load_model
from llm_probes.models.scratch import write_model
from llm_probes.rlhf.compare import respond, win_rate
from llm_probes.rlhf.docstrings import Gold, Pair, Task, collect, make_task
from llm_probes.rlhf.objectives import best_of_n_kl
from llm_probes.rlhf.sampling import best_of
from llm_probes.trainer import export, load_reward_model, make_trainer
from paperloop import run

__all__ = ["TIERS", "Tier", "main", "verdicts"]


@dataclasses.dataclass(frozen=True)
class Tier:
    """Sizes of one run.

    Attributes:
        libraries: trained on.
        far: out of distribution.
        vocabulary: tokens.
        layers: of the model.
        width: of the model.
        prompt: tokens of a prompt.
        length: tokens of a response.
        pretrain: steps on prompts and summaries, from random weights.
        sft: steps on the summaries.
        reward: steps of the reward model.
        ppo: steps of PPO.
        batch: texts of an update of SFT and responses of a step of PPO; the reward model takes half as many pairs.
        pairs: preferences.
        inputs: test prompts in and out of distribution.
        seeds: of PPO.
        pool: responses of SFT to each test prompt, from which best-of-N is drawn.
        lr: peak rates of pretraining, SFT, reward model and PPO.
        claims: whether the result is judged.
    """

    libraries: tuple[str, ...] = ("numpy", "scipy")
    far: tuple[str, ...] = ("stdlib",)
    vocabulary: int = 800
    layers: int = 2
    width: int = 64
    prompt: int = 32
    length: int = 16
    pretrain: int = 400
    sft: int = 50
    reward: int = 120
    ppo: int = 40
    batch: int = 32
    pairs: int = 1500
    inputs: int = 64
    seeds: int = 2
    pool: int = 32
    lr: tuple[float, float, float, float] = (3e-3, 5e-4, 1e-3, 5e-4)
    claims: bool = True


K, N, NOISE = 16, 16, 0.15
TIERS = {
    "smoke": Tier(
        libraries=("numpy",), far=("asyncio", "email", "logging", "unittest"), vocabulary=600, layers=2, width=32,
        pretrain=4, sft=2, reward=4, ppo=2, batch=8, pairs=24, inputs=8, seeds=1, pool=K, claims=False,
    ),
    "cpu": Tier(),
    "gpu": Tier(
        libraries=("numpy", "scipy", "torch"), vocabulary=4096, layers=8, width=384, prompt=200, length=32,
        batch=64, pretrain=20_000, sft=1000, reward=1000, ppo=500, pairs=6000, inputs=500, pool=64,
        lr=(1e-3, 1e-4, 1e-4, 3e-5), seeds=3,
    ),
}  # fmt: skip


class Pipeline:
    """The stages of one tier in one folder; what is there already is not done again."""

    def __init__(self, tier: Tier, folder: Path, device: str):
        self.tier, self.folder, self.device = tier, folder, device
        self.folder.mkdir(parents=True, exist_ok=True)
        pairs = [self.pairs(name, libraries) for name, libraries in (("near", tier.libraries), ("far", tier.far))]
        self.task: Task = make_task(*pairs, vocabulary=tier.vocabulary, length=tier.prompt, held_out=tier.inputs)
        self.prompts = {name: [p for p, _ in getattr(self.task, name)] for name in ("test", "far")}

    def pairs(self, name: str, libraries: Sequence[str]) -> list[Pair]:
        """Return the docstrings of libraries, read once."""
        path = self.folder / f"{name}.jsonl"
        if not path.exists():
            write_rows(path, [dataclasses.asdict(pair) for pair in collect(libraries)])
        return [Pair(**json.loads(line)) for line in path.read_text().splitlines()]

    def file(self, name: str, rows: Sequence[Mapping[str, str]]) -> Path:
        """Write JSON lines once."""
        path = self.folder / f"{name}.jsonl"
        return path if path.exists() else write_rows(path, rows)

    def stage(self, name: str, start: str, stage: Any, steps: int, seed: int = 0, evaluator: Any = None) -> Path:
        """Train a stage and export its model; returns the model's folder."""
        tier, out = self.tier, self.folder / f"{name}-model"
        if out.exists():
            return out
        config = TrainConfig(
            model=self.folder / start, stage=stage, steps=steps, prompt_length=tier.prompt, length=tier.length, frozen=0
        )
        began = time.monotonic()
        trainer = make_trainer(config, self.device)
        evaluators = {"curve": evaluator} if evaluator else {}
        state = run(
            trainer, self.folder / name, steps=steps, seed=seed, evaluators=evaluators, progress=False,
            eval_every=max(1, steps // 5), save_minutes=2,
        )  # fmt: skip
        part = self.folder / f"{name}-{time.time_ns()}"
        export(trainer, state, part)
        part.rename(out)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return out

    def train(self) -> dict[str, Path]:
        """Train everything and return policy -> model folder."""
        tier, task = self.tier, self.task
        if not (self.folder / "start").exists():
            size = {"layers": tier.layers, "width": tier.width, "positions": tier.prompt + tier.length}
            write_model(self.folder / "start", task.tokenizer, **size)
        demonstrations = self.file("demonstrations", [{"prompt": p, "completion": s} for p, s in task.train])
        lr, half = tier.lr, tier.batch // 2
        self.stage("base", "start", SFT(data=demonstrations, lr=lr[0], batch=tier.batch, whole=True), tier.pretrain)
        sft = self.stage("sft", "base-model", SFT(data=demonstrations, lr=lr[1], batch=tier.batch), tier.sft)
        preferences = self.preferences(sft)
        models = {"sft": sft}
        for labels, path in preferences.items():
            name = "reward" if labels == "gold" else "reward-random"
            models[name] = self.stage(name, "sft-model", Reward(data=path, lr=lr[2], batch=half), tier.reward)
        prompts = self.file("prompts", [{"prompt": p} for p, _ in task.train])
        curve = Curve(self, models["reward"])
        arms = [(f"ppo-{seed}", "reward", 0.05, seed) for seed in range(tier.seeds)]
        arms += [("ppo-strong-penalty", "reward", 0.5, 0), ("ppo-random-labels", "reward-random", 0.05, 0)]
        for name, judge, beta, seed in arms:
            stage = PPO(
                data=prompts, reward=models[judge], lr=lr[3], batch=tier.batch, minibatch=max(1, half), epochs=2,
                beta=beta, estimator="k1",
            )  # fmt: skip
            models[name] = self.stage(name, "sft-model", stage, tier.ppo, seed, curve)
        return models

    def preferences(self, sft: Path) -> dict[str, Path]:
        """Return pairs of samples with noisy gold labels, and the same pairs with random ones."""
        paths = {name: self.folder / f"preferences-{name}.jsonl" for name in ("gold", "random")}
        if all(path.exists() for path in paths.values()):
            return paths
        policy, tokenizer = load_model(sft, device=self.device)
        prompts = [p for p, _ in self.task.train[: self.tier.pairs]]
        texts = respond(policy, tokenizer, prompts, outputs=2, length=self.tier.length, seed=1).texts
        generator = np.random.default_rng(2)
        for name in paths:
            rows = []
            for prompt, (a, b) in zip(prompts, texts, strict=True):
                better = self.task.gold(prompt, a) > self.task.gold(prompt, b)
                flip = generator.random() < (NOISE if name == "gold" else 0.5)
                chosen, rejected = (a, b) if better != flip else (b, a)
                if a != b:
                    rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
            self.file(paths[name].stem, rows)
        return paths


class Curve:
    """Gold score, reward, KL and diversity of PPO as it trains, on the axis of the figure."""

    def __init__(self, pipeline: Pipeline, reward: Path, prompts: int = 64, outputs: int = 4):
        self.pipeline, self.outputs = pipeline, outputs
        self.prompts = pipeline.prompts["test"][:prompts]
        self.reference, self.tokenizer = load_model(pipeline.folder / "sft-model", device=pipeline.device)
        self.judge = load_reward_model(reward, pipeline.device)[:2]

    def __call__(self, state: Any, seed: int) -> Json:
        """Return the four numbers."""
        drawn = respond(
            state.model, self.tokenizer, self.prompts, outputs=self.outputs, length=self.pipeline.tier.length,
            reference=self.reference, judge=self.judge, seed=seed,
        )  # fmt: skip
        return numbers_of(self.pipeline.task.gold, self.prompts, drawn.texts, drawn.scores, float(drawn.kl.mean()))


def numbers_of(gold: Gold, prompts: Sequence[str], texts: Sequence[Sequence[str]], scores: Any, kl: float) -> Json:
    """Return gold score, reward model's score, KL and diversity per input."""
    values = [np.mean([gold(p, t) for t in row]) for p, row in zip(prompts, texts, strict=True)]
    diversity = measure(texts)["metrics"]["ead"]["per_input"]["mean"] if len(texts[0]) > 1 else float("nan")
    return {"gold": float(np.mean(values)), "reward": float(np.mean(scores)), "kl": kl, "ead": diversity}


def evaluate(pipeline: Pipeline, models: Mapping[str, Path]) -> dict[str, Any]:
    """Return policy -> split -> measurements, with best-of-N drawn from the pool of SFT."""
    tier, device = pipeline.tier, pipeline.device
    reference, tokenizer = load_model(models["sft"], device=device)
    judge = load_reward_model(models["reward"], device)[:2]
    embed = load_embedder(str(pipeline.folder / "base-model"), device=device)
    found: dict[str, Any] = {}
    for split, prompts in pipeline.prompts.items():
        references = [s for _, s in getattr(pipeline.task, split)]
        for name in ["sft", *(n for n in models if n.startswith("ppo"))]:
            policy = load_model(models[name], device=device)[0]
            drawn = respond(
                policy, tokenizer, prompts, outputs=tier.pool if name == "sft" else K, length=tier.length,
                reference=reference, judge=judge, seed=3,
            )  # fmt: skip
            kl = float(drawn.kl.mean())
            if name == "sft":
                scores = torch.tensor(drawn.scores)
                found.setdefault("reward model", {})[split] = reward_accuracy(pipeline, prompts, drawn)
                winners = best_of(scores, n=N, draws=K, generator=torch.Generator().manual_seed(4)).numpy()
                texts = [[row[i] for i in picks] for row, picks in zip(drawn.texts, winners, strict=True)]
                best = np.take_along_axis(drawn.scores, winners, 1)
                found.setdefault("best-of-16", {})[split] = describe(
                    pipeline, prompts, references, texts, best, best_of_n_kl(N), embed
                )
                if split == "test":
                    found["best-of-N"] = sweep(pipeline, prompts, drawn)
            texts = [row[:K] for row in drawn.texts]
            found.setdefault(name, {})[split] = describe(
                pipeline, prompts, references, texts, drawn.scores[:, :K], kl, embed
            )
            print(f"{name} {split}: gold {found[name][split]['gold']:.3f}", file=sys.stderr, flush=True)
    return found


def reward_accuracy(pipeline: Pipeline, prompts: Sequence[str], drawn: Any) -> Json:
    """Return how often the reward model ranks two fresh responses as the gold scorer does, and their correlation."""
    golds = np.array([[pipeline.task.gold(p, t) for t in row] for p, row in zip(prompts, drawn.texts, strict=True)])
    half = golds.shape[1] // 2
    a, b = (x[:, :half] - x[:, half : 2 * half] for x in (golds, drawn.scores))
    right = ((a > 0) == (b > 0))[a != 0]
    per_prompt = [np.mean(((x > 0) == (y > 0))[x != 0]) for x, y in zip(a, b, strict=True) if (x != 0).any()]
    ranks = [np.corrcoef(_ranks(g), _ranks(s))[0, 1] for g, s in zip(golds, drawn.scores, strict=True) if g.std() > 0]
    return {
        "accuracy": float(right.mean()),
        "error": float(np.std(per_prompt, ddof=1) / np.sqrt(len(per_prompt))),
        "rank_correlation": float(np.nanmean(ranks)),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(float)


def sweep(pipeline: Pipeline, prompts: Sequence[str], drawn: Any) -> list[Json]:
    """Return the four numbers of best-of-N for rising N, with the bound log N - (N - 1) / N as the KL."""
    rows, scores = [], torch.tensor(drawn.scores)
    for n in (1, 2, 4, 8, 16, 32):
        if n > scores.shape[1]:
            break
        picks = best_of(scores, n=n, draws=4, generator=torch.Generator().manual_seed(5)).numpy()
        texts = [[row[i] for i in pick] for row, pick in zip(drawn.texts, picks, strict=True)]
        best = np.take_along_axis(drawn.scores, picks, 1)
        rows.append({"n": n} | numbers_of(pipeline.task.gold, prompts, texts, best, best_of_n_kl(n)))
    return rows


def describe(pipeline: Pipeline, prompts: Any, references: Any, texts: Any, scores: Any, kl: float, embed: Any) -> Json:
    """Return all measurements of one policy on one split, with standard errors over prompts."""
    gold = pipeline.task.gold
    values = np.array([np.mean([gold(p, t) for t in row]) for p, row in zip(prompts, texts, strict=True)])

    def judge(prompt: str, first: str, second: str) -> float:
        difference = gold(prompt, first) - gold(prompt, second)
        return 0.5 if difference == 0 else float(difference > 0)

    wins = win_rate(judge, prompts, [row[0] for row in texts], references, seed=6)
    diversity = measure(texts, embed=embed)
    return {
        "gold": float(values.mean()),
        "gold_error": float(values.std(ddof=1) / np.sqrt(len(values))),
        "gold_of": values,
        "reward": float(np.mean(scores)),
        "kl": kl,
        "win_rate": dataclasses.asdict(wins),
        "diversity": {n: diversity["metrics"][n] for n in ("ead", "distinct", "cosine", "vendi")},
        "words": diversity["words"],
        "example": {"prompt": prompts[0], "response": texts[0][0], "reference": references[0]},
    }


def verdicts(found: Mapping[str, Any]) -> dict[str, bool]:
    """Return claim -> whether it holds; claims on PPO must hold for every seed."""
    sft, best = found["sft"]["test"], found["best-of-16"]["test"]
    seeds = [value["test"] for name, value in found.items() if name.startswith("ppo-") and name[4:].isdigit()]
    strong = found["ppo-strong-penalty"]["test"]

    def above(one: Json) -> bool:
        difference = np.subtract(one["gold_of"], sft["gold_of"])  # the same prompts
        return bool(difference.mean() > 2 * difference.std(ddof=1) / np.sqrt(len(difference)))

    def drop(one: Json, metric: str, kind: str) -> float:
        key = "mean" if kind == "per_input" else "first"
        before, after = (x["diversity"][metric][kind][key] for x in (sft, one))
        return (before - after) / before

    def narrower(one: Json, metric: str) -> bool:
        a, b = (x["diversity"][metric]["per_input"] for x in (sft, one))
        error = np.sqrt(a["std"] ** 2 / a["inputs"] + b["std"] ** 2 / b["inputs"])
        return bool(a["mean"] - b["mean"] > 3 * error)

    claims = {
        "the reward model is right on more than 60 %": found["reward model"]["test"]["accuracy"] > 0.6,
        "PPO above SFT in gold by 2 standard errors": all(map(above, seeds)),
        "best-of-16 above SFT in gold by 2 standard errors": above(best),
        "the stronger penalty has the smaller KL": strong["kl"] < min(one["kl"] for one in seeds),
        "PPO above its control with random labels": all(
            one["gold"] > found["ppo-random-labels"]["test"]["gold"] + 2 * one["gold_error"] for one in seeds
        ),
    }
    for metric in ("ead", "cosine"):
        claims[f"{metric} per input below SFT by 3 standard errors"] = all(narrower(one, metric) for one in seeds)
        claims[f"{metric} drops less across inputs than per input"] = all(
            drop(one, metric, "across_input") < drop(one, metric, "per_input") for one in seeds
        )
    return claims


def draw(found: Mapping[str, Any], curves: Mapping[str, Sequence[Json]]) -> Figure:
    """Return gold score, reward and diversity over the root of the KL, for PPO as it trains and best-of-N."""
    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    names = {"gold": "gold score", "reward": "reward model's score", "ead": "EAD of outputs to one input"}
    for axes, (name, title) in zip(figure.subplots(1, 3), names.items(), strict=True):
        for arm, rows in {**curves, "best-of-N": found["best-of-N"]}.items():
            at = [max(0.0, row["kl"]) ** 0.5 for row in rows]
            style = {"color": "black", "marker": "s"} if arm == "best-of-N" else {"marker": "o"}
            axes.plot(at, [row[name] for row in rows], label=arm, ms=3, lw=1, **style)
        axes.set_xlabel("square root of the KL to SFT")
        axes.set_title(title, fontsize=10)
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


def curve_of(folder: Path) -> list[Json]:
    """Return the evaluations of a run of PPO."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == "curve"]


def main(argv: list[str] | None = None) -> int:
    """Run a tier; 0 if its claims hold, or if it has none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.rlhf", description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=list(TIERS), default="cpu")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-llm-probes", help="folder of the runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    pipeline = Pipeline(TIERS[args.tier], args.runs / f"rlhf-{args.tier}", args.device)
    models = pipeline.train()
    found = evaluate(pipeline, models)
    curves = {name: curve_of(pipeline.folder / name) for name in models if name.startswith("ppo")}
    rows = [
        [name, *(f"{value[s]['gold']:.3f} ± {value[s]['gold_error']:.3f}" for s in ("test", "far")),
         *(f"{100 * value[s]['win_rate']['rate']:.0f}" for s in ("test", "far")),
         f"{value['test']['kl']:.2f}", *(f"{value['test']['diversity'][m]['per_input']['mean']:.3f}" for m in
         ("ead", "cosine")), f"{value['test']['diversity']['ead']['across_input']['first']:.3f}"]
        for name, value in found.items() if name not in ("reward model", "best-of-N")
    ]  # fmt: skip
    head = ["policy", "gold", "gold, OOD", "wins %", "OOD", "KL", "EAD/input", "cosine/input", "EAD across"]
    print(table(rows, head))
    for split, value in found["reward model"].items():
        print(f"reward model, {split}: {100 * value['accuracy']:.1f} % ± {100 * value['error']:.1f}, "
              f"rank correlation with gold {value['rank_correlation']:.2f}")  # fmt: skip
    claims = verdicts(found) if pipeline.tier.claims else {}
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    if pipeline.tier.claims:
        name = f"llm_probes_rlhf-{args.tier}"
        origin = record("benchmarks.llm_probes.rlhf", sys.argv[1:] if argv is None else argv, ["torch", "transformers"])
        result = {"record": origin, "tier": pipeline.tier, "policies": found, "curves": curves, "claims": claims}
        write_result(name, result)
        draw(found, curves).savefig(figure_path(name), dpi=150)
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
