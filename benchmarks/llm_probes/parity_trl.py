"""Do reward models, policies and responses per second agree with TRL's? The same start, data and settings.

    python -m benchmarks.llm_probes.parity_trl --part reward   # minutes; needs `pip install 'llm-probes[trl]'`
    python -m benchmarks.llm_probes.parity_trl --part policy [--even]

Reward model: TRL's RewardTrainer and ours from one SFT model on one file of preferences; accuracy on the same held-out
pairs. Policy: TRL's RLOOTrainer, the same algorithm put together from this package's functions (sampling,
log-probabilities, KL, clipped loss), and this package's PPO, from one SFT model with one reward model, on the same
prompts and as many responses; reward and gold score of fresh responses to fresh prompts, over seeds. TRL 1.16 gives a
model no position numbers in training, so that a prompt padded at the left stands at other positions of a GPT-2 than it
was sampled at; with `--even` all prompts have one length and nothing is padded. Speed: responses
per second of PPO (policy, value, reward model, two epochs) and of RLOO by TRL (two iterations, the same reward model as
a callable), in turn. SFT and reward model are those of `benchmarks.llm_probes.rlhf`, which must have been run. Without
TRL nothing is compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import ROOT, InProcess, Json, alternate, record, write_result
from benchmarks.llm_probes.rlhf import TIERS, Pipeline
from llm_probes.config import PPO, Reward, TrainConfig
from llm_probes.models.lines import read_rows, write_rows
from llm_probes.models.loading import load_model
from llm_probes.rlhf.compare import respond
from llm_probes.rlhf.data import encode_responses
from llm_probes.rlhf.model import ScoreHead, frozen_copy, policy_and_values, reward_scores
from llm_probes.rlhf.objectives import clipped_surrogate, kl_estimate
from llm_probes.rlhf.sampling import pad_left, response_log_probs, sample
from llm_probes.rlhf.with_trl import PLAIN, rloo
from llm_probes.trainer import load_reward_model, make_trainer

__all__ = ["main"]

LENGTH, PROMPT, BATCH, GROUP = 16, 32, 32, 4


def own_reward(folder: Path, data: Path, steps: int, seed: int) -> float:
    """Return the accuracy of our reward model on its held-out pairs, in percent."""
    stage = Reward(data=data, lr=1e-3, batch=16)
    config = TrainConfig(model=folder, stage=stage, steps=steps, prompt_length=PROMPT, length=LENGTH, frozen=0)
    trainer = make_trainer(config)
    state = trainer.init(seed)
    for _ in range(steps):
        state, _ = trainer.step(state)
    scores = trainer.held_out_scores(state)
    return 100 * float((scores[:, 0] > scores[:, 1]).float().mean())


def trl_reward(folder: Path, data: Path, steps: int, seed: int) -> float:
    """Return the same of TRL's RewardTrainer."""
    import datasets  # ty: ignore[import-not-found]
    import trl  # ty: ignore[import-not-found]
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rows = read_rows(data, ("prompt", "chosen", "rejected"))
    cut = round(0.1 * len(rows))
    texts = [{name: row["prompt"] + row[name] for name in ("chosen", "rejected")} for row in rows]
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    torch.nn.init.zeros_(model.score.weight)
    with tempfile.TemporaryDirectory() as out:
        settings = trl.RewardConfig(
            output_dir=out, max_steps=steps, learning_rate=1e-3, per_device_train_batch_size=16, seed=seed,
            per_device_eval_batch_size=32, save_strategy="no", use_cpu=True, max_length=PROMPT + LENGTH, **PLAIN,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(folder)
        train, test = (datasets.Dataset.from_list(part) for part in (texts[cut:], texts[:cut]))
        trainer = trl.RewardTrainer(model=model, args=settings, train_dataset=train, eval_dataset=test,
                                    processing_class=tokenizer)  # fmt: skip
        trainer.train()
        return 100 * trainer.evaluate()["eval_accuracy"]


def reward_of(reward: Path) -> Any:
    """Return the function (prompts, texts) -> scores of an exported reward model."""
    model, head, tokenizer = load_reward_model(reward)

    @torch.no_grad()
    def score(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        batch = encode_responses(tokenizer, encoded, texts, length=LENGTH, end=0, pad=1)
        return reward_scores(model, head, batch).tolist()

    return score


def own_rloo(folder: Path, reward: Path, prompts: Sequence[str], steps: int, seed: int, lr: float, beta: float) -> Any:
    """Return a policy trained by REINFORCE leave-one-out with this package's functions and TRL's settings."""
    model, tokenizer = load_model(folder, kind="causal", dtype="float32")
    reference, score, head = frozen_copy(model), reward_of(reward), ScoreHead(model.config.n_embd)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    for step in range(steps):
        chosen = torch.randperm(len(prompts), generator=generator)[: BATCH // GROUP].repeat_interleave(GROUP).tolist()
        batch = sample(
            model, *pad_left([encoded[i] for i in chosen], 1), length=LENGTH, end=0, pad=1, generator=generator
        )
        with torch.no_grad():
            old, base = (response_log_probs(policy_and_values(m, head, batch)[0], batch) for m in (model, reference))
        texts = [tokenizer.decode([t for t in row if t > 1]) for row in batch.responses.tolist()]
        kl = kl_estimate(old, base, estimator="k1").sum(1)
        values = (torch.tensor(score([prompts[i] for i in chosen], texts)) - beta * kl).view(-1, GROUP)
        advantages = (values - (values.sum(1, keepdim=True) - values) / (GROUP - 1)).view(-1, 1)
        new = response_log_probs(policy_and_values(model, head, batch)[0], batch).sum(1, keepdim=True)
        loss = clipped_surrogate(new, old.sum(1, keepdim=True), advantages, torch.ones_like(new), clip=0.2)
        for group in optimiser.param_groups:
            group["lr"] = lr * (1 - step / steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model


def policy_of(name: str, sft: Path, reward: Path, data: Path, steps: int, seed: int, lr: float, beta: float) -> Any:
    """Return the policy of one contestant: `steps` steps of `BATCH` responses."""
    if name == "RLOO":
        prompts = [row["prompt"] for row in read_rows(data, ("prompt",))]
        return own_rloo(sft, reward, prompts, steps, seed, lr, beta)
    if name == "PPO":
        stage = PPO(data=data, reward=reward, lr=lr, batch=BATCH, minibatch=BATCH, epochs=1, beta=beta, estimator="k1")
        config = TrainConfig(model=sft, stage=stage, steps=steps, prompt_length=PROMPT, length=LENGTH, frozen=0)
        trainer = make_trainer(config)
        state = trainer.init(seed)
        for _ in range(steps):
            state, _ = trainer.step(state)
        return state.model
    with tempfile.TemporaryDirectory() as out:
        options = {"batch": BATCH, "generations": GROUP, "length": LENGTH, "lr": lr, "beta": beta, "seed": seed}
        rloo(sft, data, reward_of(reward), out, steps=steps, use_cpu=True, weight_decay=0.0, **options)  # ty: ignore
        return load_model(out, kind="causal", dtype="float32")[0]


def policies(folder: Path, steps: int, seeds: int, even: bool, lr: float = 5e-4, beta: float = 0.05) -> Json:
    """Return reward and gold score (in hundredths) of every contestant and seed, on fresh prompts."""
    pipeline = Pipeline(TIERS["cpu"], folder, "cpu")
    sft, reward, data = folder / "sft-model", folder / "reward-model", folder / "prompts.jsonl"
    start, tokenizer = load_model(sft, kind="causal", dtype="float32")
    judge = load_reward_model(reward)[:2]
    prompts = pipeline.prompts["test"]
    if even:
        rows = read_rows(data, ("prompt",))
        lengths = [len(tokenizer(row["prompt"])["input_ids"]) for row in rows]
        common = max(set(lengths), key=lengths.count)
        chosen = [row for row, length in zip(rows, lengths, strict=True) if length == common]
        data = write_rows(folder / "prompts-even.jsonl", chosen)

    def measured(model: Any, seed: int) -> Json:
        drawn = respond(model, tokenizer, prompts, outputs=16, length=LENGTH, reference=start, judge=judge, seed=seed)
        gold = [pipeline.task.gold(p, text) for p, texts in zip(prompts, drawn.texts, strict=True) for text in texts]
        return {"reward": float(drawn.scores.mean()), "gold": 100 * float(np.mean(gold)), "kl": float(drawn.kl.mean())}

    found: Json = {
        "steps": steps,
        "lr": lr,
        "beta": beta,
        "prompts": len(read_rows(data, ("prompt",))),
        "SFT": [measured(start, 99)],
    }
    for seed in range(seeds):
        for name in ("RLOO", "TRL RLOO", "PPO"):
            began = time.process_time()
            row = measured(policy_of(name, sft, reward, data, steps, seed, lr, beta), 99)
            found.setdefault(name, []).append(row | {"cpu_s": time.process_time() - began})
            print(f"{name}, seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    for measure in ("reward", "gold"):
        ours, theirs = (np.array([row[measure] for row in found[name]]) for name in ("RLOO", "TRL RLOO"))
        error = 1.96 * float(np.sqrt(ours.var(ddof=1) / seeds + theirs.var(ddof=1) / seeds)) if seeds > 1 else np.nan
        difference = float(ours.mean() - theirs.mean())
        found[f"{measure} difference"] = [difference, difference - error, difference + error]
    return found


def own_ppo(folder: Path, reward: Path, data: Path, steps: int) -> tuple[Json, Any]:
    """Return a trial of PPO for `alternate`: responses per second."""
    stage = PPO(data=data, reward=reward, lr=1e-4, batch=BATCH, minibatch=BATCH, epochs=2, estimator="k1")
    config = TrainConfig(model=folder, stage=stage, steps=1000, prompt_length=PROMPT, length=LENGTH, frozen=0)
    trainer = make_trainer(config)
    states = [trainer.init(0)]
    trainer.step(states[0])

    def trial() -> Json:
        for _ in range(steps):
            states[0], _ = trainer.step(states[0])
        return {"work": steps * BATCH}

    return {}, trial


def trl_rloo(folder: Path, reward: Path, data: Path, steps: int) -> tuple[Json, Any]:
    """Return the same of TRL's RLOO; the start of its trainer does not count."""
    score = reward_of(reward)

    def trial() -> Json:
        with tempfile.TemporaryDirectory() as out:
            settings = {"steps": steps, "batch": BATCH, "generations": GROUP, "length": LENGTH, "num_iterations": 2}
            log = rloo(folder, data, score, out, use_cpu=True, **settings)  # ty: ignore[invalid-argument-type]
        return {"work": steps * BATCH, "rows": len(log)}

    return {}, trial


def main(argv: list[str] | None = None) -> int:
    """Compare and write the result; 0 if the accuracies are within a point, or TRL is absent."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.parity_trl", description=about)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-llm-probes", help="folder of the runs")
    parser.add_argument("--part", choices=["reward", "policy"], default="reward")
    parser.add_argument("--steps", type=int, help="of training; 120 of a reward model, 60 of a policy")
    parser.add_argument("--seeds", type=int, help="2 of a reward model, 5 of a policy")
    parser.add_argument("--even", action="store_true", help="policies only from prompts of one length")
    args = parser.parse_args(argv)
    try:
        import trl  # ty: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        print(f"skipped: TRL is not installed ({error}); pip install 'llm-probes[trl]'")
        return 0
    torch.set_num_threads(1)
    folder = args.runs / "rlhf-cpu"
    origin = record(
        "benchmarks.llm_probes.parity_trl", sys.argv[1:] if argv is None else argv, ["torch", "transformers"]
    )
    if args.part == "policy":
        found = policies(folder, args.steps or 60, args.seeds or 5, args.even)
        for measure in ("reward", "gold"):
            low, high = found[f"{measure} difference"][1:]
            print(
                f"{measure}: RLOO here minus TRL's {found[f'{measure} difference'][0]:+.3f} [{low:+.3f}, {high:+.3f}]"
            )
        write_result(f"llm_probes_parity_trl-policy{'-even' * args.even}", {"record": origin, **found})
        return 0 if abs(found["gold difference"][0]) <= 1 else 1
    steps_of_reward, seeds = args.steps or 120, args.seeds or 2
    sft, data = folder / "sft-model", folder / "preferences-gold.jsonl"
    found: Json = {"ours": [], "trl": []}
    for seed in range(seeds):
        for name, train in (("ours", own_reward), ("trl", trl_reward)):
            start = time.process_time()
            found[name].append(train(sft, data, steps_of_reward, seed))
            print(
                f"{name}, seed {seed}: {found[name][-1]:.1f} % in {time.process_time() - start:.0f} CPU-s", flush=True
            )
    difference = float(np.mean(found["ours"]) - np.mean(found["trl"]))
    pairs = round(0.1 * len(read_rows(data, ("prompt",))))
    with tempfile.TemporaryDirectory() as scratch:
        prompts = write_rows(Path(scratch) / "p.jsonl", read_rows(folder / "prompts.jsonl", ("prompt",))[:200])
        steps = max(1, steps_of_reward // 20)
        contestants = [
            InProcess("llm-probes PPO", lambda: own_ppo(sft, folder / "reward-model", prompts, steps)),
            InProcess("trl RLOO", lambda: trl_rloo(sft, folder / "reward-model", prompts, steps)),
        ]
        comparison, _ = alternate(contestants, 3)
    ratio = comparison.ratio("llm-probes PPO", "trl RLOO", "cpu_s")
    print(f"reward models differ by {difference:+.1f} points on {pairs} held-out pairs; responses per CPU-s: {ratio}")
    result = {"record": origin, "accuracy": found, "difference": difference, "held_out": pairs, "speed": str(ratio)}
    write_result("llm_probes_parity_trl", result | {"trials": comparison.trials})
    return 0 if abs(difference) <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
