"""Do reward models and responses per second agree with TRL's? The same start, data and settings in one process.

    python -m benchmarks.llm_probes.parity_trl            # minutes; needs `pip install 'llm-probes[trl]'`

Reward model: TRL's RewardTrainer and ours from one SFT model on one file of preferences; accuracy on the same held-out
pairs. Speed: responses per second of PPO here (policy, value, reward model, two epochs) and of TRL's RLOOTrainer (two
iterations, the same reward model as a callable), in turn. The SFT model is the one of `benchmarks.llm_probes.rlhf`,
which must have been run. Where TRL is absent the result says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import ROOT, InProcess, Json, alternate, record, write_result
from llm_probes.config import PPO, Reward, TrainConfig
from llm_probes.rlhf.data import encode_responses, read_rows, write_rows
from llm_probes.rlhf.model import reward_scores
from llm_probes.rlhf.with_trl import PLAIN, rloo
from llm_probes.trainer import load_reward_model, make_trainer

__all__ = ["main"]

LENGTH, PROMPT, BATCH = 16, 32, 32


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
    model, head, tokenizer = load_reward_model(reward)

    @torch.no_grad()
    def score(prompts: list[str], texts: list[str]) -> list[float]:
        encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        return reward_scores(
            model, head, encode_responses(tokenizer, encoded, texts, length=LENGTH, end=0, pad=1)
        ).tolist()

    def trial() -> Json:
        with tempfile.TemporaryDirectory() as out:
            settings = {"steps": steps, "batch": BATCH, "generations": 4, "length": LENGTH, "num_iterations": 2}
            log = rloo(folder, data, score, out, use_cpu=True, **settings)  # ty: ignore[invalid-argument-type]
        return {"work": steps * BATCH, "rows": len(log)}

    return {}, trial


def main(argv: list[str] | None = None) -> int:
    """Compare and write the result; 0 if the accuracies are within a point, or TRL is absent."""
    about = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm_probes.parity_trl", description=about)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "bench-llm-probes", help="folder of the runs")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args(argv)
    try:
        import trl  # ty: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        print(f"skipped: TRL is not installed ({error}); pip install 'llm-probes[trl]'")
        return 0
    torch.set_num_threads(1)
    folder = args.runs / "rlhf-cpu"
    sft, data = folder / "sft-model", folder / "preferences-gold.jsonl"
    found: Json = {"ours": [], "trl": []}
    for seed in range(args.seeds):
        for name, train in (("ours", own_reward), ("trl", trl_reward)):
            start = time.process_time()
            found[name].append(train(sft, data, args.steps, seed))
            print(
                f"{name}, seed {seed}: {found[name][-1]:.1f} % in {time.process_time() - start:.0f} CPU-s", flush=True
            )
    difference = float(np.mean(found["ours"]) - np.mean(found["trl"]))
    pairs = round(0.1 * len(read_rows(data, ("prompt",))))
    with tempfile.TemporaryDirectory() as scratch:
        prompts = write_rows(Path(scratch) / "p.jsonl", read_rows(folder / "prompts.jsonl", ("prompt",))[:200])
        steps = max(1, args.steps // 20)
        contestants = [
            InProcess("llm-probes PPO", lambda: own_ppo(sft, folder / "reward-model", prompts, steps)),
            InProcess("trl RLOO", lambda: trl_rloo(sft, folder / "reward-model", prompts, steps)),
        ]
        comparison, _ = alternate(contestants, 3)
    ratio = comparison.ratio("llm-probes PPO", "trl RLOO", "cpu_s")
    print(f"reward models differ by {difference:+.1f} points on {pairs} held-out pairs; responses per CPU-s: {ratio}")
    origin = record(
        "benchmarks.llm_probes.parity_trl", sys.argv[1:] if argv is None else argv, ["torch", "transformers"]
    )
    result = {"record": origin, "accuracy": found, "difference": difference, "held_out": pairs, "speed": str(ratio)}
    write_result("llm_probes_parity_trl", result | {"trials": comparison.trials})
    return 0 if abs(difference) <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
