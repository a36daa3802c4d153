"""How good is learning from our own datasets? BC, 10 % BC, TD3+BC and IQL on six sets, as D4RL-normalised scores.

    python -m benchmarks.policy_finetune_offline --tier cpu --jobs 2

{HalfCheetah, Hopper, Walker2d}-v5 x {medium-expert, medium-replay}, made from the policies that come with the package
(200,000 steps each), 128x128 networks, three seeds as one program. Published D4RL rows stand next to ours; the data are
others: our experts are weaker than D4RL's, so scores compare by their order and with the dataset's own returns, not in
size.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, Json, record, table, write_result
from benchmarks.policy_finetune_data import command, describe
from paperloop.loop.metrics_file import read_metrics
from paperloop.settings import save_config
from paperloop_data import normalised_score
from paperloop_lab import stats
from policy_finetune.config import SCHEMA, LearnerConfig, OfflineConfig
from policy_finetune.presets import LEARNERS

TASKS = ("HalfCheetah", "Hopper", "Walker2d")
QUALITIES = ("medium-expert", "medium-replay")
#: D4RL v2, normalised: BC and 10 % BC as reprinted by SEABO (Lyu et al. 2024), TD3+BC and IQL by CORL.
PUBLISHED: dict[tuple[str, str], dict[str, float]] = {
    ("HalfCheetah", "medium-expert"): {"bc": 55.2, "bc10": 92.9, "td3bc": 90.78, "iql": 94.7},
    ("HalfCheetah", "medium-replay"): {"bc": 36.6, "bc10": 40.6, "td3bc": 44.84, "iql": 44.5},
    ("Hopper", "medium-expert"): {"bc": 52.5, "bc10": 110.9, "td3bc": 101.17, "iql": 107.4},
    ("Hopper", "medium-replay"): {"bc": 18.1, "bc10": 75.9, "td3bc": 64.42, "iql": 97.4},
    ("Walker2d", "medium-expert"): {"bc": 107.5, "bc10": 109.0, "td3bc": 110.03, "iql": 111.7},
    ("Walker2d", "medium-replay"): {"bc": 26.0, "bc10": 62.5, "td3bc": 85.62, "iql": 82.2},
}


@dataclasses.dataclass(frozen=True)
class Tier:
    """The size of a tier."""

    steps: int
    updates: int
    seeds: int
    hidden: tuple[int, ...]
    episodes: int
    tasks: tuple[str, ...] = TASKS


TIERS = {
    "smoke": Tier(2000, 100, 1, (8, 8), 1, ("Hopper",)),
    "cpu": Tier(200_000, 40_000, 3, (128, 128), 10),
    "gpu": Tier(1_000_000, 1_000_000, 10, (256, 256), 10),
}


def learners(tier: Tier) -> dict[str, tuple[LearnerConfig, float, bool]]:
    """Return arm -> (learner, share of the best episodes, whether rewards are scaled by the range of returns)."""

    def small(name: str) -> LearnerConfig:
        base = LEARNERS[name]
        return dataclasses.replace(base, network=dataclasses.replace(base.network, hidden=tier.hidden))

    iql = dataclasses.replace(small("iql"), actor_lr_steps=tier.updates)
    return {
        "bc": (small("bc"), 1.0, False),
        "bc10": (small("bc"), 0.1, False),
        "td3bc": (small("td3bc"), 1.0, False),
        "iql": (iql, 1.0, True),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_finetune_offline")
    parser.add_argument("--tier", choices=TIERS, default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="programs at once")
    parser.add_argument("--workers", type=int, default=2, help="processes that make data")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args(arguments)
    tier = TIERS[options.tier]
    out = options.out or ROOT / ".cache" / "bench" / "policy-finetune-offline" / options.tier
    (out / "data").mkdir(parents=True, exist_ok=True)
    rows: list[Json] = []
    files = []
    for task in tier.tasks:
        for quality in QUALITIES:
            file = out / "data" / f"{task.lower()}-{quality}.hdf5"
            files.append(file)
            if not file.exists():
                command("make-data", "--env-id", f"{task}-v5", "--quality", quality, "--steps", tier.steps, "--workers",
                        options.workers, "--out", file, "--quiet")  # fmt: skip
    _train(tier, out, options.jobs, options.device)
    known = describe(files)
    for task in tier.tasks:
        for quality in QUALITIES:
            about = known[f"{task.lower()}-{quality}"]
            for arm in learners(tier):
                last = [row for row in read_metrics(out / "runs" / f"{task}-{quality}-{arm}")
                        if row["split"] == "evaluation"][-1]  # fmt: skip
                scores = np.asarray(normalised_score(np.array(last["return"]), task.lower()))
                spread = stats.stratified_bootstrap(scores, stats.mean) if len(scores) > 1 else None
                rows.append({
                    "task": task, "quality": quality, "arm": arm, "scores": scores.tolist(),
                    "mean": float(scores.mean()),
                    "low": float(spread.low) if spread else None, "high": float(spread.high) if spread else None,
                    "data_mean": float(np.asarray(normalised_score(about["mean"], task.lower()))),
                    "data_best": float(np.asarray(normalised_score(about["best"], task.lower()))),
                    "published_d4rl": PUBLISHED[task, quality][arm],
                })  # fmt: skip
    shown = [[f"{r['task']} {r['quality']} {r['arm']}", f"{r['mean']:.1f}",
              f"[{r['low']:.1f}, {r['high']:.1f}]" if r["low"] is not None else "", f"{r['data_mean']:.1f}",
              f"{r['data_best']:.1f}", f"{r['published_d4rl']:.1f}"] for r in rows]  # fmt: skip
    print(table(shown, ["arm", "ours", "95 %", "data mean", "data best", "D4RL v2, published"]))
    if options.tier != "smoke" and not options.no_record:
        given = sys.argv[1:] if arguments is None else list(arguments)
        origin = record("benchmarks.policy_finetune_offline", given, ["policy-finetune"])
        name = f"policy_finetune_offline-{options.tier}"
        write_result(
            name, {"benchmark": name, **origin, "tier": dataclasses.asdict(tier), "datasets": known, "rows": rows}
        )
    return 0


def _train(tier: Tier, out: Path, jobs: int, device: str) -> None:
    """Run what is missing, `jobs` programs at once."""
    from concurrent.futures import ThreadPoolExecutor

    def one(task: str, quality: str, arm: str) -> None:
        learner, top, normalise = learners(tier)[arm]
        config = OfflineConfig(
            learner=learner, data=(str(out / "data" / f"{task.lower()}-{quality}.hdf5"),), env_id=f"{task}-v5",
            updates=tier.updates, updates_per_step=min(1000, tier.updates), seeds=tier.seeds, top_fraction=top,
            normalize_rewards=normalise, eval_episodes=tier.episodes,
        )  # fmt: skip
        folder = out / "runs" / f"{task}-{quality}-{arm}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        path = out / "runs" / f"{task}-{quality}-{arm}.config.json"
        save_config(config, path, SCHEMA)
        command("pretrain", "--config", path, "--out", folder, "--device", device, "--quiet", "--eval-every",
                max(1, config.num_steps // 4))  # fmt: skip

    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(one, task, quality, arm)
                   for task in tier.tasks for quality in QUALITIES for arm in learners(tier)]  # fmt: skip
        for future in waiting:
            future.result()


if __name__ == "__main__":
    sys.exit(main())
